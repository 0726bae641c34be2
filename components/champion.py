"""Champion: the release that a candidate has to beat."""

from __future__ import annotations

from components.records import Candidate, Champion, digest
from components.releases import served
from components.workspace import open_workspace


def champion(project: str, profile: str, candidate: Candidate) -> Champion:
    """The newest release that serves or served, and whose model is another one than the candidate's.

    A release of the candidate's own model is passed over: run again, an unchanged project is weighed against the same
    champion as the first time, and everything after this step is found done.

    Args:
        project: whose releases to look at.
        profile: names the data store, which keeps them.
        candidate: the model that wants to serve.
    """
    own = digest(candidate.trial.graphs)
    for release in served(open_workspace(profile).store, project):
        graphs = release.candidate.trial.graphs
        if digest(graphs) != own:
            return Champion(release=release.number, digest=digest(graphs), graphs=graphs)
    return Champion(release=0, digest="", graphs=None)
