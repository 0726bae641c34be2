"""What a user brings: `config/projects/NAME/`, typed and checked on load."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Field,
    JsonValue,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from components.adapters.store_rules import MAIN, check_new_ref
from components.answers import Task, answer_names
from components.edge_settings import Edge
from components.errors import ConfigError
from components.metrics import METRICS
from components.online_settings import DEFAULTS, Online
from components.partition_settings import By, check
from components.records import INCIDENTAL
from components.rollout_settings import RolloutRules
from components.schedule import Schedule
from components.scoring_settings import Scoring
from components.search_settings import Search
from components.selection_settings import Selection
from components.serve_settings import UNSET, Triton
from components.settings import Name, Settings
from components.sink_settings import FeatureTables
from components.source_settings import AnyTable

OWN = ("dead/", "ingest/", "refused/", "stream/")
"""How the names of branches begin that Trilha writes."""


def _watchable(value: str) -> str:
    """`value`, if a branch that others write may be called so; a ValueError says what may."""
    try:
        check_new_ref(value, "branch")
    except ConfigError as error:
        raise ValueError(error.accepted) from None
    if value in {MAIN, "predictions", "releases", "scores"} or value.startswith(OWN):
        raise ValueError("a branch that others write; main, releases, predictions, scores, ingest/... are Trilha's own")
    return value


Branch = Annotated[str, AfterValidator(_watchable)]
"""A branch that others write."""


def _a_moment(value: str) -> str:
    """`value`, if it is a date or a time; a ValueError says what is one."""
    try:
        datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("a date or a time in ISO 8601, such as 2013-10-01") from None
    return value


Moment = Annotated[str, AfterValidator(_a_moment)]
"""A date or a time, ISO 8601; without an offset it is in UTC."""


class TimeSplit(Settings):
    """Rows before `valid_from` train, rows from `test_from` on test (compared with `column`)."""

    by: Literal["time"]
    column: str
    valid_from: Moment
    test_from: Moment

    @model_validator(mode="after")
    def _is_in_order(self) -> TimeSplit:
        valid, test = (datetime.fromisoformat(text) for text in (self.valid_from, self.test_from))
        if valid.replace(tzinfo=valid.tzinfo or UTC) >= test.replace(tzinfo=test.tzinfo or UTC):
            raise ValueError("`valid_from` before `test_from`")
        return self


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
    """`features.sql` yields one row an example: its unique key, the target, the split's column, inputs."""

    sql: str
    row: str
    target: str
    task: Task = "binary"
    exclude: tuple[str, ...] = ()
    """Columns that are kept (for slices, say) and not fed to the model."""
    slices: tuple[str, ...] = ()
    """Columns to weigh the candidate by, where nothing but the query's result says whether they are there."""


Metric = Literal[
    "auc", "accuracy", "average_precision", "balanced_accuracy", "brier", "log_loss", "macro_f1", "mae", "r2", "rmse"
]


class Evaluate(Settings):
    """When a candidate may serve. Its metrics are those of the project's task.

    binary: `auc`, `accuracy`, `average_precision`, `log_loss`, `brier`; multiclass: `accuracy`, `balanced_accuracy`,
    `macro_f1`, `log_loss`; regression: `rmse`, `mae`, `r2`.
    """

    metric: Metric = "auc"
    thresholds: dict[Metric, float] = {}
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
    join: Literal["ensemble", "fused"] = "ensemble"
    """Pre-processing, model and post-processing as three models of one ensemble, or fused into one graph, which saves a
    small model most of its time; `qualify` holds both to the same answers."""
    golden: PositiveInt = Field(default=256, le=10_000)
    """Golden requests, drawn from the test split."""
    tolerance: PositiveFloat = 1e-5
    """Largest absolute difference of a probability from the notebook's own; of a value above 1, its share."""
    p99_ms: PositiveFloat = 50.0
    """Budget for one-row requests, milliseconds."""
    triton: Triton = UNSET
    """Triton's own settings; `trilha tune` finds some of them."""


class Toleration(Settings):
    """A taint of a Kubernetes node that a step may run beside, in Kubernetes' own words."""

    key: str | None = None
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str | None = None
    effect: Literal["NoExecute", "NoSchedule", "PreferNoSchedule"] | None = None

    @model_validator(mode="after")
    def _says_what(self) -> Toleration:
        if self.operator == "Equal" and (self.key is None or self.value is None):
            raise ValueError("`key` and `value` with operator Equal")
        if self.operator == "Exists" and self.value is not None:
            raise ValueError("no `value` with operator Exists")
        return self


class Policy(Settings):
    """How a step is run, as data; what an engine cannot honour it refuses before anything runs."""

    retries: int = Field(default=0, ge=0, le=10)
    retry_delay: float = Field(default=1.0, ge=0)
    timeout: PositiveFloat | None = None
    """Seconds."""
    cpu: PositiveFloat | None = None
    memory_mb: PositiveInt | None = None
    gpu: int = Field(default=0, ge=0)
    node_selector: dict[str, str] = {}
    """Labels that the Kubernetes node has to have."""
    tolerations: tuple[Toleration, ...] = ()
    """Taints of Kubernetes nodes that the step may run beside."""
    cache: bool = True
    """False: the step looks at the outside world and runs every time."""


class ProjectFile(Settings):
    """`config/projects/NAME/project.yaml`."""

    title: str
    description: str = ""
    sources: dict[Name, AnyTable] = Field(min_length=1)
    partition: By | None = None
    """Tables with {year}, {month}, ... in `path`, or :start and :end in `query`, come so, by `trilha backfill`."""
    watch: Branch | None = None
    """A branch of the data store whose commits start the lifecycle: they hold the tables, in place of `sources`."""
    schedule: Schedule | None = None
    row: str
    """The column that names an example."""
    target: str
    """The column to predict."""
    task: Task = "binary"
    """What the target is: 0 or 1; one of several whole numbers or texts; a number."""
    exclude: tuple[str, ...] = ()
    features: FeatureTables = FeatureTables()
    split: Annotated[TimeSplit | RandomSplit, Field(discriminator="by")]
    notebook: str
    modules: tuple[str, ...] = ()
    """Python files beside the notebook that it imports: classes of the project's own, see components/python_part.py."""
    search: Search
    evaluate: Evaluate = Evaluate()
    serve: Serve = Serve()
    online: Online = Online()
    rollout: RolloutRules | None = None
    """How a new release takes over; none: at once."""
    selection: Selection | None = None
    """Several releases that answer side by side; none: the one that serves."""
    edge: Edge = Edge()
    scoring: Scoring | None = None
    """How `trilha score` answers for many rows at once; with it the DAG is deployed beside the lifecycle."""
    policy: dict[Name, Policy] = {}
    """Step -> policy, in place of the DAG's own."""
    placement: dict[Name, Name] = {}
    """Step -> the pool that it is to run on. A profile without that pool runs the step like any other."""
    seed: int = 0

    @model_validator(mode="after")
    def _comes_by_partitions(self) -> ProjectFile:
        check(self.partition, self.sources)
        return self

    @model_validator(mode="after")
    def _measures_its_task(self) -> ProjectFile:
        known = METRICS[self.task]
        for name in (self.evaluate.metric, *self.evaluate.thresholds):
            if name not in known:
                raise ValueError(f"{', '.join(known)} as metrics of task {self.task}, not {name}")
        return self

    @model_validator(mode="after")
    def _has_one_way(self) -> ProjectFile:
        if self.rollout is not None and self.selection is not None:
            raise ValueError("one of `rollout` and `selection`: both say who answers")
        if (self.rollout or self.selection) and self.serve.triton.sequence_batching:
            raise ValueError("no `rollout` and no `selection` with sequences: one stays with the release it began with")
        return self

    @model_validator(mode="after")
    def _has_its_task_s_default(self) -> ProjectFile:
        default = self.online.default
        if default is not None and not isinstance(default, DEFAULTS[self.task]):
            names, given = ", ".join(answer_names(self.task)), ", ".join(default.model_dump())
            raise ValueError(f"{names} as online.default of task {self.task}, not {given}")
        return self


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
    """The project's notebook: where it is, the digest of its code cells, and the modules beside it that it imports."""

    path: Annotated[str, INCIDENTAL]
    code: str
    modules: dict[str, str] = {}
    """Path -> SHA-256."""


class Project(Settings):
    """A project as the DAG gets it: every section by value, so that a step's key holds just what the step sees."""

    name: Name
    file: ProjectFile
    features: Features
    expectations: dict[str, tuple[Expectation, ...]]
    notebook: Notebook
    scored: str
    """The query that yields the rows of the DAG `scoring`."""
