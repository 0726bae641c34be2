"""export: the candidate's graphs as a bundle that Triton can load, and the golden requests it has to answer."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from components.adapters.onnx_graphs import fuse, run_graphs
from components.adapters.triton_config import (
    Graph,
    as_run,
    check_chain,
    ensemble_config,
    part_config,
    read_graph,
    read_outputs,
)
from components.adapters.triton_model import TritonPythonModel
from components.adapters.triton_part import Opened
from components.adapters.triton_settings import Sample, warmup_files
from components.bundle import (
    CONFIG,
    FUSED,
    GOLDEN,
    KEEP,
    NO_CACHE,
    PARTS,
    VERSION,
    bundle_name,
    content_digest,
    part_names,
)
from components.errors import GateError
from components.golden import example_of, golden_table
from components.model_inputs import to_tensors
from components.project import Serve
from components.python_part import SUFFIX, files_in
from components.records import Bundle, Candidate, Prepared, Trial
from components.serve_settings import LEARNED, Triton, of_ensemble, of_part
from components.workspace import Workspace, open_workspace


def export(project: str, profile: str, candidate: Candidate, prepared: Prepared, serve: Serve) -> Bundle:
    """Write the model repository and the golden requests.

    Raises:
        GateError: the graphs do not fit each other or the features, or the notebook has no answer for a golden row.
    """
    import pyarrow.parquet as pq

    workspace = open_workspace(profile)
    trial = candidate.trial
    test, predictions = map(workspace.artifacts.local, (prepared.test.file, trial.predictions))
    with workspace.output() as out, opened(workspace, trial, prepared, serve) as (paths, graphs):
        table = golden_table(prepared, test, predictions, serve.golden)
        model, digest, content = assembled(project, serve, paths, graphs, to_tensors(table, prepared.features))
        _write(out.folder, content)
        pq.write_table(table, out.folder / GOLDEN)
        files = out.publish()
    golden = files.pop(GOLDEN)
    example = example_of(table, prepared.features)
    return Bundle(
        model=model,
        digest=digest,
        target=serve.target,
        files=files,
        golden=golden,
        example=example,
        task=prepared.task,
        triton=serve.triton,
    )


@contextmanager
def opened(
    workspace: Workspace, trial: Trial, prepared: Prepared, serve: Serve
) -> Iterator[tuple[dict[str, Path], dict[str, Graph]]]:
    """The trial's parts as files, and what they take and yield; one part where the project joins them.

    Raises:
        GateError: they do not fit each other or the features.
    """
    paths = {part: workspace.artifacts.local(getattr(trial.graphs, part)) for part in PARTS}
    graphs = {part: read_graph(path) for part, path in paths.items()}
    check_chain(graphs, prepared.features, prepared.task, prepared.classes)
    if serve.join == "ensemble":
        yield paths, graphs
        return
    with TemporaryDirectory() as scratch:
        yield _fused(paths, Path(scratch))


def assembled(
    project: str, serve: Serve, paths: Mapping[str, Path], graphs: Mapping[str, Graph], golden: Sample
) -> tuple[str, str, dict[str, Path | str | bytes]]:
    """A bundle's name, its digest, and path -> file of its model repository.

    Args:
        project: its name.
        serve: target, and Triton's own settings.
        paths: part -> its graph.
        graphs: part -> what it takes and yields.
        golden: the golden requests: input -> `[rows, width]`.
    """
    samples = _samples(golden, paths, serve.triton)
    digest = content_digest(repository(project, serve, paths, graphs, samples))
    model = bundle_name(project, digest)
    return model, digest, repository(model, serve, paths, graphs, samples)


def repository(
    model: str,
    serve: Serve,
    paths: Mapping[str, Path],
    graphs: Mapping[str, Graph],
    samples: Mapping[str, Sequence[Sample]],
) -> dict[str, Path | str | bytes]:
    """Path inside a model repository -> a file, or what is in one, for the ensemble `model` and its parts.

    Args:
        model: the ensemble's name.
        serve: the target, and Triton's own settings.
        paths: part -> its graph.
        graphs: part -> what it takes and yields.
        samples: part -> the rows that it is warmed up with.
    """
    _check_parts(serve.triton, paths)
    names, target = part_names(model, paths), serve.target
    files: dict[str, Path | str | bytes] = {
        f"{model}/{CONFIG}": ensemble_config(model, names, graphs, of_ensemble(serve.triton)),
        f"{model}/{KEEP}": "",
    }
    runner = Path(inspect.getfile(TritonPythonModel))
    for part, name in names.items():
        python = paths[part].suffix == SUFFIX
        backend = "auto" if python else target
        settings, outputs = of_part(serve.triton, part), read_outputs(part, graphs)
        graph = as_run(graphs[part], paths[part]) if backend == "full" else graphs[part]
        files[f"{name}/{CONFIG}"] = part_config(name, graph, outputs, backend, settings, samples[part])
        warm = warmup_files([tensor.name for tensor in graphs[part].inputs], samples[part])
        files |= {f"{name}/{inside}": content for inside, content in warm.items()}
        if python:
            files |= {f"{name}/{VERSION}/{inside}": content for inside, content in files_in(paths[part]).items()}
            files[f"{name}/{VERSION}/model.py"] = Path(inspect.getfile(Opened))
            files[f"{name}/{VERSION}/{runner.name}"] = runner
        else:
            files[f"{name}/{VERSION}/model.onnx"] = paths[part]
            if target == "auto":
                files[f"{name}/{VERSION}/model.py"] = runner
        if backend == "auto":
            files[f"{name}/{NO_CACHE}"] = ""
    return files


def _check_parts(settings: Triton, paths: Mapping[str, Path]) -> None:
    """Refuse what a graph cannot do.

    Raises:
        GateError: names the setting.
    """
    learned = next(paths[part] for part in paths if part in LEARNED)
    wanted = {"sequence_batching": settings.sequence_batching, "model_transaction_policy.decoupled": settings.decoupled}
    name = next((name for name, value in wanted.items() if value), None)
    if name and learned.suffix != SUFFIX:
        raise GateError(
            f"serve.triton.{name}: `{learned.stem}` is a graph, which remembers nothing and answers once",
            accepted="a Python class of the project's own as the model",
            next_step="take the setting out of project.yaml, or see docs/how-to/servables.md, `A class of your own`",
        )


def _samples(inputs: Sample, paths: Mapping[str, Path], settings: Triton) -> dict[str, list[Sample]]:
    """Part -> the golden rows that it is warmed up with, as the parts before it hand them over."""
    wanted, values = settings.model_warmup.rows if settings.model_warmup else 0, inputs
    rows = min(wanted, len(next(iter(inputs.values()))))
    found: dict[str, list[Sample]] = {}
    for part, path in paths.items():
        found[part] = [{name: array[row : row + 1] for name, array in values.items()} for row in range(rows)]
        values = run_graphs([path], values) if rows else values
    return found


def _fused(paths: Mapping[str, Path], folder: Path) -> tuple[dict[str, Path], dict[str, Graph]]:
    """The three graphs as one."""
    path = folder / "fused.onnx"
    path.write_bytes(fuse(list(paths.values())))
    return {FUSED: path}, {FUSED: read_graph(path)}


def _write(folder: Path, files: Mapping[str, Path | str | bytes]) -> None:
    for inside, content in files.items():
        path = folder / inside
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.write_text(content)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            shutil.copyfile(content, path)
