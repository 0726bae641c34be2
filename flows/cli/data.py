"""`trilha data log | diff | ls | get | tag | revert`: the data store, as one looks into a Git repository."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.output import JsonOption, ProfileOption, columns, emit, save

if TYPE_CHECKING:
    from components.ports import DataStore

data_app = typer.Typer(help="Look into the data store, name commits, undo one.", no_args_is_help=True)

RefArgument = Annotated[str, typer.Argument(metavar="REF", help="A branch, a tag, or a commit id (7 digits or more).")]


def _store(profile: str) -> DataStore:
    from components.workspace import open_workspace

    return open_workspace(profile).store


@data_app.command()
def log(ref: RefArgument = "main", profile: ProfileOption = "local", as_json: JsonOption = False) -> None:
    """List the commits of REF, newest first."""
    revisions = list(_store(profile).log(ref))
    rows = [
        {
            "commit": revision.id[:12],
            "created": revision.created,
            "message": revision.message.partition("\n")[0],
            "metadata": " ".join(f"{name}={value}" for name, value in revision.metadata.items()),
        }
        for revision in revisions
    ]
    emit(revisions, columns(rows, ["commit", "created", "message", "metadata"]), as_json=as_json)


@data_app.command()
def diff(
    left: Annotated[str, typer.Argument()],
    right: Annotated[str, typer.Argument()],
    profile: ProfileOption = "local",
    as_json: JsonOption = False,
) -> None:
    """List what has to change in LEFT to become RIGHT."""
    changes = _store(profile).diff(left, right)
    signs = {"added": "+", "removed": "-", "changed": "~"}
    lines = [f"{signs[change.kind]} {change.path}" for change in changes]
    emit(changes, lines or "no difference", as_json=as_json)


@data_app.command()
def ls(
    ref: RefArgument = "main",
    prefix: Annotated[str, typer.Argument(help="A folder; default: all.")] = "",
    profile: ProfileOption = "local",
    as_json: JsonOption = False,
) -> None:
    """List the objects of a commit: size in bytes, SHA-256, path."""
    from components.errors import NotFoundError, nearest

    store = _store(profile)
    entries = store.ls(ref, prefix)
    if prefix and not entries:
        folders = sorted({entry.path.partition("/")[0] for entry in store.ls(ref)})
        raise NotFoundError(
            f"nothing in {ref!r} is below {prefix!r}{nearest(prefix, folders)}",
            accepted=", ".join(folders) or "none yet",
            next_step=f"trilha data ls {ref}",
        )
    rows = [{"size": f"{entry.size:>13,}", "sha256": entry.sha256[:12], "path": entry.path} for entry in entries]
    emit(entries, columns(rows, ["size", "sha256", "path"]), as_json=as_json)


@data_app.command()
def get(
    ref: RefArgument,
    path: Annotated[str, typer.Argument(help="An object, as `trilha data ls` lists it.")],
    to: Annotated[Path | None, typer.Option(help="Copy it to this file or folder.")] = None,
    profile: ProfileOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Print where an object can be read on this machine, or copy it."""
    found = _store(profile).local(ref, path)
    if to is not None:
        copy = to / Path(path).name if to.is_dir() else to
        save(copy, found, "--to")
        found = copy
    emit({"path": str(found)}, str(found), as_json=as_json)


@data_app.command()
def tag(
    name: Annotated[str, typer.Argument(help="The tag; it names its commit for good.")],
    ref: RefArgument,
    profile: ProfileOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Name a commit for good."""
    store = _store(profile)
    store.tag(name, ref)
    commit = store.resolve(name).id
    emit({"tag": name, "commit": commit}, f"{name} is {commit[:12]}", as_json=as_json)


@data_app.command()
def revert(
    ref: RefArgument,
    branch: Annotated[str, typer.Option(help="Where the new commit goes.")] = "main",
    profile: ProfileOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Undo what the commit REF changed, by a new commit; history stays."""
    from components.records import digest
    from components.tables import MAIN

    store = _store(profile)
    undone, head = store.resolve(ref), store.resolve(branch)
    # The same order on another head is another one: a commit that was undone, and made again, can be undone again.
    key = digest({"revert": undone.id, "onto": head.id})
    title = undone.message.partition("\n")[0]
    made = store.revert(branch, undone.id, message=f"Undo {undone.id[:12]}: {title}", key=key)
    lines = [f"{branch} is at {made.id[:12]}, without what {undone.id[:12]} changed ({title})"]
    if branch == MAIN:
        lines.append("the next run publishes what the sources hold: correct them, or trilha run PROJECT --commit main")
    emit(made, lines, as_json=as_json)
