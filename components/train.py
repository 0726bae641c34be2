"""Train: one trial. The project's notebook, executed with one parameter set, and what came out of it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from components import config
from components.errors import GateError, TrilhaError
from components.ledger import effect_key
from components.place import Place
from components.profile import GitStore
from components.project import Notebook
from components.python_part import SUFFIX
from components.records import Artifact, Graphs, Parameters, Prepared, Trial
from components.revision import revision
from components.trial import GRAPHS, PLOTS, PREDICTIONS, RESULT, TrialResult, TrialSpec
from components.workspace import Workspace, open_workspace

if TYPE_CHECKING:
    from components.adapters.papermill_kernel import Executed
    from components.ports import TrialLog

SPEC, NOTEBOOK, PAGE = "spec.json", "notebook.ipynb", "notebook.html"


def train(
    project: str,
    profile: str,
    notebook: Notebook,
    prepared: Prepared,
    parameters: Parameters,
    timeout: float,
    memory_mb: int,
    seed: int,
) -> Trial:
    """Execute the notebook in a fresh kernel, log the trial to MLflow, and publish its files.

    Args:
        project: the MLflow experiment.
        profile: names tracker and artifact store.
        notebook: gets `parameters` and `spec` injected after its cell tagged `parameters`.
        prepared: the splits.
        parameters: one point of the search.
        timeout: seconds for the whole notebook.
        memory_mb: memory that the notebook may take, MiB.
        seed: handed to the notebook; its global generators start from it.

    Raises:
        TimeLimitError: the notebook ran past its deadline.
        GateError: its model was refused, or it saved none.
        TrilhaError: a cell raised, went over its memory, or the kernel died. The partial notebook is kept.
    """
    from components.adapters import papermill_kernel

    workspace, key = open_workspace(profile), effect_key()
    with workspace.output() as out:
        spec_file = out.folder / SPEC
        spec = _spec(workspace, project, prepared, parameters, seed, out.folder, notebook)
        spec_file.write_text(spec.model_dump_json())
        order = papermill_kernel.Order(
            notebook=config.root() / notebook.path,
            output=out.folder / NOTEBOOK,
            page=out.folder / PAGE,
            parameters={**parameters.values, "spec": str(spec_file)},
            timeout=timeout,
            memory_mb=memory_mb,
            seed=seed,
        )
        # The notebook is under way while the tracker is imported and asked.
        with papermill_kernel.start(order) as running, _logged(workspace, project, notebook, parameters, key) as log:
            try:
                executed = running.wait()
                result = _result(out.folder, notebook)
            except TrilhaError as error:
                _keep(workspace, project, key, out.folder, log, error)
                raise
            _log(log, workspace, project, prepared, result, executed, out.folder)
            _share_board(workspace, project)
        spec_file.unlink()
        files = out.publish()
    return Trial(
        parameters=parameters,
        metrics=result.metrics,
        graphs=graphs_in(files),
        predictions=files[PREDICTIONS],
        run_id=log.run_id,
        notebook=files[NOTEBOOK],
        page=files[PAGE],
        plots=tuple(artifact for name, artifact in files.items() if name.startswith(f"{PLOTS}/")),
        seconds=executed.seconds,
    )


def _spec(
    workspace: Workspace,
    project: str,
    prepared: Prepared,
    parameters: Parameters,
    seed: int,
    folder: Path,
    notebook: Notebook,
) -> TrialSpec:
    board = _board(workspace, project)
    shutil.rmtree(board, ignore_errors=True)  # of an attempt that was killed
    splits = {"train": prepared.train, "valid": prepared.valid, "test": prepared.test}
    return TrialSpec(
        prepared=prepared,
        splits={side: str(workspace.artifacts.local(split.file)) for side, split in splits.items()},
        folder=str(folder),
        tensorboard=str(board),
        parameters=parameters.values,
        seed=seed,
        modules=config.module_paths(notebook),
    )


def graphs_in(files: Mapping[str, Artifact]) -> Graphs:
    """The three graphs among a trial's files; a part of the project's own has another suffix."""
    pre, model, post = (files.get(name) or files[Path(name).with_suffix(SUFFIX).name] for name in GRAPHS)
    return Graphs(pre=pre, model=model, post=post)


def _board(workspace: Workspace, project: str) -> Path:
    """Where the trial's scalars are written: TensorBoard's folder of this machine."""
    return workspace.home / "tensorboard" / project / effect_key()[:12]


def _share_board(workspace: Workspace, project: str) -> None:
    """Where several machines share a state, a TensorBoard over `STATE/tensorboard` shows the trials of all of them."""
    board = _board(workspace, project)
    if "://" in workspace.state and board.is_dir():
        Place(f"{workspace.state}/tensorboard").upload(board, f"{project}/{board.name}")


def _logged(
    workspace: Workspace, project: str, notebook: Notebook, parameters: Parameters, key: str
) -> AbstractContextManager[TrialLog]:
    """The trial's run in the tracker."""
    return workspace.tracker.trial(
        experiment=project,
        name=", ".join(f"{name}={value}" for name, value in parameters.values.items())[:120] or "defaults",
        key=key,
        parameters=parameters.values,
        tags={
            "mlflow.source.type": "NOTEBOOK",
            "mlflow.source.name": notebook.path,
            "mlflow.source.git.commit": revision(),
        },
    )


def _result(folder: Path, notebook: Notebook) -> TrialResult:
    """What the notebook saved.

    Raises:
        GateError: nothing.
    """
    path = folder / RESULT
    if not path.is_file():
        raise GateError(
            f"{notebook.path} ran to its end and saved no model",
            accepted="a notebook that calls `save`",
            next_step="end it with t.save(pre=..., model=...), see components/trial.py",
        )
    return TrialResult.model_validate_json(path.read_bytes())


def _log(
    log: TrialLog,
    workspace: Workspace,
    project: str,
    prepared: Prepared,
    result: TrialResult,
    executed: Executed,
    folder: Path,
) -> None:
    """Everything about the trial that the tracker shows; a run that was finished before has it already."""
    if log.finished:
        return
    for point in result.curve:
        log.metrics({point.name: point.value}, point.step)
    after = 1 + max((point.step for point in result.curve), default=-1)  # so that it is the latest of its name
    log.metrics(result.metrics, after)
    log.metrics(
        {
            "system/trial_seconds": executed.seconds,
            "system/trial_cpu_seconds": executed.cpu_seconds,
            "system/trial_peak_memory_megabytes": executed.peak_memory_mb,
        }
    )
    store = workspace.profile.store
    source = store.path if isinstance(store, GitStore) else f"{store.url}/{store.repository}"
    log.dataset(project, prepared.commit, prepared.tree, source)
    log.files([folder / NOTEBOOK, folder / PAGE])
    log.files(sorted((folder / PLOTS).glob("*.png")), PLOTS)


def _keep(workspace: Workspace, project: str, key: str, folder: Path, log: TrialLog, error: TrilhaError) -> None:
    """Keep the partial notebook where the error says, and with the failed run."""
    kept = workspace.home / "failed" / project / key[:12]
    kept.mkdir(parents=True, exist_ok=True)
    copies = [Path(shutil.copy(folder / name, kept)) for name in (NOTEBOOK, PAGE) if (folder / name).is_file()]
    if not log.finished:
        log.files(copies)
    if copies:
        error.details = f"partial notebook: {copies[-1]}\n\n{error.details}"
