"""release: write the manifest, then move everything that derives from it."""

from __future__ import annotations

from datetime import UTC, datetime

from components.ledger import effect_key
from components.reconcile import reconcile
from components.records import (
    Bundle,
    Candidate,
    Commit,
    Decision,
    ModelVersion,
    Prepared,
    Qualification,
    Release,
    Validation,
    digest,
)
from components.releases import releases, write
from components.revision import revision
from components.workspace import Workspace, open_workspace


def release(
    project: str,
    profile: str,
    commit: Commit,
    validation: Validation,
    prepared: Prepared,
    candidate: Candidate,
    decision: Decision,
    version: ModelVersion,
    bundle: Bundle,
    qualification: Qualification,
) -> Release:
    """Make data commit, validation, notebook, metrics, model version and bundle visible together.

    Killed before the manifest is written: nothing is visible, and the next run writes it. Killed after: the next run
    finds the manifest by the step's key and finishes what derives from it.
    """
    workspace = open_workspace(profile)
    evidence = {
        "commit": commit,
        "validation": validation,
        "prepared": prepared,
        "candidate": candidate,
        "decision": decision,
        "version": version,
        "bundle": bundle,
        "qualification": qualification,
    }
    key = effect_key()

    def manifest(number: int) -> Release:
        return Release(
            project=project,
            number=number,
            digest=digest({"project": project, **evidence}),
            key=key,
            revision=revision(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            **evidence,
        )

    made = write(workspace.store, project, key, manifest)
    reconcile(workspace, project)
    return made


def roll_back(workspace: Workspace, project: str, to: Release) -> Release:
    """Serve `to` again: a new manifest with its contents, so that history only ever grows."""
    current = next(releases(workspace.store, project))
    key = digest({"rollback": project, "from": current.number, "to": to.number})

    def manifest(number: int) -> Release:
        created = datetime.now(UTC).isoformat(timespec="seconds")
        return to.model_copy(update={"number": number, "key": key, "created": created, "restores": to.number})

    made = write(workspace.store, project, key, manifest)
    reconcile(workspace, project)
    return made
