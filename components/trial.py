"""What a project's notebook imports: the splits to learn from, a place for metrics and plots, and `save` for the model.

    from components import trial

    t = trial.start("flights", spec)          # `spec` is injected by the train step; "" in JupyterLab
    pre.fit(t.inputs(t.train))
    t.metric("log_loss", 0.43, step=10)
    t.figure("roc", figure)
    t.save(pre=pre, model=model)

The train step hands a `TrialSpec` over as a JSON file and reads a `TrialResult` back from the folder it names.
"""

from __future__ import annotations

import io
import os
import tempfile
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.errors import GateError, NotFoundError
from components.records import Prepared, Record, Scalar

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd
    from matplotlib.figure import Figure

    from components.adapters.tensorboard_log import TensorBoardLog
    from components.answers import AnyAnswers, Target

RESULT = "metrics.json"
PREDICTIONS = "predictions.parquet"
GRAPHS = ("pre.onnx", "model.onnx", "post.onnx")
PLOTS = "plots"
"""Names inside `TrialSpec.folder`: a `TrialResult`, the answers on the test split, the graphs, a folder of PNGs."""

TOLERANCE = 1e-5
"""Largest absolute difference between an answer of the graphs and the framework's own; of a value beyond 1, a share."""
UNHEARD_OF = "\N{REPLACEMENT CHARACTER}"
"""A text that no training row has."""


class TrialSpec(Record):
    """One trial, as the train step hands it to the notebook (a JSON file whose path is the parameter `spec`)."""

    prepared: Prepared
    splits: dict[str, str]
    """`train`, `valid`, `test` -> a local Parquet file."""
    folder: str
    """A local, existing folder for what the trial writes."""
    tensorboard: str
    """The trial's TensorBoard log folder."""
    parameters: dict[str, Scalar]
    """What papermill injects too, for TensorBoard's hparams."""
    seed: int
    modules: tuple[str, ...] = ()
    """Files that a part of the project's own may come from."""

    def open(self) -> TrialRun:
        """The trial, for its notebook. By naming it here, what notebooks call becomes part of the train step's key."""
        return TrialRun(self)


class Point(Record):
    """One value of a curve."""

    name: str
    value: float
    step: int


class TrialResult(Record):
    """What the notebook measured; written by `save`, so that its absence says that the notebook saved no model."""

    metrics: dict[str, float]
    """The model on the valid split."""
    curve: tuple[Point, ...]
    """Everything logged with `metric`, in the order it was logged."""


def start(project: str, spec: str = "") -> TrialRun:
    """The trial that the train step wants, or one to play with.

    Args:
        project: the project's name.
        spec: path of a `TrialSpec`. Empty, as in JupyterLab: the newest prepared data of the profile `TRILHA_PROFILE`
            (default `local`), and a temporary folder for the results.

    Raises:
        NotFoundError: there is no prepared data yet.
    """
    if spec:
        return TrialSpec.model_validate_json(Path(spec).read_bytes()).open()
    return _interactive(project).open()


def _interactive(project: str) -> TrialSpec:
    from components import config
    from components.prepare import prepare
    from components.workspace import open_workspace

    profile = os.environ.get("TRILHA_PROFILE", "local")
    workspace = open_workspace(profile)
    prepared = workspace.ledger.newest(prepare, {"project": project})
    if not isinstance(prepared, Prepared):
        raise NotFoundError(
            f"no prepared data of project {project!r} in profile {profile!r}",
            next_step=f"trilha run {project} --profile {profile} --until prepare",
        )
    loaded = config.load_project(project)
    folder = Path(tempfile.mkdtemp(prefix=f"trilha-{project}-"))
    splits = {"train": prepared.train, "valid": prepared.valid, "test": prepared.test}
    return TrialSpec(
        prepared=prepared,
        splits={side: str(workspace.artifacts.local(split.file)) for side, split in splits.items()},
        folder=str(folder),
        tensorboard=str(folder / "tensorboard"),
        parameters={},
        seed=loaded.file.seed,
        modules=config.module_paths(loaded.notebook),
    )


class TrialRun:
    """One trial, as its notebook sees it.

    Args:
        spec: what the trial is given, and where its results go.
    """

    def __init__(self, spec: TrialSpec) -> None:
        self.spec = spec
        self.features = list(spec.prepared.features)
        self.target = spec.prepared.target
        self.classes = list(spec.prepared.classes)
        self.seed = spec.seed
        self._folder = Path(spec.folder)
        self._curve: list[Point] = []

    def __repr__(self) -> str:
        rows = self.spec.prepared
        return (
            f"{rows.train.rows:,} rows to learn from, {rows.valid.rows:,} to choose by, {rows.test.rows:,} held out; "
            f"{len(self.features)} features; results go to {self._folder}"
        )

    @cached_property
    def train(self) -> pd.DataFrame:
        """The rows to learn from: row key, target, features, and whatever else `features.sql` yields.

        Features are as the model will see them when it serves (`components.model_inputs`): texts, with "" for a missing
        one, and 32-bit floats, with NaN for a missing one.
        """
        return self._read("train")

    @cached_property
    def valid(self) -> pd.DataFrame:
        """The rows to choose a model by."""
        return self._read("valid")

    @cached_property
    def test(self) -> pd.DataFrame:
        """The held-out rows. `save` answers them; looking at them in order to choose would spoil them."""
        return self._read("test")

    def metric(self, name: str, value: float, step: int = 0) -> None:
        """Log one value of a curve, for MLflow and TensorBoard."""
        self._curve.append(Point(name=name, value=float(value), step=step))
        self._board.scalar(name, float(value), step)

    def figure(self, name: str, figure: Figure) -> None:
        """Show a figure in the notebook and keep it with the trial as `NAME.png`."""
        from IPython.display import Image, display

        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        path = self._folder / PLOTS / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(buffer.getvalue())
        self._board.figure(name, buffer.getvalue())
        display(Image(buffer.getvalue()))  # type: ignore[no-untyped-call]  # IPython's display is untyped

    def inputs(self, rows: pd.DataFrame) -> pd.DataFrame | npt.NDArray[Any]:
        """What a model is fitted on: the features of `rows` as a frame, or the matrix of the one array."""
        from components.model_inputs import frame_to_tensors, tensors_to_inputs

        return tensors_to_inputs(frame_to_tensors(rows, self.features))

    def places(self, rows: pd.DataFrame) -> Target:
        """The target of `rows` as numbers: 0 or 1, the place of each class in `classes`, or the value."""
        from components.answers import numbered

        prepared = self.spec.prepared
        return numbered(rows[self.target].to_numpy(), prepared.task, prepared.classes)

    def answers(self, pre: Any, model: Any, rows: pd.DataFrame, threshold: float = 0.5, post: Any = None) -> AnyAnswers:
        """The framework's own answers on `rows`."""
        from components.adapters.onnx_graphs import own_scores
        from components.answers import from_scores
        from components.model_inputs import frame_to_tensors

        scores = own_scores(pre, model, post, frame_to_tensors(rows, self.features))
        prepared = self.spec.prepared
        return from_scores(scores, prepared.task, prepared.classes, threshold)

    def save(self, *, pre: Any, model: Any, post: Any = None, threshold: float = 0.5) -> dict[str, float]:
        """Keep the model as three graphs, with its metrics on valid (returned) and its answers on test.

        A part is what its framework gives: a fitted object of scikit-learn, LightGBM, XGBoost, PyTorch or Keras, a
        SavedModel of TensorFlow, the path of a file that one of them or ONNX wrote, a servable of
        `components.servables`, or several of these in a list, one after the other.
        In the place of `pre` or `model` it may be a class of the project's own, see `components.python_part`.

        Args:
            pre: from the inputs to features, fitted on `inputs(train)`; None where numbers go in as they are. It has to
                cope with what serving brings: a missing value in any column, a text that it has not seen.
            model: fitted on what `pre` yields. It answers with a probability for each of `classes`, or with a value.
            post: from those scores to better ones, such as calibrated ones.
            threshold: of a binary task: the probability from which on the label is 1.

        Raises:
            ConfigError: a part is of a kind that is not converted.
            GateError: the graphs do not answer what the framework answers, on some row of valid or on a row with a gap.
        """
        from components.adapters.onnx_graphs import check_classes, write_graphs
        from components.metrics import all_metrics

        prepared = self.spec.prepared
        task, classes = prepared.task, prepared.classes
        check_classes(model, task, classes)
        pre_path, model_path, post_path = (self._folder / name for name in GRAPHS)
        self._paths = write_graphs(
            pre,
            model,
            threshold,
            prepared.features,
            (pre_path, model_path, post_path),
            task,
            classes,
            post,
            [Path(module) for module in self.spec.modules],
        )
        valid = self.answers(pre, model, self.valid, threshold, post)
        self._check_parity(self.valid, valid)
        self._check_gaps(pre, model, post)
        metrics = all_metrics(self.places(self.valid), valid)
        self._write_predictions(self.answers(pre, model, self.test, threshold, post))
        self._board.hparams(self.spec.parameters, metrics)
        self._board.close()
        del self._board  # a cell that is run again opens it anew
        result = TrialResult(metrics=metrics, curve=tuple(self._curve))
        (self._folder / RESULT).write_text(result.model_dump_json(indent=1))
        return metrics

    @cached_property
    def _board(self) -> TensorBoardLog:
        from components.adapters.tensorboard_log import TensorBoardLog

        return TensorBoardLog(self.spec.tensorboard)

    def _read(self, side: str) -> pd.DataFrame:
        import pyarrow.parquet as pq

        from components.model_inputs import to_frame

        return to_frame(pq.read_table(self.spec.splits[side]), self.spec.prepared.features)

    def _check_gaps(self, pre: Any, model: Any, post: Any) -> None:
        """Parity where serving is harder than the data: each input missing, each text unheard of."""
        import numpy as np
        import pandas as pd

        from components.model_inputs import is_array, width

        kinds = self.spec.prepared.features
        gaps: list[tuple[str, Any]] = [
            (name, "" if kind == "string" else np.full(width(kind), np.nan, np.float32) if is_array(kind) else np.nan)
            for name, kind in kinds.items()
        ]
        gaps += [(name, UNHEARD_OF) for name, kind in kinds.items() if kind == "string"]
        rows = pd.concat(
            [self.valid.head(1)] * len(gaps), ignore_index=True
        ).copy()  # of one frame, concat may make a view
        for index, (name, value) in enumerate(gaps):
            rows.at[index, name] = value  # noqa: PD008  # `loc` would spread an array over rows
        try:
            expected = self.answers(pre, model, rows, post=post)
        except Exception as error:
            raise GateError(
                f"the model cannot answer a row with a missing value or an unheard-of text: {error}",
                accepted="an answer, whatever is missing",
                next_step="let `pre` impute missing numbers, and encode texts with `handle_unknown`",
            ) from error
        self._check_parity(rows, expected)

    def _check_parity(self, rows: pd.DataFrame, expected: AnyAnswers) -> None:
        import numpy as np

        from components.adapters.onnx_graphs import run_graphs
        from components.answers import NUMBERS
        from components.model_inputs import frame_to_tensors

        inputs = frame_to_tensors(rows, self.features)
        found = run_graphs(self._paths, inputs)[NUMBERS[expected.task]]
        own = expected.numbers()
        if found.shape != own.shape:
            raise GateError(f"as ONNX the model answers {list(found.shape)} where its own answer is {list(own.shape)}")
        gaps = np.abs(found - own)
        if expected.task == "regression":  # of large values, 32 bits hold a share
            gaps /= np.maximum(1, np.abs(own))
        off = ~(gaps <= TOLERANCE)  # NaN is off as well
        if off.any():
            worst = np.unravel_index(np.argmax(np.where(np.isnan(gaps), np.inf, gaps)), gaps.shape)
            raise GateError(
                f"as ONNX the model answers {found[worst]:.6f} where its own answer is {own[worst]:.6f}; "
                f"{off.any(axis=1).sum()} of {len(rows)} rows are off by more than {TOLERANCE}",
                accepted="a model that its converter turns into the same function",
                next_step="use another model or preprocessing: impute before trees, and do not scale before them",
                details=rows.iloc[int(worst[0])].to_string(),
            )

    def _write_predictions(self, answers: AnyAnswers) -> None:
        """The framework's own answers on the test split, beside the row they are for."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        row = self.spec.prepared.row
        test = pq.read_table(self.spec.splits["test"], columns=[row, self.target])
        columns = {"row": test[row], "target": test[self.target]}
        pq.write_table(pa.table({**columns, **answers.columns()}), self._folder / PREDICTIONS)
