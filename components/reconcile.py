"""Make what follows from a manifest so: the registry's alias, the tag in the data store, the served model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from components.releases import newest

if TYPE_CHECKING:
    from components.records import Release
    from components.workspace import Workspace

ALIAS = "champion"


def reconcile(workspace: Workspace, project: str) -> Release:
    """Finish whatever a killed release left undone; changes nothing where all is in place.

    Raises:
        NotFoundError: the project has no release.
        UnavailableError: the registry or the server is down.
    """
    from components.serving import serve

    release = newest(workspace.store, project)
    workspace.store.tag(f"release/{project}/{release.number}", release.commit.id)
    workspace.tracker.point(name=project, alias=ALIAS, version=release.version.version)
    serve(workspace, release.bundle, project)
    return release
