"""The embedded data store: a bare Git repository driven by libgit2, whose files are Git LFS pointers.

The objects lie in the repository's `lfs/objects` as plain read-only files, so DuckDB and Arrow scan them in place, and
any `git` with `git lfs` can clone the data. As with stock Git, the objects are forced to the disk before a commit names
them; Git's own small files are left to the file system.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pygit2

from components import config, profile
from components.adapters import git_hook
from components.adapters.git_keys import Keys
from components.adapters.git_lfs import ATTRIBUTES, ATTRIBUTES_PATH, from_pointer, from_text, to_pointer, to_text
from components.adapters.git_sweep import GitSweep
from components.adapters.git_trees import Id, at, differences, edited, merged
from components.adapters.object_folder import ObjectFolder
from components.adapters.store_rules import (
    MAIN,
    check_edits,
    check_name,
    check_new_ref,
    check_validated,
    conflict,
    is_commit_id,
    tree_digest,
)
from components.disk import disk_full, is_full
from components.errors import ConfigError, ConflictError, NotFoundError, UnavailableError
from components.ports import NOWHERE, Address, Change, Entry, Revision

if TYPE_CHECKING:
    from components.workspace import Workspace

HEADS, TAGS = "refs/heads/", "refs/tags/"
NAME, EMAIL = "Trilha", "trilha@localhost"
STALE = 5.0
"""Seconds after which a reference's lock file is what a killed process left: libgit2 holds one for microseconds."""


def open_store(workspace: Workspace) -> GitStore:
    """The store at the profile's `store.path`; made where there is none."""
    settings = cast("profile.GitStore", workspace.profile.store)
    return GitStore(config.root() / settings.path)


class GitStore:
    """A `DataStore` in one folder. It may be shared by threads and by processes of one machine.

    Args:
        path: the bare repository; made where there is none.

    Raises:
        UnavailableError: the folder is something else, or belongs to somebody else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._objects = ObjectFolder(path / "lfs")
        self._opened = threading.local()
        self._pointers: dict[bytes, tuple[str, int]] = {}
        self._keys = Keys()
        try:
            if not (path / "HEAD").exists() or HEADS + MAIN not in self._repo.references:
                self._initialize()
        except (pygit2.GitError, OSError) as error:
            if is_full(error):
                raise disk_full(path) from error
            raise UnavailableError(
                f"the data store {path} cannot be opened: {error}",
                accepted="a bare Git repository of your own, or a folder that is not there yet",
                next_step="correct store.path in the profile, or the folder's owner",
            ) from error

    # --- reading ------------------------------------------------------------------------------------------------------

    def resolve(self, ref: str) -> Revision:
        return _revision(self._commit(ref))

    def branches(self, prefix: str = "") -> list[str]:
        return self._refs(HEADS + prefix, HEADS)

    def tags(self) -> dict[str, str]:
        return {name: str(self._commit(name).id) for name in self._refs(TAGS, TAGS)}

    def log(self, ref: str) -> Iterator[Revision]:
        return map(_revision, self._line(self._commit(ref)))

    def diff(self, left: str, right: str) -> list[Change]:
        found = differences(self._repo, self._commit(left).tree_id.raw, self._commit(right).tree_id.raw)
        changes = (
            Change(path, "added" if old is None else "removed" if new is None else "changed")
            for path, old, new in found
            if path != ATTRIBUTES_PATH
        )
        return sorted(changes, key=lambda change: change.path)

    def ls(self, ref: str, prefix: str = "") -> list[Entry]:
        tree = self._commit(ref).tree
        if not prefix:
            return self._entries(tree.id.raw)
        folder = check_name(prefix.removesuffix("/"), "prefix")
        inner = at(tree, folder)
        return self._entries(inner.id.raw, f"{folder}/") if isinstance(inner, pygit2.Tree) else []

    def local(self, ref: str, path: str) -> Path:
        blob = at(self._commit(ref).tree, check_name(path, "path"))
        if not isinstance(blob, pygit2.Blob):
            raise NotFoundError(f"no {path!r} in {ref!r}", next_step=f"trilha data ls {ref}")
        entry = self._entry(path, blob.id.raw)
        self._check_held(entry, ref)
        return self._objects.path(entry.sha256)

    def has(self, ref: str) -> bool:
        try:
            return all(self._objects.holds(entry.sha256, entry.size) for entry in self.ls(ref))
        except (NotFoundError, KeyError, pygit2.GitError):  # the commit, or a tree or pointer of it
            return False

    def tree(self, ref: str) -> str:
        return tree_digest(self.ls(ref))

    # --- writing ------------------------------------------------------------------------------------------------------

    def branch(self, name: str, source: str) -> None:
        self._name(HEADS + check_new_ref(name, "branch"), self._commit(source).id)

    def tag(self, name: str, ref: str) -> None:
        self._name(TAGS + check_new_ref(name, "tag"), self._commit(ref).id)

    def untag(self, name: str) -> None:
        with self._lock(), suppress(KeyError):
            self._repo.references.delete(TAGS + check_name(name, "tag"))

    def delete_branch(self, name: str) -> None:
        if check_name(name, "branch") == MAIN:
            raise ConfigError(f"branch {MAIN!r} stays", accepted="any other branch")
        with self._lock(), suppress(KeyError):
            self._repo.references.delete(HEADS + name)

    def commit(
        self,
        branch: str,
        puts: Mapping[str, Path],
        *,
        deletes: Sequence[str] = (),
        message: str,
        metadata: Mapping[str, str],
        key: str,
        expected: str | None = None,
        move: bool = False,
        addresses: Mapping[str, Address] = NOWHERE,  # noqa: ARG002  # this store has no other place for an object
    ) -> Revision:
        check_edits(puts, deletes)
        done = self._done(branch, key, expected)
        if done:
            return done
        entries = self._objects.take(puts, move=move)
        edits = {entry.path: self._repo.create_blob(to_pointer(entry)).raw for entry in entries}

        def change(head: pygit2.Commit) -> Id:
            for path in deletes:
                if not isinstance(at(head.tree, path), pygit2.Blob):
                    raise NotFoundError(f"no {path!r} to delete in {branch!r}", next_step=f"trilha data ls {branch}")
            return edited(self._repo, head.tree_id.raw, {**edits, **dict.fromkeys(deletes)})

        return self._advance(branch, change, to_text(message, key, metadata), key, expected=expected)

    def merge(self, source: str, into: str, *, message: str, metadata: Mapping[str, str], key: str) -> Revision:
        check_validated(source, into, metadata)
        theirs = self._commit(source)

        def change(head: pygit2.Commit) -> Id:
            base = self._repo.merge_base(head.id, theirs.id)
            old = self._repo[base].peel(pygit2.Tree).id.raw if base else None
            return self._merged(old, head, theirs, f"{source!r} and {into!r}")

        return self._advance(into, change, to_text(message, key, metadata), key, other=theirs)

    def revert(self, branch: str, ref: str, *, message: str, key: str) -> Revision:
        undone = self._commit(ref)
        if not undone.parents:
            raise ConfigError(f"{ref!r} is the first commit", accepted="a commit that changed something")

        def change(head: pygit2.Commit) -> Id:
            sides = f"{ref!r} and a later commit on {branch!r}"
            tree = self._merged(undone.tree_id.raw, head, undone.parents[0], sides)
            for path, _, blob in differences(self._repo, head.tree_id.raw, tree):
                if blob and path != ATTRIBUTES_PATH:
                    self._check_held(self._entry(path, blob), str(undone.parents[0].id))
            return tree

        return self._advance(branch, change, to_text(message, key, {}), key)

    def sweep(self, needed: Collection[str], before: float, going: Collection[str] = ()) -> GitSweep:
        gone = {f"{TAGS}{tag}" for tag in going}
        return GitSweep(self._path, self._objects, self._lock, self._entry, needed, before, gone)

    # --- inside -------------------------------------------------------------------------------------------------------

    @property
    def _repo(self) -> pygit2.Repository:
        """The calling thread's own handle: libgit2's are not to be shared."""
        if not hasattr(self._opened, "repo"):
            self._opened.repo = pygit2.Repository(str(self._path))
        return cast("pygit2.Repository", self._opened.repo)

    def _initialize(self) -> None:
        self._path.mkdir(parents=True, exist_ok=True)
        with self._lock():
            repo = pygit2.init_repository(str(self._path), bare=True, initial_head=MAIN)
            if HEADS + MAIN in repo.references:  # another process was here first
                return
            tree = edited(repo, None, {ATTRIBUTES_PATH: repo.create_blob(ATTRIBUTES).raw})
            self._objects.take({"nothing": Path(os.devnull)}, move=False)  # Git LFS sends none for an empty file
            self._write(HEADS + MAIN, tree, "Begin", [])

    def _lock(self) -> AbstractContextManager[object]:
        """Keep other writers of this machine out. The kernel lets go of it when a process dies."""
        from filelock import FileLock

        return FileLock(self._path / "trilha.lock", thread_local=False)

    def _refs(self, start: str, kind: str) -> list[str]:
        return sorted(name.removeprefix(kind) for name in self._repo.references if name.startswith(start))

    def _head(self, branch: str) -> pygit2.Commit:
        reference = self._repo.references.get(HEADS + check_name(branch, "branch"))
        if reference is None:
            raise NotFoundError(f"no branch {branch!r}", accepted=", ".join(self.branches()[:20]))
        return reference.peel(pygit2.Commit)

    def _commit(self, ref: str) -> pygit2.Commit:
        check_name(ref, "ref")
        for kind in (HEADS, TAGS):
            reference = self._repo.references.get(kind + ref)
            if reference is not None:
                return reference.peel(pygit2.Commit)
        found = None
        if is_commit_id(ref) and len(ref) <= pygit2.GIT_OID_HEXSZ:
            with suppress(ValueError):  # more than one object starts so
                found = self._repo.get(ref)
        if not isinstance(found, pygit2.Commit):
            raise NotFoundError(f"no branch, tag or commit {ref!r}", next_step="trilha data log")
        return found

    def _line(self, commit: pygit2.Commit) -> Iterator[pygit2.Commit]:
        """First parents, newest first."""
        yield commit
        while commit.parent_ids:
            commit = cast("pygit2.Commit", self._repo[commit.parent_ids[0]])
            yield commit

    def _entries(self, tree: bytes, prefix: str = "") -> list[Entry]:
        """The objects under a tree, sorted by path."""
        blobs = ((path, blob) for path, _, blob in differences(self._repo, None, tree, prefix))
        entries = [self._entry(path, blob) for path, blob in blobs if blob and path != ATTRIBUTES_PATH]
        return sorted(entries, key=lambda entry: entry.path)

    def _entry(self, path: str, blob: bytes) -> Entry:
        """The entry of a pointer. Pointers do not change, and a run asks for the same ones again and again."""
        known = self._pointers.get(blob)
        if known is None:
            entry = from_pointer(path, self._repo.read(pygit2.Oid(raw=blob))[1])
            known = self._pointers[blob] = (entry.sha256, entry.size)
        return Entry(path, *known)

    def _check_held(self, entry: Entry, ref: str) -> None:
        if not self._objects.holds(entry.sha256, entry.size):
            raise NotFoundError(
                f"the bytes of {entry.path!r} in {ref!r} are gone: {self._objects.path(entry.sha256)}",
                next_step="run the project again: they will be made anew",
            )

    def _merged(self, base: Id, head: pygit2.Commit, other: pygit2.Commit, sides: str) -> Id:
        clash: list[str] = []
        tree = merged(self._repo, base, head.tree_id.raw, other.tree_id.raw, clash)
        if clash:
            raise conflict(sides, sorted(clash))
        return tree

    def _done(self, branch: str, key: str, expected: str | None) -> Revision | None:
        """The commit of `branch` that carries `key`; if none does, the head has to be as expected."""
        head = self._head(branch)
        found = self._keys.find(self._repo, head, key)
        if found is not None:
            return _revision(found)
        if expected is not None and str(head.id) != expected:
            raise ConflictError(
                f"branch {branch!r} is at {head.short_id}",
                accepted=expected,
                next_step="look at the newest commit and try again on top of it",
            )
        return None

    def _advance(
        self,
        branch: str,
        change: Callable[[pygit2.Commit], Id],
        text: str,
        key: str,
        *,
        expected: str | None = None,
        other: pygit2.Commit | None = None,
    ) -> Revision:
        """Put one commit on `branch` with the tree that `change` makes of its head, unless `key` is there already."""
        with self._lock():
            done = self._done(branch, key, expected)
            if done:
                return done
            head = self._head(branch)
            parents = [head.id, other.id] if other else [head.id]
            made = _revision(self._write(HEADS + branch, change(head), text, parents))
        git_hook.moved(self._path, HEADS + branch, str(head.id), made.id)
        return made

    def _write(self, reference: str, tree: Id, text: str, parents: list[pygit2.Oid]) -> pygit2.Commit:
        """Make a commit and point `reference` at it, if it still points at the first parent."""
        author = pygit2.Signature(NAME, EMAIL)
        self._break_lock(reference)
        assert tree is not None  # the attributes are in every tree
        try:
            commit = self._repo.create_commit(reference, author, author, text, pygit2.Oid(raw=tree), parents)
        except pygit2.GitError as error:  # a stock Git moved it in this very moment
            raise ConflictError(f"{reference} cannot be moved: {error}", next_step="try again") from error
        return cast("pygit2.Commit", self._repo[commit])

    def _name(self, reference: str, commit: pygit2.Oid) -> None:
        with self._lock():
            there = self._repo.references.get(reference)
            if there is None:
                self._break_lock(reference)
                try:
                    self._repo.references.create(reference, commit)
                except pygit2.GitError as error:
                    raise ConflictError(f"{reference} cannot be made: {error}") from error
            elif there.peel(pygit2.Commit).id != commit:
                raise ConflictError(
                    f"{reference} is at {there.target}", accepted=str(commit), next_step="choose another name"
                )

    def _break_lock(self, reference: str) -> None:
        """Wait for a stock Git that writes the same reference; drop the lock that a killed process left."""
        lock = self._path / f"{reference}.lock"
        with suppress(FileNotFoundError):
            while time.time() - lock.stat().st_mtime < STALE:
                time.sleep(0.05)
            lock.unlink()


def _revision(commit: pygit2.Commit) -> Revision:
    message, _, metadata = from_text(commit.message)
    return Revision(
        id=str(commit.id),
        parents=tuple(map(str, commit.parent_ids)),
        message=message,
        created=datetime.fromtimestamp(commit.commit_time, UTC).isoformat(),
        metadata=metadata,
    )
