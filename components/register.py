"""Register: the candidate becomes a version of the model that bears the project's name."""

from __future__ import annotations

from components.ledger import effect_key
from components.records import Candidate, ModelVersion, Prepared, digest
from components.workspace import open_workspace


def register(project: str, profile: str, candidate: Candidate, prepared: Prepared) -> ModelVersion:
    """A model version of the candidate's three graphs; the one that this step made before, if it did.

    Args:
        project: the name of the registered model.
        profile: names the tracker.
        candidate: whose graphs are registered, with the run that made them.
        prepared: the data that it learned from.
    """
    workspace = open_workspace(profile)
    trial = candidate.trial
    content, graphs = digest(trial.graphs), (trial.graphs.pre, trial.graphs.model, trial.graphs.post)
    version = workspace.tracker.register(
        name=project,
        run_id=trial.run_id,
        graphs={path.name: path for path in map(workspace.artifacts.local, graphs)},
        key=effect_key(),
        tags={"trilha.digest": content, "trilha.commit": prepared.commit, "trilha.tree": prepared.tree},
    )
    return ModelVersion(name=project, version=version, digest=content, run_id=trial.run_id)
