"""What a user writes under `config/`: projects and profiles, typed and checked on load."""

from __future__ import annotations

import hashlib
import os
import re
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from components import strict_yaml
from components.errors import ConfigError, NotFoundError
from components.records import INCIDENTAL, Scalar

NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")


def _name(value: str) -> str:
    if not NAME.fullmatch(value):
        raise ValueError("a name: a lower-case letter, then up to 62 of a-z, 0-9, '-' and '_'")
    return value


Name = Annotated[str, AfterValidator(_name)]
"""Names of projects, profiles, tables, models: safe in paths, URLs, SQL identifiers and branch names."""


class Settings(BaseModel):
    """A section of a YAML file: frozen, and no key that nobody reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# --- projects ---------------------------------------------------------------------------------------------------------


class Table(Settings):
    """Where one table comes from.

    `path` is a file, a glob, any fsspec URL (`s3://...`, `zip://inner.csv::file:///outer.zip`), or `package://NAME/FILE`
    for a file inside an installed package. Relative paths start at the repository's root.
    """

    path: str
    format: Literal["csv", "jsonl", "parquet"] | None = None
    """Default: from the file's name."""
    columns: dict[str, str] = {}
    """Column -> DuckDB type, for columns whose type must not be guessed."""
    null: str = ""
    """The text that stands for a missing value in CSV, beside an empty field."""
    partition: str | None = None
    """A column with few distinct values: one Parquet file for each."""


class TimeSplit(Settings):
    """Rows before `valid_from` train, rows from `test_from` on test (ISO 8601, compared with `column`)."""

    by: Literal["time"]
    column: str
    valid_from: str
    test_from: str


class RandomSplit(Settings):
    """Shares of the rows, drawn by a hash of `key` and the seed, so that a row keeps its side when rows are added."""

    by: Literal["random"]
    key: str
    valid: float = Field(gt=0, lt=1)
    test: float = Field(gt=0, lt=1)

    @model_validator(mode="after")
    def _leaves_some(self) -> RandomSplit:
        if self.valid + self.test >= 1:
            raise ValueError("valid + test below 1, so that rows are left to train on")
        return self


class Features(Settings):
    """`features.sql` yields one row an example: its unique key, the target (0 or 1), the split's column, inputs."""

    sql: str
    row: str
    target: str
    exclude: tuple[str, ...] = ()
    """Columns that are kept (for slices, say) and not fed to the model."""


class Choice(Settings):
    """A parameter of the search that takes one of `values`."""

    values: tuple[Scalar, ...] = Field(min_length=1)


class Range(Settings):
    """A number between `low` and `high`, both included; `log` draws its logarithm evenly."""

    low: float
    high: float
    log: bool = False
    integer: bool = False

    @model_validator(mode="after")
    def _is_a_range(self) -> Range:
        if self.low >= self.high or (self.log and self.low <= 0):
            raise ValueError("low < high, and low > 0 with log")
        return self


class Search(Settings):
    """How parameter sets are found. A grid takes every combination of every space; the others draw `trials` of them."""

    method: Literal["grid", "random", "optuna"] = "grid"
    spaces: tuple[dict[str, Choice | Range], ...] = Field(min_length=1)
    """One space a model family, say: each is searched by itself, a trial draws from one of them."""
    trials: PositiveInt | None = Field(default=None, le=1000)
    parallel: PositiveInt = Field(default=2, le=64)
    """Trials side by side; `optuna` learns from the trials before each such wave."""
    timeout: PositiveFloat = 600.0
    """Seconds for one trial."""
    memory_mb: PositiveInt = 4096
    """Memory that one trial may take beyond the libraries that all trials share, MiB."""

    @model_validator(mode="after")
    def _is_finite(self) -> Search:
        if self.method == "grid":
            if self.trials is not None:
                raise ValueError("no `trials` with method grid: it takes every combination")
            if any(isinstance(axis, Range) for space in self.spaces for axis in space.values()):
                raise ValueError("`values` only with method grid: a range has no end of points")
        elif self.trials is None:
            raise ValueError(f"`trials` with method {self.method}")
        return self


class Evaluate(Settings):
    """When a candidate may serve. Metrics: `auc`, `accuracy`, `average_precision`, `log_loss`, `brier`."""

    metric: Literal["auc", "accuracy", "average_precision", "log_loss", "brier"] = "auc"
    thresholds: dict[str, float] = {}
    """Metric -> the worst value accepted on the test split."""
    slices: tuple[str, ...] = ()
    slice_floor: float | None = None
    """The worst value of `metric` accepted in any slice of at least 500 rows."""
    resamples: PositiveInt = 200
    """Bootstrap resamples for the interval of candidate minus champion."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    loss: float = Field(default=0.0, ge=0)
    """How much worse than the champion the interval's lower bound may be."""


class Serve(Settings):
    """What the bundle must hold on a real server."""

    target: Literal["auto", "full"] = "auto"
    golden: PositiveInt = Field(default=256, le=10_000)
    """Golden requests, drawn from the test split."""
    tolerance: PositiveFloat = 1e-5
    """Largest absolute difference of a probability from the notebook's own."""
    p99_ms: PositiveFloat = 50.0
    """Budget for one-row requests, milliseconds."""


class Policy(Settings):
    """How a step is run, as data; what an engine cannot honour it refuses before anything runs."""

    retries: int = Field(default=0, ge=0, le=10)
    retry_delay: float = Field(default=1.0, ge=0)
    timeout: PositiveFloat | None = None
    """Seconds."""
    cpu: PositiveFloat | None = None
    memory_mb: PositiveInt | None = None
    gpu: int = Field(default=0, ge=0)
    cache: bool = True
    """False: the step looks at the outside world and runs every time."""


class ProjectFile(Settings):
    """`config/projects/NAME/project.yaml`."""

    title: str
    description: str = ""
    sources: dict[Name, Table] = Field(min_length=1)
    row: str
    """The column that names an example."""
    target: str
    """The column to predict, 0 or 1."""
    exclude: tuple[str, ...] = ()
    split: Annotated[TimeSplit | RandomSplit, Field(discriminator="by")]
    notebook: str
    search: Search
    evaluate: Evaluate = Evaluate()
    serve: Serve = Serve()
    policy: dict[Name, Policy] = {}
    """Step -> policy, in place of the DAG's own."""
    seed: int = 0


class Expectation(Settings):
    """One expectation: Great Expectations' own name and arguments; a `warning` is reported and stops nothing."""

    type: str
    kwargs: dict[str, JsonValue] = {}
    severity: Literal["critical", "warning"] = "critical"
    notes: str = ""


class ExpectationsFile(Settings):
    """`config/projects/NAME/expectations.yaml`: table -> its expectations."""

    tables: dict[Name, tuple[Expectation, ...]]


class Notebook(Settings):
    """The project's notebook: where it is, and the digest of its code cells."""

    path: Annotated[str, INCIDENTAL]
    code: str


class Project(Settings):
    """A project as the DAG gets it: every section by value, so that a step's key holds just what the step sees."""

    name: Name
    file: ProjectFile
    features: Features
    expectations: dict[str, tuple[Expectation, ...]]
    notebook: Notebook


# --- profiles ---------------------------------------------------------------------------------------------------------


class GitStore(Settings):
    """The embedded data store."""

    kind: Literal["git"] = "git"
    path: str


class LakeFSStore(Settings):
    """A lakeFS server; its credentials are read from the environment variables named here, never from the file."""

    kind: Literal["lakefs"]
    url: str
    repository: Name
    namespace: str
    """Storage namespace, used when the repository has to be made: `s3://bucket/prefix`, `local://...`."""
    access_key_env: str = "LAKECTL_CREDENTIALS_ACCESS_KEY_ID"
    secret_key_env: str = "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY"  # noqa: S105  # the name of a variable, not a secret


class Service(Settings):
    """One background service. `port` 0 takes a free one; `url` names one that runs elsewhere."""

    port: int = Field(default=0, ge=0, le=65535)
    url: str | None = None


class TritonService(Service):
    """`port` is the gRPC endpoint's; `url` is `host:port`."""

    repository: str | None = None
    """Where the server at `url` reads its models from: a folder or fsspec URL (`s3://...`) that both sides see."""

    @model_validator(mode="after")
    def _is_reachable(self) -> TritonService:
        if (self.url is None) != (self.repository is None):
            raise ValueError("`url` and `repository` together, or neither")
        return self


class Services(Settings):
    """The services that `trilha up` starts on loopback, or that run elsewhere."""

    prefect: Service = Service()
    mlflow: Service = Service()
    tensorboard: Service = Service()
    triton: TritonService = TritonService()


class Profile(Settings):
    """`config/profiles/NAME.yaml`: where a project runs."""

    state: str
    """fsspec URL, or a folder below the repository's root: ledger, runs, artifacts and what services keep."""
    store: Annotated[GitStore | LakeFSStore, Field(discriminator="kind")]
    engine: Literal["local", "prefect"] = "prefect"
    workers: PositiveInt = 2
    """Nodes that run side by side."""
    sql: str = "duckdb://"
    """Ibis' URL of the engine that runs `features.sql`."""
    services: Services = Services()


# --- loading ----------------------------------------------------------------------------------------------------------


@cache
def root() -> Path:
    """The repository: `TRILHA_ROOT`, or the nearest folder upwards that has `config/projects`.

    Raises:
        ConfigError: there is none.
    """
    given = os.environ.get("TRILHA_ROOT")
    start = Path(given) if given else Path.cwd()
    for folder in [start.resolve()] if given else [start.resolve(), *start.resolve().parents]:
        if (folder / "config" / "projects").is_dir():
            return folder
    raise ConfigError(
        f"no config/projects in {start} or above",
        accepted="a Trilha repository",
        next_step="change to one, or set TRILHA_ROOT",
    )


def check_name(value: str, what: str) -> str:
    """`value`, if it is an allowed name.

    Raises:
        ConfigError: it is not.
    """
    try:
        return _name(value)
    except ValueError as error:
        raise ConfigError(f"{what} {value!r}", accepted=str(error)) from None


def load_project(name: str) -> Project:
    """Read `config/projects/NAME/`: `project.yaml`, `features.sql`, `expectations.yaml`, and its notebook's code.

    Raises:
        ConfigError: the name, a key or a value is not accepted.
        NotFoundError: the project or one of its files does not exist.
    """
    folder = root() / "config" / "projects" / check_name(name, "project")
    if not folder.is_dir():
        known = sorted(path.parent.name for path in folder.parent.glob("*/project.yaml"))
        raise NotFoundError(
            f"no project {name!r}", accepted=", ".join(known) or "none yet", next_step=f"create {folder}/project.yaml"
        )
    file = strict_yaml.load(folder / "project.yaml", ProjectFile)
    expectations = strict_yaml.load(folder / "expectations.yaml", ExpectationsFile).tables
    unknown = sorted(set(expectations) - set(file.sources))
    if unknown:
        raise ConfigError(
            f"{folder / 'expectations.yaml'}: no table {unknown[0]!r} in project.yaml",
            accepted=", ".join(sorted(file.sources)),
        )
    sql = folder / "features.sql"
    if not sql.is_file():
        raise NotFoundError(f"no {sql}", next_step="write the query that yields one row an example")
    features = Features(sql=sql.read_text(), row=file.row, target=file.target, exclude=file.exclude)
    return Project(
        name=name, file=file, features=features, expectations=expectations, notebook=_notebook(folder, file.notebook)
    )


def _notebook(folder: Path, name: str) -> Notebook:
    path = (root() / name).resolve()
    if not path.is_relative_to(root()):
        raise ConfigError(f"{folder / 'project.yaml'}: notebook {name!r}", accepted="a path inside the repository")
    if not path.is_file():
        raise NotFoundError(
            f"no notebook {path}", next_step=f"create it, or correct `notebook` in {folder}/project.yaml"
        )
    return Notebook(path=name, code=_code_digest(path))


def _code_digest(path: Path) -> str:
    """Digest of a notebook's code cells: prose and stored outputs do not change what it does."""
    import json

    try:
        cells = json.loads(path.read_bytes())["cells"]
        code = [
            ["".join(cell["source"]), cell["metadata"].get("tags", [])] for cell in cells if cell["cell_type"] == "code"
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: not a notebook ({error})", accepted="Jupyter's format, version 4") from error
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()


def load_profile(name: str) -> Profile:
    """Read `config/profiles/NAME.yaml`.

    Raises:
        ConfigError: the name, a key or a value is not accepted.
        NotFoundError: there is no such profile.
    """
    path = root() / "config" / "profiles" / f"{check_name(name, 'profile')}.yaml"
    if not path.is_file():
        known = sorted(found.stem for found in path.parent.glob("*.yaml"))
        raise NotFoundError(f"no profile {name!r}", accepted=", ".join(known), next_step=f"create {path}")
    return strict_yaml.load(path, Profile)


def project_names() -> list[str]:
    """The projects of this repository, sorted."""
    return sorted(path.parent.name for path in (root() / "config" / "projects").glob("*/project.yaml"))
