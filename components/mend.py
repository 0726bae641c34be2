"""mend: a bundle whose files are gone or damaged is made anew, byte by byte, from what its release names."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from components.bundle import CONFIG, FUSED, GOLDEN, part_names
from components.errors import NotFoundError
from components.export import export
from components.ledger import running_as
from components.project import Serve
from components.records import digest
from components.serving import whole

if TYPE_CHECKING:
    from components.records import Bundle, Release
    from components.workspace import Workspace


def mend(workspace: Workspace, release: Release) -> bool:
    """See that every file of the release's bundle is there and whole; returns whether they had to be made anew.

    Raises:
        NotFoundError: what they are made from is gone as well, or this version of Trilha makes others from it.
    """
    bundle = release.bundle
    try:
        for file in (*bundle.files.values(), bundle.golden):
            whole(workspace, file)
    except NotFoundError as error:
        _make_anew(workspace, release, error)
        return True
    return False


def _make_anew(workspace: Workspace, release: Release, cause: NotFoundError) -> None:
    bundle, trial = release.bundle, release.candidate.trial
    try:
        for file in (*dict(trial.graphs).values(), trial.predictions, release.prepared.test.file):
            whole(workspace, file)
    except NotFoundError as error:
        raise _lost(release, cause, f"so is what it was made from: {error.problem}") from error
    # Made elsewhere first: what is left in its place stays there until it is clear that this is the same bundle.
    with running_as(digest({"mend": bundle.digest})):
        join = "fused" if f"{part_names(bundle.model, [FUSED])[FUSED]}/{CONFIG}" in bundle.files else "ensemble"
        golden = release.qualification.rows
        serve = Serve(target=bundle.target, join=join, golden=golden, triton=bundle.triton)
        made = export(release.project, workspace.name, release.candidate, release.prepared, serve)
    if digest(made) != digest(bundle):
        code = release.revision or "another version of Trilha"
        raise _lost(release, cause, f"it was made with the code of {code}, and this code makes another one")
    _put_in_place(workspace, bundle, made)


def _put_in_place(workspace: Workspace, bundle: Bundle, made: Bundle) -> None:
    key = bundle.golden.path.partition("/")[0]
    with workspace.lock(key), workspace.artifacts.folder(key) as folder:
        for inside, file in {**made.files, GOLDEN: made.golden}.items():
            (folder / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(whole(workspace, file), folder / inside)
        workspace.artifacts.publish(key, folder)


def _lost(release: Release, cause: NotFoundError, why: str) -> NotFoundError:
    project = release.project
    return NotFoundError(
        f"bundle {release.bundle.model} of {project}/{release.number}: {cause.problem}; {why}",
        next_step=f"trilha run {project}, which makes what today's sources lead to; or another one of trilha releases "
        f"{project}: trilha rollback {project} --to NUMBER",
    )
