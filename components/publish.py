"""Publish: let `main` hold the validated data, all of a project's tables at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from components.adapters.store_rules import VALIDATION
from components.errors import ConflictError, GateError
from components.ledger import effect_key
from components.records import Commit, Published, Validation, digest
from components.tables import MAIN, contents, counted, fed, ingested, manifest
from components.workspace import open_workspace

if TYPE_CHECKING:
    from components.ports import DataStore


def publish(project: str, profile: str, commit: Commit, validation: Validation) -> Published:
    """Merge the ingested branch into `main` atomically, and delete it; returns the commit that later steps name.

    Where `main` has got other data of this project since the ingest began, this data replaces it as a whole: tables of
    two runs are never mixed, and what was there stays in the history. What streams and backfills have brought since
    then stays; the commit that later steps name holds what was validated, and is a part of `main`'s history.

    Args:
        project: the folder in the store.
        profile: names the data store.
        commit: what `ingest` made.
        validation: the verdict on that very data.

    Raises:
        GateError: the verdict is about other data.
        ConflictError: another machine published this project in the same moment; nothing was written.
    """
    check_verdict(commit, validation, f"run project {project} again")
    workspace = open_workspace(profile)
    store = workspace.store
    with workspace.lock(f"publish-{project}"):
        head = store.resolve(MAIN).id
        if not _holds(store, project, head, commit):
            head = _merge(store, project, commit, validation, head)
        if contents(store, head, project) != contents(store, commit.id, project):  # streams went on meanwhile
            head = commit.id
    if commit.branch != MAIN:
        store.delete_branch(commit.branch)
    return Published(id=head, branch=MAIN, tree=commit.tree, tables=commit.tables, project=project)


def check_verdict(commit: Commit, validation: Validation, next_step: str) -> None:
    """Refuse to publish what was not validated.

    Raises:
        GateError: the verdict is about other data.
    """
    if validation.tree != commit.tree:
        raise GateError(
            f"the validation is of data {validation.tree[:12]}, the commit holds {commit.tree[:12]}",
            accepted="a validation of what is published",
            next_step=next_step,
        )


def _holds(store: DataStore, project: str, head: str, commit: Commit) -> bool:
    """Whether `main`, at `head`, has what the commit holds, and maybe more from streams."""
    if contents(store, head, project) == contents(store, commit.id, project):
        return True
    return commit.branch == MAIN and ingested(store, head, project) == ingested(store, commit.id, project)


def _merge(store: DataStore, project: str, commit: Commit, validation: Validation, head: str) -> str:
    """Bring the commit's data to `main`, whose head is `head`; returns the new head.

    The key names the head too: the same data may have to be published again, after other data.
    """
    key = digest([effect_key(), head])
    base = store.resolve(commit.id).parents[0]
    published = any(commit.id in (revision.id, *revision.parents) for revision in store.log(MAIN))
    on_top = not published and ingested(store, base, project) == ingested(store, head, project)
    if not on_top and fed(store, head, project) != fed(store, commit.id, project):
        raise ConflictError(
            f"another run published {project} while streams or backfills went on",
            accepted="one run at a time",
            next_step=f"run project {project} again",
        )
    source = commit.id if on_top else _restage(store, project, commit, head, key)
    try:
        merged = store.merge(
            source,
            MAIN,
            message=f"Publish {project}: {counted(commit.tables)}",
            metadata={"project": project, VALIDATION: digest(validation), "ingest": commit.id},
            key=key,
        )
    except ConflictError as error:
        error.next_step = f"another run published {project} in this moment: run again"
        raise
    if not on_top:
        store.delete_branch(source)
    return merged.id


def _restage(store: DataStore, project: str, commit: Commit, head: str, key: str) -> str:
    """A branch on top of `head` that holds this commit's tables and no others; returns its name."""
    branch = f"ingest/{project}/{key[:12]}"
    if branch not in store.branches(branch):
        store.branch(branch, head)
    wanted = {entry.path: entry.sha256 for entry in store.ls(commit.id, project)}
    there = {entry.path: entry.sha256 for entry in store.ls(head, project)}
    changed = [manifest(project), *(path for path, sha256 in wanted.items() if there.get(path) != sha256)]
    store.commit(
        branch,
        {path: store.local(commit.id, path) for path in changed},
        deletes=sorted(there.keys() - wanted),
        message=f"Bring back {project} as it was ingested in {commit.id}",
        metadata={"project": project},
        key=key,
    )
    return branch
