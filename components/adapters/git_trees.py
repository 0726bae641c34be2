"""Git trees as maps from path to blob: what differs between two, one with some paths changed, three merged.

All leave alone every folder that is the same on both sides, so that their cost follows what changed and not what is
there. A blob or tree id is 20 raw bytes; None stands for nothing.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import TypeAlias

import pygit2
from pygit2.enums import FileMode

from components.errors import ConflictError

Id: TypeAlias = bytes | None

_ENTRY = re.compile(rb"[0-7]+ [^\0]+\0.{20}", re.DOTALL)
"""One entry of a tree object: mode, name, id. Entries are taken apart only where two trees differ."""
_FOLDER = b"40000"
_NOTHING: tuple[Id, Id] = (None, None)


def at(tree: pygit2.Tree, path: str) -> pygit2.Object | None:
    """The object or the folder at `path`; None where there is nothing."""
    try:
        return tree[path]
    except KeyError:
        return None


def differences(repo: pygit2.Repository, left: Id, right: Id, prefix: str = "") -> Iterator[tuple[str, Id, Id]]:
    """Path, left blob and right blob wherever the trees `left` and `right` differ, in the order of Git's trees."""
    if left == right:
        return
    old, new = _changed(_entries(repo, left), _entries(repo, right))
    for name in sorted(old.keys() | new.keys()):
        (left_blob, left_folder), (right_blob, right_folder) = old.get(name, _NOTHING), new.get(name, _NOTHING)
        if left_blob != right_blob:
            yield prefix + _text(name), left_blob, right_blob
        yield from differences(repo, left_folder, right_folder, f"{prefix}{_text(name)}/")


def merged(repo: pygit2.Repository, base: Id, ours: Id, theirs: Id, clash: list[str], prefix: str = "") -> Id:
    """The tree `ours` with what changed between `base` and `theirs`: a three-way merge by path.

    Args:
        repo: holds the trees.
        base: the tree that both sides started from.
        ours: one side.
        theirs: the other side.
        clash: gets the paths that both sides changed in different ways; the result is of no use then.
        prefix: the folder that the trees stand for, with its slash.

    Raises:
        ConflictError: a path would be an object and a folder at once.
    """
    if theirs in {base, ours}:
        return ours
    if ours == base:
        return theirs
    start = _entries(repo, base)
    old_there, there = _changed(start, _entries(repo, theirs))
    old_here, here = _changed(start, _entries(repo, ours))
    builder = _builder(repo, ours)
    for name in old_there.keys() | there.keys():
        old, new = old_there.get(name, _NOTHING), there.get(name, _NOTHING)
        path = prefix + _text(name)
        if name in old_here or name in here:  # both sides changed it
            own = here.get(name, _NOTHING)
            if new[0] != old[0] and own[0] not in {old[0], new[0]}:
                clash.append(path)
            blob = own[0] if new[0] == old[0] else new[0]
            new = (blob, merged(repo, old[1], own[1], new[1], clash, f"{path}/"))
        _put(builder, name, new, path)
    return _written(builder)


def edited(repo: pygit2.Repository, tree: Id, edits: Mapping[str, Id], prefix: str = "") -> Id:
    """The tree that `tree` becomes when each path of `edits` gets its blob, or is removed; None if nothing is left.

    Raises:
        ConflictError: a path would be an object and a folder at once.
    """
    builder = _builder(repo, tree)
    inner: dict[str, dict[str, Id]] = defaultdict(dict)
    here: dict[str, Id] = {}
    for path, blob in edits.items():
        name, slash, rest = path.partition("/")
        if slash:
            inner[name][rest] = blob
        else:
            here[name] = blob
    for name in inner.keys() | here.keys():
        blob, folder = _get(builder, name)
        folder = edited(repo, folder, inner[name], f"{prefix}{name}/") if name in inner else folder
        _put(builder, name.encode(), (here.get(name, blob), folder), prefix + name)
    return _written(builder)


def _entries(repo: pygit2.Repository, tree: Id) -> set[bytes]:
    return set(_ENTRY.findall(repo.read(_oid(tree))[1])) if tree else set()


def _changed(old: set[bytes], new: set[bytes]) -> tuple[dict[bytes, tuple[Id, Id]], dict[bytes, tuple[Id, Id]]]:
    """What is only in the one, and only in the other: name -> (blob, None) or (None, folder)."""

    def by_name(entries: set[bytes]) -> dict[bytes, tuple[Id, Id]]:
        found: dict[bytes, tuple[Id, Id]] = {}
        for entry in entries:
            mode, _, rest = entry.partition(b" ")
            name, _, id_ = rest.partition(b"\0")
            found[name] = (None, id_) if mode == _FOLDER else (id_, None)
        return found

    return by_name(old - new), by_name(new - old)


def _builder(repo: pygit2.Repository, tree: Id) -> pygit2.TreeBuilder:
    return repo.TreeBuilder(_oid(tree)) if tree else repo.TreeBuilder()


def _get(builder: pygit2.TreeBuilder, name: str) -> tuple[Id, Id]:
    there = builder.get(name)
    if there is None:
        return _NOTHING
    return (None, there.id.raw) if there.filemode == FileMode.TREE else (there.id.raw, None)


def _put(builder: pygit2.TreeBuilder, name: bytes, entry: tuple[Id, Id], path: str) -> None:
    blob, folder = entry
    if blob and folder:
        raise ConflictError(f"{path!r} would be an object and a folder at once")
    if blob:
        builder.insert(_text(name), _oid(blob), FileMode.BLOB)
    elif folder:
        builder.insert(_text(name), _oid(folder), FileMode.TREE)
    elif builder.get(_text(name)) is not None:
        builder.remove(_text(name))


def _written(builder: pygit2.TreeBuilder) -> Id:
    return builder.write().raw if len(builder) else None


def _oid(raw: bytes) -> pygit2.Oid:
    return pygit2.Oid(raw=raw)


def _text(name: bytes) -> str:
    return name.decode(errors="surrogateescape")
