"""What of a lakeFS repository nothing needs, as far as its API lets: branches, with what was uploaded to them.

lakeFS deletes bytes by a job of its own, by the rules that its repository has (`lakectl gc set-config`): those that no
branch has held for so many days. Tags hold nothing there (treeverse/lakeFS#7621), so each tag has a hidden branch
beside it, which does: after `trilha gc`, that job takes what nothing needs, and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from typing import Final

import lakefs
from lakefs.exceptions import NotFoundException

from components.adapters.lakefs_landing import Landing
from components.adapters.lakefs_parts import Parts
from components.adapters.lakefs_terms import KEY, border
from components.adapters.object_folder import ObjectFolder
from components.adapters.store_rules import MAIN
from components.ports import Leftover

INGESTS: Final = "ingest/"
_UPLOAD: Final = re.compile(r"T[0-9a-f]{16}-(?:([0-9a-f]{8})[0-9a-f]{32}|[0-9a-f]+)")
"""The hidden branch of a commit that is being made, with the second it was made in; earlier ones do not say it."""
_HOLDS: Final = "K"
"""How the names of the hidden branches begin that hold what a tag names."""


class LakeFSSweep:
    """A `Sweep`.

    Args:
        url: the server's.
        repository: the SDK's.
        landing: its branches.
        parts: what is uploaded in parts.
        cache: the objects that are staged on this machine.
        needed: names, ids of commits among them.
        before: POSIX seconds.
    """

    def __init__(
        self,
        url: str,
        repository: lakefs.Repository,
        landing: Landing,
        parts: Parts,
        cache: ObjectFolder,
        needed: Collection[str],
        before: float,
    ) -> None:
        self._url = url
        self._repo = repository
        self._landing = landing
        self._parts = parts
        self._cache = cache
        self._needed = needed
        self._before = before

    def leftovers(self) -> list[Leftover]:
        copies = [
            Leftover("copy", sha256, f"copy of object {sha256[:12]}", stat.st_size)
            for sha256, stat in self._cache.all()
            if stat.st_mtime < self._before
        ]
        with border(self._url):
            return [*self._branches(), *self._uploads(), *self._parts.leftovers(self._before), *copies]

    def discard(self, leftovers: Sequence[Leftover]) -> list[Leftover]:
        with border(self._url):
            self._hold_tags()
            return [leftover for leftover in leftovers if self._discard(leftover)]

    def _discard(self, leftover: Leftover) -> bool:
        if leftover.kind == "copy":
            return self._cache.discard(leftover.id, self._before)
        if leftover.kind == "part":
            now = self._parts.leftovers(self._before)
        else:
            now = self._branches() if leftover.kind == "branch" else self._uploads()
        if leftover.id not in {one.id for one in now}:
            return False
        if leftover.kind == "part":
            self._parts.discard(leftover.id)
            return True
        with suppress(NotFoundException):
            self._repo.branch(leftover.id).delete()
        return True

    # --- branches -----------------------------------------------------------------------------------------------------

    def _branches(self) -> Iterator[Leftover]:
        """Those of ingests whose commit nobody needs; one without a commit of its own may have been made just now."""
        published = {commit.id for commit in self._repo.ref(MAIN).log(first_parent=True)}
        for name in self._landing.branches(INGESTS):
            branch, head = self._landing.branch(name), self._landing.head(name)
            if head.creation_date < self._before and head.id not in {*self._needed, *published}:
                changes = self._repo.ref(MAIN).diff(head.id, type="three_dot")
                yield Leftover("branch", branch.id, f"branch {name}", sum(one.size_bytes or 0 for one in changes))

    def _uploads(self) -> Iterator[Leftover]:
        """Hidden branches that killed commits left."""
        for branch in self._repo.branches(prefix="T", show_hidden=True):
            named = _UPLOAD.fullmatch(branch.id)
            if named is None:
                continue
            with suppress(NotFoundException):  # it is gone by now
                staged = [one for one in branch.uncommitted() if one.type != "removed"]
                moments = [branch.object(one.path).stat().mtime for one in staged]
                if named[1]:
                    moments.append(int(named[1], 16))
                head = branch.get_commit()
                if head.parents and KEY not in (head.metadata or {}):  # its own: what is on a branch has a key
                    moments.append(head.creation_date)
                if moments and max(moments) < self._before:
                    size = sum(one.size_bytes or 0 for one in staged)
                    yield Leftover("upload", branch.id, f"uploads of a commit that never came, {branch.id}", size)

    # --- tags ---------------------------------------------------------------------------------------------------------

    def _hold_tags(self) -> None:
        """Tags of before, or of others, get theirs."""
        there = {branch.id for branch in self._repo.branches(prefix=_HOLDS, show_hidden=True)}
        for tag in self._repo.tags():
            if f"{_HOLDS}{tag.id}" not in there:
                hold(self._repo, tag.id, tag.get_commit().id)


def hold(repository: lakefs.Repository, tag: str, commit: str) -> None:
    """Have lakeFS keep the bytes of what a tag names."""
    repository.branch(f"{_HOLDS}{tag}").create(commit, exist_ok=True, hidden=True)


def let_go(repository: lakefs.Repository, tag: str) -> None:
    """The opposite."""
    with suppress(NotFoundException):
        repository.branch(f"{_HOLDS}{tag}").delete()
