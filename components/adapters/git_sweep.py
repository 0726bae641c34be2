"""What of the git data store nothing needs: objects, branches of ingests that came to nothing, loose objects of Git.

An object is needed where a commit names it whose tree is to be read: each head, each tag, what a branch was of late,
and the commits that are needed by name. History stays as it is: an older commit is in the log, its bytes are gone.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import pygit2
from pygit2.enums import ObjectType

from components.adapters.git_lfs import ATTRIBUTES_PATH, EMPTY
from components.adapters.git_trees import differences
from components.adapters.object_folder import ObjectFolder
from components.errors import UnavailableError
from components.ports import Entry, Leftover

if TYPE_CHECKING:
    from components.adapters.git_trees import Id

HEADS: Final = "refs/heads/"
INGESTS: Final = f"{HEADS}ingest/"
UNREACHABLE: Final = "unreachable"
_PRUNED: Final = re.compile(r"([0-9a-f]{40,64}) \w+")
_IDS: Final = (pygit2.GIT_OID_HEXSZ,)


class GitSweep:
    """A `Sweep`.

    Args:
        path: the bare repository.
        objects: its objects.
        lock: keeps other writers out.
        entry: what a pointer stands for, by its blob.
        needed: names, ids of commits among them.
        before: POSIX seconds.
        going: references that are as good as gone.
    """

    def __init__(
        self,
        path: Path,
        objects: ObjectFolder,
        lock: Callable[[], AbstractContextManager[object]],
        entry: Callable[[str, bytes], Entry],
        needed: Collection[str],
        before: float,
        going: Collection[str],
    ) -> None:
        self._path = path
        self._objects = objects
        self._lock = lock
        self._entry = entry
        self._needed = needed
        self._before = before
        self._going = going
        self._repo = pygit2.Repository(str(path))

    def leftovers(self) -> list[Leftover]:
        branches = [
            Leftover("branch", name, f"branch {name.removeprefix(HEADS)}", 0)
            for name in self._repo.references
            if self._is_abandoned(name)
        ]
        kept = self._kept()
        gone = {
            sha256: stat.st_size
            for sha256, stat in self._objects.all()
            if stat.st_mtime < self._before and sha256 not in kept
        }
        names = self._names(gone.keys()) if gone else {}
        objects = [
            Leftover("object", sha256, names.get(sha256, f"object {sha256[:12]}, of no commit"), size)
            for sha256, size in gone.items()
        ]
        loose = self._prunable()
        size = sum(map(self._size, loose))
        git = [Leftover("git", UNREACHABLE, f"{len(loose)} objects of Git's own that nothing leads to", size)]
        return branches + sorted(objects, key=lambda one: one.name) + (git if loose else [])

    def discard(self, leftovers: Sequence[Leftover]) -> list[Leftover]:
        """All at once, as nobody may name or merge an older commit meanwhile."""
        kinds = {leftover.kind for leftover in leftovers}
        with self._lock():
            kept = self._kept() if "object" in kinds else set()
            gone = [leftover for leftover in leftovers if self._discard(leftover, kept)]
            if "git" in kinds:
                self._prune()
        return gone

    def _discard(self, leftover: Leftover, kept: Collection[str]) -> bool:
        if leftover.kind == "branch":
            abandoned = self._is_abandoned(leftover.id)
            if abandoned:
                self._repo.references.delete(leftover.id)
            return abandoned
        if leftover.kind == "object":
            return leftover.id not in kept and self._objects.discard(leftover.id, self._before)
        return leftover.kind == "git"

    # --- what is needed -----------------------------------------------------------------------------------------------

    def _is_abandoned(self, reference: str) -> bool:
        """Whether it is a branch of an ingest that nobody moved, made or needs since."""
        found = self._repo.references.get(reference) if reference.startswith(INGESTS) else None
        if found is None:
            return False
        head = found.peel(pygit2.Commit)
        return self._used(reference, head) < self._before and str(head.id) not in self._needed

    def _used(self, reference: str, head: pygit2.Commit) -> float:
        """When a branch was moved last; where Git has packed its name away, when its head was made."""
        try:
            return max(head.commit_time, (self._path / reference).stat().st_mtime)
        except FileNotFoundError:
            return float(head.commit_time)

    def _kept(self) -> set[str]:
        """The SHA-256 of every object that is needed."""
        found, seen = {EMPTY}, set[bytes]()
        for commit in self._commits():
            found |= {self._entry(path, blob).sha256 for path, blob in self._blobs(commit.tree_id.raw, seen)}
        return found

    def _commits(self) -> Iterator[pygit2.Commit]:
        """The commits whose trees are to be read."""
        for name in self._repo.references:
            if name in self._going or self._is_abandoned(name):
                continue
            commit = self._repo.references[name].peel(pygit2.Commit)
            yield commit
            while name.startswith(HEADS) and commit.parent_ids and commit.commit_time >= int(self._before):
                commit = cast("pygit2.Commit", self._repo[commit.parent_ids[0]])  # the branch's head until then
                yield commit
        yield from map(self._repo.__getitem__, self._named())

    def _named(self) -> list[pygit2.Oid]:
        """The commits that are needed by name and are there."""
        ids = [pygit2.Oid(hex=name) for name in self._needed if len(name) in _IDS]
        return [id_ for id_ in ids if id_ in self._repo and self._repo[id_].type == ObjectType.COMMIT]

    def _blobs(self, tree: bytes, seen: set[bytes]) -> Iterator[tuple[str, bytes]]:
        """The pointers below a tree that was not seen before; folders that many commits share are read once."""
        if tree in seen:
            return
        seen.add(tree)
        for entry in cast("pygit2.Tree", self._repo[pygit2.Oid(raw=tree)]):
            if entry.type == ObjectType.TREE:
                yield from self._blobs(entry.id.raw, seen)
            elif entry.name != ATTRIBUTES_PATH:
                yield str(entry.name), entry.id.raw

    # --- what it is called --------------------------------------------------------------------------------------------

    def _names(self, wanted: Collection[str]) -> dict[str, str]:
        """SHA-256 -> the path and the commit that brought the object in."""
        found: dict[str, str] = {}
        heads = {self._repo.references[name].peel(pygit2.Commit).id for name in self._repo.references}
        walker = self._repo.walk(None)
        for head in heads:
            walker.push(head)
        for commit in walker:
            parent: Id = commit.parents[0].tree_id.raw if commit.parents else None
            for path, _, blob in differences(self._repo, parent, commit.tree_id.raw):
                sha256 = self._entry(path, blob).sha256 if blob and path != ATTRIBUTES_PATH else ""
                if sha256 in wanted:
                    found[sha256] = f"{path} of commit {commit.short_id}"
        return found

    # --- Git's own ----------------------------------------------------------------------------------------------------

    def _prunable(self) -> list[str]:
        return [match[1] for line in self._prune("--dry-run").splitlines() if (match := _PRUNED.match(line))]

    def _prune(self, *options: str) -> str:
        """What `git prune` says; it goes by the time of change, which libgit2 renews for what is written again."""
        command = ["git", "prune", *options, f"--expire=@{int(self._before) - 1}", *map(str, self._named())]
        try:
            done = subprocess.run(command, cwd=self._path, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            said = str(getattr(error, "stderr", "") or error).strip()
            raise UnavailableError(f"git prune in {self._path}: {said}", next_step="trilha doctor") from error
        return done.stdout

    def _size(self, name: str) -> int:
        """The bytes of a loose object."""
        try:
            return (self._path / "objects" / name[:2] / name[2:]).stat().st_size
        except FileNotFoundError:
            return 0
