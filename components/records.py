"""The records that steps hand to each other: frozen, JSON-able, passed by value; data travels by URI.

A field marked `INCIDENTAL` says where, when or how fast something came to be, not what it is: run ids, paths, times,
latencies. It is left out of a record's digest, so that the same work has the same digest in every store, on every
engine and on every machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, TypeAlias

from pydantic import BaseModel, ConfigDict, JsonValue

from components.answers import Task
from components.serve_settings import UNSET, Triton

Scalar: TypeAlias = str | int | float | bool | None


class _Incidental:
    """The type of `INCIDENTAL`."""


INCIDENTAL: Final = _Incidental()
"""`Annotated[T, INCIDENTAL]` marks a field that does not belong to what a record is."""

Place: TypeAlias = Annotated[str, INCIDENTAL]
"""An id, a path or a URL: where a thing is, which differs from store to store."""

Seconds: TypeAlias = Annotated[float, INCIDENTAL]
Milliseconds: TypeAlias = Annotated[float, INCIDENTAL]
Moment: TypeAlias = Annotated[str, INCIDENTAL]
"""A time in UTC, ISO 8601."""


class Record(BaseModel):
    """What a step returns: frozen, and equal to itself after a trip through JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class Artifact(Record):
    """A file that a step wrote, in the profile's artifact store.

    `path` is relative to that store's root (`<ledger key>/<name>`); `size` is in bytes.
    """

    path: Place
    sha256: str
    size: int


class FileStamp(Record):
    """A source file as the outside world shows it: enough to see that it changed, without reading it.

    `stamp` is the best that the file system offers: an ETag, a version, or the time of the last change. `sha256` is of
    the bytes that were read; it is empty until they are.
    """

    url: str
    size: int
    stamp: str
    sha256: str = ""


class Observation(Record):
    """The files that each table of a project is read from, as they are right now."""

    tables: dict[str, tuple[FileStamp, ...]]


class Commit(Record):
    """An immutable state of the data store. `tree` is the digest of its paths and their contents (SHA-256)."""

    id: Place
    branch: Place
    tree: str
    tables: dict[str, int]
    """Rows in each table."""


class Published(Commit):
    """A commit whose data `main` holds for `project`; one that it holds no longer has to be published again."""

    project: str


class ExpectationResult(Record):
    """One expectation on one table: its arguments in words, what was observed, and the author's notes on it."""

    table: str
    expectation: str
    column: str | None
    severity: str
    success: bool
    unexpected: int
    expected: str = ""
    observed: str
    notes: str = ""


class Validation(Record):
    """The verdict on one commit: every critical expectation held, or the step would have raised."""

    tree: str
    results: tuple[ExpectationResult, ...]
    report: Annotated[Artifact, INCIDENTAL]
    """Great Expectations' own result, JSON (it carries run times, hence incidental)."""
    docs: Annotated[Artifact, INCIDENTAL]
    """The Data Docs page, HTML."""
    offending: Artifact | None
    """Rows that broke an expectation of severity `warning`, with its name, Parquet."""


SUMMARY: Final = {
    "binary": "share of positives",
    "multiclass": "share of the largest class",
    "regression": "mean",
}
"""Task -> what `Split.summary` is."""


class Split(Record):
    """One of train, valid, test: a Parquet file, its rows, and what is to be predicted there."""

    file: Artifact
    rows: int
    positives: float | None = None
    """Of a binary task: the share of 1 (0..1)."""
    classes: dict[str, int] = {}
    """Of a multiclass task: class -> rows."""
    mean: float | None = None
    """Of a regression: the target's mean."""

    @property
    def summary(self) -> float:
        """The target in one number; `SUMMARY` says which."""
        if self.classes:
            return max(self.classes.values()) / self.rows
        return (self.positives if self.mean is None else self.mean) or 0.0


class Prepared(Record):
    """Model-ready data. `features` maps each input column to its type: `string`, `double`, `bigint`, `double[N]`."""

    tree: str
    commit: Place
    row: str
    """The column that names an example."""
    target: str
    features: dict[str, str]
    train: Split
    valid: Split
    test: Split
    reference: Artifact
    """Reference profile of the training rows for drift: JSON, one histogram a column."""
    task: Task = "binary"
    classes: tuple[int | str, ...] = (0, 1)
    """What the target may be, in the order of the answer's probabilities; none in a regression."""


class Parameters(Record):
    """One point of the search space."""

    values: dict[str, Scalar]


class Graphs(Record):
    """A model as three ONNX graphs: raw inputs -> features -> scores -> answer."""

    pre: Artifact
    model: Artifact
    post: Artifact


class Trial(Record):
    """One execution of the project's notebook with one parameter set."""

    parameters: Parameters
    metrics: dict[str, float]
    """Measured on the valid split."""
    graphs: Graphs
    predictions: Artifact
    """The framework's own answers on the test split: Parquet with `row`, `target` and the task's answer."""
    run_id: Place
    """MLflow's run."""
    notebook: Annotated[Artifact, INCIDENTAL]
    page: Annotated[Artifact, INCIDENTAL]
    """The executed notebook as ipynb and as HTML."""
    plots: Annotated[tuple[Artifact, ...], INCIDENTAL]
    seconds: Seconds


class Candidate(Record):
    """The best trial of a search; `trials` are all of them in the order of the search."""

    trial: Trial
    metric: str
    value: float
    trials: tuple[tuple[Parameters, float], ...]
    run_id: Place
    """MLflow's parent run, which holds the trials as child runs."""


class Champion(Record):
    """The release that a candidate has to beat; `release` is 0, and `graphs` None, where there is none yet."""

    release: Annotated[int, INCIDENTAL]
    digest: str
    graphs: Graphs | None


class Slice(Record):
    """The metric on the held-out rows where `column` equals `value`."""

    column: str
    value: str
    rows: int
    metric: float


class Decision(Record):
    """Whether the candidate may serve, and why. It is a gate: `with do.when(decision)`."""

    passed: bool
    reasons: tuple[str, ...]
    metrics: dict[str, float]
    """The candidate on the test split."""
    baselines: dict[str, dict[str, float]]
    """The same metrics for each baseline: `majority`, `logistic`, and `champion` where one serves."""
    difference: tuple[float, float, float] | None
    """Candidate minus champion in the project's metric: lower bound, estimate, upper bound (bootstrap)."""
    slices: tuple[Slice, ...]
    plots: Annotated[tuple[Artifact, ...], INCIDENTAL]


class ModelVersion(Record):
    """A version in the model registry; `digest` is that of the three graphs."""

    name: str
    version: Place
    digest: str
    run_id: Place


class Bundle(Record):
    """What Triton loads: a model repository plus golden requests and their expected answers.

    `digest` names the content; `model` is the ensemble's name, which carries the digest, so that two bundles never mix.
    """

    model: str
    digest: str
    target: str
    """`auto`: ONNX Runtime inside the Python backend; `full`: Triton's ONNX Runtime backend."""
    files: dict[str, Artifact]
    """Path inside the model repository -> file."""
    golden: Artifact
    """Golden requests and the notebook's own answers: Parquet, the inputs and the task's answer."""
    example: dict[str, Scalar | tuple[float | None, ...]]
    """A golden request to try the bundle with: every input, None where it is missing."""
    task: Task = "binary"
    triton: Triton = UNSET
    """Triton's own settings that it was made with."""


class Qualification(Record):
    """A bundle that a real Triton loaded and answered the golden requests with."""

    digest: str
    rows: int
    tolerance: float
    difference: float
    """Largest absolute difference from the notebook's own answers."""
    budget_ms: float
    p50_ms: Milliseconds
    p99_ms: Milliseconds
    server: Place


class OnlineTable(Record):
    """Features that are known by entity: what completes a request that names one."""

    entity: dict[str, str]
    """The columns that name an entity -> `string` or `bigint`."""
    columns: tuple[str, ...]
    """Inputs of the model that a request may leave out."""
    rows: int
    """Entities."""
    file: Artifact
    """Parquet: the columns of both kinds, one row an entity."""

    @property
    def digest(self) -> str:
        """What the table is called in the store of features."""
        return self.file.sha256


class Release(Record):
    """What the manifest makes visible together. `number` counts a project's releases from 1."""

    project: str
    number: Annotated[int, INCIDENTAL]
    digest: str
    """Of everything below that is not incidental."""
    commit: Commit
    validation: Validation
    prepared: Prepared
    candidate: Candidate
    decision: Decision
    version: ModelVersion
    bundle: Bundle
    qualification: Qualification
    online: OnlineTable | None = None
    """Features that are known by entity, where the project says so."""
    key: Place
    """The ledger key of the step that made it: one key, one release. The ledger's entry names the run."""
    revision: Place
    """The project's Git revision, `-dirty` appended where the checkout had changes."""
    created: Moment
    restores: Annotated[int | None, INCIDENTAL] = None
    """For a rollback: the number of the release that it brings back."""
    rollout: Annotated[int | None, INCIDENTAL] = None
    """The roll-out whose candidate it is; it serves once that is promoted."""


class Skipped(Record):
    """The record of a node whose guard did not pass, or that needs one which was skipped."""

    skipped: str
    """Why, in words."""


def identity(value: object) -> JsonValue:
    """The JSON of `value` without what is incidental: what a digest is taken of."""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        return {
            name: identity(getattr(value, name)) for name, field in fields.items() if INCIDENTAL not in field.metadata
        }
    if isinstance(value, Mapping):
        return {str(name): identity(item) for name, item in value.items()}
    if isinstance(value, str | int | float | bool | None):
        return value
    if isinstance(value, Sequence):
        return [identity(item) for item in value]
    raise TypeError(f"{type(value).__name__} is not JSON-able: steps take and return records, scalars, lists and dicts")


def digest(value: object) -> str:
    """SHA-256 of the canonical JSON of `identity(value)`, in hexadecimal."""
    text = json.dumps(identity(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def parts(value: object) -> Iterator[Record]:
    """Every record inside `value`, itself included, incidental ones too."""
    if isinstance(value, Record):
        yield value
        for name in type(value).model_fields:
            yield from parts(getattr(value, name))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from parts(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from parts(item)


def to_json(value: object) -> Any:
    """`value` as plain JSON types, incidental fields included."""
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value, inf_nan_mode="strings")
