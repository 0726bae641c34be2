"""What begins and ends a roll-out by hand; the gateway does the rest (`components.gateway.conduct`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from components.errors import ConfigError, NotFoundError
from components.mend import mend
from components.qualify import replay
from components.reconcile import reconcile
from components.records import digest
from components.releases import newest, release_number, releases, write
from components.rollouts import Rollout, change, ended, now, rollout_number, rollouts, under_way, whoami
from components.serving import stand_by, whole

if TYPE_CHECKING:
    from components.records import Release
    from components.rollout_settings import RolloutRules
    from components.workspace import Workspace


def start(workspace: Workspace, project: str, of: Release, rules: RolloutRules, why: str) -> Rollout:
    """Make what `of` holds the candidate of a roll-out, under a number of its own.

    Before anything is written, its bundle is whole, the server holds it, and it answers its golden requests. A
    roll-out that is under way is given up for this one.

    Raises:
        ConfigError: it is what serves.
        GateError: the server refuses it, or it answers otherwise than it did; nothing was written.
        NotFoundError: the bundle is gone with all that it was made from, or the project has no release.
        UnavailableError: the server is down.
    """
    import pyarrow.parquet as pq

    current = newest(workspace.store, project)
    if of.digest == current.digest:
        raise ConfigError(
            f"release {of.number} is what {project} serves",
            accepted="another one",
            next_step=f"trilha releases {project}",
        )
    if of.bundle.triton.sequence_batching or current.bundle.triton.sequence_batching:
        raise ConfigError(
            f"{project} has sequences, which stay with the release that they began with",
            accepted="a roll-out of releases without",
            next_step=f"trilha rollback {project} --to N moves all at once",
        )
    mend(workspace, of)
    stand_by(workspace, of.bundle, project)
    golden = pq.read_table(whole(workspace, of.bundle.golden))
    replay(workspace.server, of.bundle, golden, of.qualification.tolerance)
    before = next(rollouts(workspace.store, project), None)
    key = digest({"rollout": project, "of": of.number, "after": before.number if before else 0})

    def manifest(number: int) -> Release:
        release_number(workspace.store, project, of.number)  # else it was dropped meanwhile, with all that it needs
        return of.model_copy(update={"number": number, "key": key, "created": now(), "restores": of.number})

    made = write(workspace.store, project, key, manifest, rules, who=whoami(), why=why, anew=True)
    assert made.rollout is not None
    return rollout_number(workspace.store, project, made.rollout)


def promote(workspace: Workspace, project: str, why: str) -> Rollout:
    """Let the candidate serve. Killed after its record is written: `trilha reconcile`, or any run, finishes it.

    Raises:
        NotFoundError: no roll-out is under way.
        ConflictError: it ended or went on in between.
        GateError, UnavailableError: as `reconcile`; the candidate serves at the gateway all the same.
    """
    seen = _under_way(workspace, project)
    done = change(workspace.store, seen, lambda rollout: ended(rollout, "promoted", whoami(), why))
    reconcile(workspace, project)
    return done


def abort(workspace: Workspace, project: str, why: str) -> Rollout:
    """Give the candidate up; what serves goes on.

    Raises:
        NotFoundError, ConflictError: as `promote`.
    """
    seen = _under_way(workspace, project)
    return change(workspace.store, seen, lambda rollout: ended(rollout, "aborted", whoami(), why))


def other_release(workspace: Workspace, project: str) -> Release:
    """What a roll-out without a number is for: the newest release that holds another thing than what serves.

    Raises:
        NotFoundError: there is none.
    """
    current = newest(workspace.store, project)
    for release in releases(workspace.store, project):
        if release.digest != current.digest:
            return release
    raise NotFoundError(
        f"project {project!r} has no other release than {current.number}", next_step=f"trilha run {project}"
    )


def _under_way(workspace: Workspace, project: str) -> Rollout:
    found = under_way(workspace.store, project)
    if found is not None:
        return found
    newest(workspace.store, project)
    last = next(rollouts(workspace.store, project), None)
    raise NotFoundError(
        f"no roll-out of {project} is under way" + (f"; the last one: {last.told}" if last else ""),
        next_step=f"trilha rollout start {project}",
    )
