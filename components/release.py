"""release: write the manifest, then move everything that derives from it."""

from __future__ import annotations

from datetime import UTC, datetime

from components.errors import NotFoundError
from components.ledger import effect_key
from components.mend import mend
from components.online import ensure
from components.reconcile import reconcile, settled
from components.records import (
    Bundle,
    Candidate,
    Commit,
    Decision,
    ModelVersion,
    OnlineTable,
    Prepared,
    Qualification,
    Release,
    Validation,
    digest,
)
from components.releases import newest, release_number, served, write
from components.revision import revision
from components.rollout_settings import RolloutRules
from components.rollouts import whoami
from components.serving import stand_by
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
    rollout: RolloutRules | None = None,
    online: OnlineTable | None = None,
) -> Release:
    """Make data commit, validation, notebook, metrics, model version and bundle visible together.

    With the rules of a `rollout` it becomes the candidate of one, and what serves goes on; a first release serves.
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
        **({"online": online} if online else {}),
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

    made = write(workspace.store, project, key, manifest, rollout)
    reconcile(workspace, project)
    if made.rollout is not None:
        stand_by(workspace, made.bundle, project)
    return made


def roll_back(workspace: Workspace, project: str, to: Release) -> Release:
    """Serve `to` again: a new manifest with its contents, so that history only ever grows.

    Before anything is written, the bundle is there and whole, and the server answers for it. Killed after: the same
    rollback, or any run, finishes it. Where `to` is what the newest manifest holds, there is nothing to write.

    Raises:
        NotFoundError: the bundle is gone with all that it was made from; nothing was written.
        GateError: the server refuses it; nothing was written.
        UnavailableError: the registry or the server is down.
    """
    current = newest(workspace.store, project)
    if to.digest != current.digest:
        mend(workspace, to)
        ensure(workspace, to)
        stand_by(workspace, to.bundle, project)
        key = digest({"rollback": project, "from": current.number, "to": to.number})

        def manifest(number: int) -> Release:
            release_number(workspace.store, project, to.number)  # else it was dropped meanwhile, with all that it needs
            created = datetime.now(UTC).isoformat(timespec="seconds")
            return to.model_copy(
                update={"number": number, "key": key, "created": created, "restores": to.number, "rollout": None}
            )

        write(workspace.store, project, key, manifest, anew=True, who=whoami())
    return reconcile(workspace, project)


def one_before(workspace: Workspace, project: str) -> Release:
    """What a rollback without a number goes back to: the newest release that is another one than what serves.

    Of a rollback that was killed half-way it is that one's own: to go back from it would undo what was asked for.

    Raises:
        NotFoundError: the project has no release, or no other one.
    """
    current, *others = [newest(workspace.store, project), *served(workspace.store, project)]
    if current.restores and not settled(workspace, current):
        return current
    for release in others:
        if release.digest != current.digest:
            return release
    raise NotFoundError(
        f"project {project!r} has no other release than {current.number} to go back to",
        next_step=f"trilha reconcile {project} makes sure that it serves",
    )
