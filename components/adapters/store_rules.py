"""What every data store holds to: the names it accepts, and how the content of a commit is summed up in one digest."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from components.errors import ConfigError, ConflictError, GateError
from components.ports import Entry

MAIN = "main"
"""The branch that every store has."""
VALIDATION = "validation"
"""The metadata of a merge into `main` that names what found the data good."""

ACCEPTED = (
    "a-z, 0-9, '.', '_', '-' and '/'; each part starts with a letter or digit and ends in neither '.' nor '.lock'"
)
LONGEST = 200

_PART = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9_-])?")
_COMMIT_ID = re.compile(r"[0-9a-f]{7,64}")


def check_name(name: str, what: str) -> str:
    """`name`, if a path or a ref may be called so.

    Lower case only, so that no two names fall together on a file system that folds case; the rest is what Git, lakeFS
    and URLs all take as it is.

    Raises:
        ConfigError: it may not.
    """
    parts = name.split("/")
    if (
        len(name) > LONGEST
        or ".." in name
        or not all(_PART.fullmatch(part) and not part.endswith(".lock") for part in parts)
    ):
        raise ConfigError(f"{what} {name!r}", accepted=ACCEPTED)
    return name


def check_new_ref(name: str, what: str) -> str:
    """`name`, if a branch or a tag may be called so: also nothing that could be taken for a commit id."""
    if is_commit_id(name):
        raise ConfigError(f"{what} {name!r} could be a commit id", accepted="a name that is not all hexadecimal digits")
    return check_name(name, what)


def is_commit_id(ref: str) -> bool:
    """Whether `ref` can be a commit id, or the first seven digits or more of one."""
    return _COMMIT_ID.fullmatch(ref) is not None


def check_edits(puts: Mapping[str, Path], deletes: Sequence[str]) -> None:
    """Refuse a commit whose paths are not accepted, or that puts and deletes the same path."""
    for path in [*puts, *deletes]:
        check_name(path, "path")
    both = sorted(puts.keys() & set(deletes))
    if both:
        raise ConfigError(f"path {both[0]!r} is both put and deleted", accepted="one or the other")


def check_validated(source: str, into: str, metadata: Mapping[str, str]) -> None:
    """Refuse a merge into `main` that did not come through the gate.

    Raises:
        GateError: it does not say what found its data good.
    """
    if into == MAIN and not metadata.get(VALIDATION):
        raise GateError(
            f"{source!r} was not validated", accepted=f"a merge into {MAIN!r} by a run", next_step="trilha run PROJECT"
        )


def tree_digest(entries: Iterable[Entry]) -> str:
    """SHA-256 of what `sha256sum` would print for the entries, sorted by path."""
    lines = (f"{entry.sha256}  {entry.path}\n" for entry in sorted(entries, key=lambda entry: entry.path))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def conflict(sides: str, paths: Sequence[str]) -> ConflictError:
    """The error for `sides` that changed the same `paths` in different ways."""
    named = ", ".join(map(repr, paths[:5])) + (", ..." if len(paths) > 5 else "")
    return ConflictError(
        f"{sides} both changed {named}",
        accepted="changes of different paths",
        next_step="make the change again on top of the newest commit",
        details="\n".join(paths),
    )
