"""export --target edge: a release as one small file for a user's own device, a card that says what it is, and a page.

The graphs are the bundle's own, joined. Smaller weights are taken where the project's metric allows it; everything else
is measured, and stands on the card: size, memory and time on one core, what was lost, what the file needs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from components.adapters.triton_config import answer_tensors, input_tensors
from components.answers import answer_names, read_answers
from components.bundle import FUSED, PARTS, VERSION, part_names
from components.edge_cost import Cost, cost_of
from components.edge_weights import AS_IT_IS, Variant, apart, asked, smaller
from components.errors import ConfigError, GateError
from components.golden import example_of
from components.predict import answers_of
from components.records import Record, Scalar
from components.serving import whole

if TYPE_CHECKING:
    import pyarrow as pa

    from components.answers import AnyAnswers
    from components.edge_settings import Edge
    from components.records import Release
    from components.workspace import Workspace

MODEL: Final = "model.onnx"
CARD: Final = "card.json"
MOST: Final = 20_000
"""Rows of the test split that accuracy is measured on, evenly over all: they are asked one by one."""
TIMED: Final = 64
"""Golden rows that a prediction's cost is measured with."""
_KINDS: Final = {"TYPE_STRING": "string", "TYPE_FP32": "float32", "TYPE_INT64": "int64"}


class Tensor(Record):
    """What the file takes, or yields: `[rows, width]`."""

    name: str
    type: str
    """`string`, `float32` or `int64`."""
    width: int


class EdgeCard(Record):
    """What goes with the file."""

    project: str
    title: str
    release: int
    digest: str
    """The release's: `trilha trail DIGEST` leads to the bytes that it was learned from."""
    created: str
    target: str
    task: str
    classes: tuple[int | str, ...]
    features: dict[str, str]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    example: dict[str, Scalar | tuple[float | None, ...]]
    answer: dict[str, Any]
    """What the release answers to the example."""
    file: str
    sha256: str
    size: int
    operators: dict[str, int]
    """Operator -> how often."""
    opsets: dict[str, int]
    """Domain of operators -> its version."""
    metric: str
    rows: int
    """Of the test split, that the metric was measured on."""
    allowed: float
    """What may be lost: `edge.loss` in project.yaml."""
    weights: tuple[Variant, ...]
    golden: int
    difference: float
    """Largest difference of the file's answers from the release's own, over so many golden rows."""
    costs: dict[str, Cost]
    """Weights, as they were and as they are taken -> what a prediction costs."""
    web: str | None = None
    """The version of onnxruntime-web that lies beside the page."""

    @property
    def taken(self) -> Variant:
        """The weights that the file has."""
        return next(one for one in self.weights if one.taken)


def export_edge(
    workspace: Workspace, release: Release, title: str, edge: Edge, to: Path, web: Path | None = None
) -> EdgeCard:
    """Write the folder `to`: the model in one file, its card, and a page that runs it.

    Args:
        workspace: where the release's files are.
        release: which one.
        title: the project's.
        edge: what may be lost.
        to: a folder that is not there yet.
        web: the package onnxruntime-web, which runs the model in the page; none: the page says where it goes.

    Raises:
        ConfigError: `to` is there already, `web` is no such package, or a part of the model is a Python class.
        GateError: the file does not answer as the release does.
        NotFoundError: files of the release are gone.
    """
    from components.edge_page import place_runtime, write_page
    from components.mend import mend

    with _staged(to) as folder:
        mend(workspace, release)
        plain = _stamped(joined(workspace, release), release)
        test, golden = _rows(workspace, release)
        _check(plain, golden, release)
        graph, tried = smaller(plain, test, release, edge)
        (folder / MODEL).write_bytes(graph)
        costs = {AS_IT_IS: plain, next(one.weights for one in tried if one.taken): graph}
        card = EdgeCard(
            **_of_release(release, title, golden),
            **_of_file(graph),
            metric=release.candidate.metric,
            rows=test.num_rows,
            allowed=edge.loss,
            weights=tried,
            golden=golden.num_rows,
            difference=apart(asked(graph, golden, release.prepared), _own(golden, release)),
            costs={
                name: cost_of(one, golden.slice(0, TIMED), release.prepared.features) for name, one in costs.items()
            },
            web=place_runtime(web, folder) if web else None,
        )
        (folder / CARD).write_text(card.model_dump_json(indent=1), encoding="utf-8")
        write_page(card, folder)
    return card


@contextmanager
def _staged(to: Path) -> Iterator[Path]:
    """A folder that becomes `to` when all is written."""
    if to.exists():
        raise ConfigError(f"{to} is there already", accepted="a folder that is not there yet", next_step="--to FOLDER")
    to.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=to.parent, prefix=f".{to.name}.") as part:
        folder = Path(part) / to.name
        folder.mkdir()
        yield folder
        folder.rename(to)


# --- the graph --------------------------------------------------------------------------------------------------------


def joined(workspace: Workspace, release: Release) -> bytes:
    """The bundle's graphs as one."""
    from components.adapters.onnx_graphs import fuse

    bundle = release.bundle
    names = part_names(bundle.model, (*PARTS, FUSED))
    files = {part: bundle.files.get(f"{name}/{VERSION}/{MODEL}") for part, name in names.items()}
    fused = files.pop(FUSED)
    if fused is not None:
        return whole(workspace, fused).read_bytes()
    for part, file in files.items():
        if file is None:
            raise ConfigError(
                f"`{part}` of {release.project}/{release.number} is a Python class, which ONNX Runtime does not run",
                accepted="parts that become graphs",
                next_step="see docs/how-to/servables.md",
            )
    return fuse([whole(workspace, file) for file in files.values() if file is not None])


def _stamped(graph: bytes, release: Release) -> bytes:
    """The graph with the release's name inside: a file that is passed on still says where it is from."""
    from components.adapters.onnx_small import stamped

    facts = {"project": release.project, "release": str(release.number), "digest": release.digest}
    return stamped(graph, {f"trilha.{name}": value for name, value in facts.items()})


def _check(graph: bytes, golden: pa.Table, release: Release) -> None:
    """Hold the one graph to what the server was held to.

    Raises:
        GateError: it answers otherwise.
    """
    off, tolerance = (
        apart(asked(graph, golden, release.prepared), _own(golden, release)),
        release.qualification.tolerance,
    )
    if not off <= tolerance:
        raise GateError(
            f"{release.bundle.model} as one graph is off the release's own answers by up to {off:.3g}",
            accepted=f"up to {tolerance:g} (serve.tolerance)",
            next_step=f"trilha run {release.project}, and see what qualify says",
        )


# --- the rows ---------------------------------------------------------------------------------------------------------


def _rows(workspace: Workspace, release: Release) -> tuple[pa.Table, pa.Table]:
    """Rows of the test split with their target, and the golden rows."""
    import numpy as np
    import pyarrow.parquet as pq

    prepared = release.prepared
    test = pq.read_table(whole(workspace, prepared.test.file), columns=[prepared.target, *prepared.features])
    if test.num_rows > MOST:
        test = test.take(np.linspace(0, test.num_rows - 1, MOST).round().astype(int))
    return test, pq.read_table(whole(workspace, release.bundle.golden))


def _own(golden: pa.Table, release: Release) -> AnyAnswers:
    """The release's own answers to its golden rows."""
    return read_answers(golden, release.prepared.task, release.prepared.classes)


# --- the card ---------------------------------------------------------------------------------------------------------


def _of_release(release: Release, title: str, golden: pa.Table) -> dict[str, Any]:
    """What the card says of the release."""
    import numpy as np

    prepared, example = release.prepared, release.bundle.example
    inputs = input_tensors(prepared.features)
    outputs = answer_tensors(prepared.task, prepared.classes)
    row = next(row for row in _singly(golden) if example_of(row, prepared.features) == example)
    answers = {name: np.asarray(row[name].to_pylist()) for name in answer_names(prepared.task)}
    return {
        "project": release.project,
        "title": title,
        "release": release.number,
        "digest": release.digest,
        "created": release.created,
        "target": prepared.target,
        "task": prepared.task,
        "classes": prepared.classes,
        "features": prepared.features,
        "inputs": [Tensor(name=one.name, type=_KINDS[one.type], width=one.width) for one in inputs],
        "outputs": [Tensor(name=one.name, type=_KINDS[one.type], width=one.width) for one in outputs],
        "example": example,
        "answer": next(answers_of(answers, prepared)).model_dump(),
    }


def _singly(golden: pa.Table) -> Iterator[pa.Table]:
    return (golden.slice(row, 1) for row in range(golden.num_rows))


def _of_file(graph: bytes) -> dict[str, Any]:
    """What the card says of the file."""
    from components.adapters.onnx_small import operators

    counted, versions = operators(graph)
    return {
        "file": MODEL,
        "sha256": hashlib.sha256(graph).hexdigest(),
        "size": len(graph),
        "operators": counted,
        "opsets": versions,
    }
