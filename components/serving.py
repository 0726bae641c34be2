"""Which bundle a server answers with: loading one, moving a project's stable name to it, dropping those before.

A bundle's models carry its digest, so a reader of one bundle never sees another. The stable name, the project's own, is
an ensemble over the parts of the bundle that serves; Triton swaps it in one step, and requests in flight end on what
they started on. The bundle before stays loaded for those who still ask it by name, and for a quick way back.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from components.artifacts import sha256
from components.bundle import CONFIG, FUSED, KEEP, PARTS, UNCACHED, bundle_of, models_of, part_names
from components.errors import GateError, NotFoundError, UnavailableError
from components.golden import features_of
from components.model_inputs import column_tensor

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from components.ports import ModelServer
    from components.records import Artifact, Bundle
    from components.workspace import Workspace


def serve(workspace: Workspace, bundle: Bundle, project: str, keep: Collection[str] = ()) -> None:
    """Let the project's stable name answer with `bundle`; changes nothing where it does so already.

    The bundle before stays loaded, and so do the models in `keep`; others of the project are dropped.

    Raises:
        GateError: the server refuses the bundle.
        NotFoundError: a file of the bundle is gone or damaged.
        UnavailableError: the server is down, or does not answer.
    """
    from components.adapters.triton_config import renamed

    server = workspace.server
    with workspace.lock(f"serve-{project}"):
        bring_up(workspace, bundle)
        before = _serving(server, project)
        if before == bundle.model:
            return
        config = whole(workspace, bundle.files[f"{bundle.model}/{CONFIG}"]).read_text()
        server.publish({project: {CONFIG: renamed(config, project), KEEP: ""}})
        server.load(project)
        found = {bundle_of(project, model) for model in server.loaded()}
        for old in sorted(found - {None, before, bundle.model, *keep}, key=str):
            take_down(server, str(old))


def stand_by(workspace: Workspace, bundle: Bundle, project: str) -> None:
    """Have the server answer for `bundle` under its own name, while the project's stable name stays where it is.

    Raises:
        GateError, NotFoundError, UnavailableError: as `serve`.
    """
    with workspace.lock(f"serve-{project}"):
        bring_up(workspace, bundle)


def bring_up(workspace: Workspace, bundle: Bundle) -> bool:
    """Have the server answer for `bundle` under its own name; False where it did so already.

    The process of a Python-backend model can die without Triton noticing or starting it again, so a model that is
    listed is asked one golden row.
    """
    server = workspace.server
    if bundle.model in server.loaded():
        if _answers(workspace, bundle):
            return False
        take_down(server, bundle.model)
    files = {
        model: {inside: whole(workspace, file) for inside, file in inner.items()}
        for model, inner in models_of(bundle).items()
    }
    server.publish(files)
    try:
        server.load(bundle.model)
    except GateError as error:
        take_down(server, bundle.model)
        targets = server.targets()
        if bundle.target in targets:
            raise
        raise GateError(
            f"the Triton at {server.address} cannot serve target {bundle.target!r} ({error.problem})",
            accepted=", ".join(sorted(targets)) or "no target at all",
            next_step="change serve.target in project.yaml, or the server",
            details=error.details,
        ) from error
    return True


@contextmanager
def uncached(workspace: Workspace, bundle: Bundle) -> Iterator[str]:
    """A model that answers as a loaded bundle does, but from no memory: what a measurement has to ask."""
    from components.adapters.triton_config import renamed

    if not bundle.triton.response_cache:
        yield bundle.model
        return
    server, (name,) = workspace.server, part_names(bundle.model, [UNCACHED]).values()
    config = whole(workspace, bundle.files[f"{bundle.model}/{CONFIG}"]).read_text()
    server.publish({name: {CONFIG: renamed(config, name, cached=False), KEEP: ""}})
    try:
        server.load(name)
        yield name
    finally:
        server.unload(name)


def take_down(server: ModelServer, model: str) -> None:
    """Unload an ensemble and its parts, and take them out of the repository."""
    for name in (model, *part_names(model, (UNCACHED, *PARTS, FUSED)).values()):
        server.unload(name)


def whole(workspace: Workspace, file: Artifact) -> Path:
    """A local path of the file, with the very bytes that it was made with.

    Raises:
        NotFoundError: it is gone or damaged. A damaged one is put aside, so that whoever looks next makes it anew.
    """
    path = workspace.artifacts.local(file)
    if sha256(path) != file.sha256:
        path.replace(path.with_name(f"{path.name}.damaged"))
        raise NotFoundError(
            f"artifact {path} is damaged: its SHA-256 is not {file.sha256}",
            next_step="run the project again: it will be made anew",
        )
    return path


def _serving(server: ModelServer, project: str) -> str | None:
    """The bundle that the project's stable name answers with."""
    if project not in server.loaded():
        return None
    return next(iter(bundle_of(project, part) for part in server.parts(project)), None)


def _answers(workspace: Workspace, bundle: Bundle) -> bool:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Not by `read_table` and `to_tensors`, which import pandas: a run that finds all its steps done waits for this.
    with pq.ParquetFile(whole(workspace, bundle.golden)) as file:
        row = pa.Table.from_batches([next(file.iter_batches(batch_size=1))])
    features = features_of(row, bundle.task)
    inputs = {name: column_tensor(row[name].to_pylist(), kind) for name, kind in features.items()}
    try:
        workspace.server.infer(bundle.model, inputs, settings=bundle.triton)
    except (GateError, UnavailableError):
        return False
    return True
