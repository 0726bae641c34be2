"""Make what follows from a manifest so: the served model, the registry's alias, the tag in the data store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from components.errors import TrilhaError
from components.releases import newest, served

if TYPE_CHECKING:
    from components.records import Release
    from components.workspace import Workspace

ALIAS = "champion"


def reconcile(workspace: Workspace, project: str) -> Release:
    """Finish whatever a killed release or rollback left undone; changes nothing where all is in place.

    Raises:
        NotFoundError: the project has no release, or its bundle is gone with all that it was made from.
        GateError: the server refuses the bundle.
        UnavailableError: the registry or the server is down.
    """
    from components.online import tidy

    while True:
        release = newest(workspace.store, project)
        uphold(workspace, release)
        workspace.tracker.point(name=project, alias=ALIAS, version=release.version.version)
        workspace.store.tag(tag_of(release), release.commit.id)  # last: where it is, all the rest was
        if newest(workspace.store, project).number == release.number:
            tidy(workspace, release)
            return release  # else another one was written meanwhile, and what it moved may have been moved back here


def uphold(workspace: Workspace, release: Release) -> None:
    """Have the server really answer with `release`, whose bundle is made anew where its files are gone.

    The other releases that answer beside it (`components.versions.answering`) do so too, by their own names.

    Raises:
        GateError, NotFoundError, UnavailableError: as `reconcile`.
    """
    from components.mend import mend
    from components.online import ensure
    from components.serving import serve, stand_by
    from components.versions import answering

    mend(workspace, release)
    ensure(workspace, release)
    others = answering(workspace.store, release)
    serve(workspace, release.bundle, release.project, [other.bundle.model for other in others])
    for other in others:
        mend(workspace, other)
        ensure(workspace, other)
        stand_by(workspace, other.bundle, other.project)


def look_after(workspace: Workspace, project: str) -> None:
    """See that the newest release serves after a run that made none: its writer may have been killed, or files be gone.

    Raises:
        TrilhaError: it does not serve, why, and what to do.
    """
    release = next(served(workspace.store, project), None)
    if release is None:
        return
    try:
        if settled(workspace, release):
            uphold(workspace, release)
        else:
            reconcile(workspace, project)
    except TrilhaError as error:
        error.problem = f"the run is done, but {project}/{release.number} does not serve: {error.problem}"
        error.next_step = error.next_step or f"trilha status; then trilha reconcile {project}"
        raise


def settled(workspace: Workspace, release: Release) -> bool:
    """Whether all that follows from the manifest was in place once; False where its writer was killed before."""
    return tag_of(release) in workspace.store.tags()


def tag_of(release: Release) -> str:
    """What its data is called once all is in place."""
    return f"release/{release.project}/{release.number}"
