"""Which commit of a branch carries a key, without reading the whole branch each time: a stream adds thousands a day."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, cast

from components.adapters.git_lfs import from_text

if TYPE_CHECKING:
    import pygit2

LINES = 4
"""Branches that are remembered."""


class _Line:
    """The first parents of a commit, oldest first: their ids and keys, and where each is."""

    def __init__(self) -> None:
        self.commits: list[tuple[bytes, str | None]] = []
        self.places: dict[bytes, int] = {}
        self.keys: dict[str, list[int]] = {}

    def cut(self, place: int) -> None:
        """Forget what comes after `place`."""
        for id_, key in self.commits[place + 1 :]:
            del self.places[id_]
            if key is not None:
                self.keys[key].pop()
        del self.commits[place + 1 :]

    def add(self, id_: bytes, key: str | None) -> None:
        self.places[id_] = len(self.commits)
        if key is not None:  # which others' commits have none of
            self.keys.setdefault(key, []).append(len(self.commits))
        self.commits.append((id_, key))


class Keys:
    """What was read of a few branches. Threads may share it."""

    def __init__(self) -> None:
        self._lines: list[_Line] = []
        self._lock = threading.Lock()

    def find(self, repo: pygit2.Repository, head: pygit2.Commit, key: str) -> pygit2.Commit | None:
        """The newest commit with `key` among `head` and its first parents."""
        with self._lock:
            new, line, place = self._read(repo, head)
            if line is None:
                line, place = _Line(), -1
                self._lines = [line, *self._lines[: LINES - 1]]
            if len(new) >= len(line.commits) - 1 - place:  # the branch itself, or another that is as long from there on
                line.cut(place)
                for id_, its_key in reversed(new):
                    line.add(id_, its_key)
                new, place = [], len(line.commits) - 1
            found = next((id_ for id_, its_key in new if its_key == key), None)
            there = [one for one in line.keys.get(key, ()) if one <= place]
            if found is None and there:
                found = line.commits[there[-1]][0]
        return cast("pygit2.Commit", repo[found.hex()]) if found is not None else None

    def _read(
        self, repo: pygit2.Repository, head: pygit2.Commit
    ) -> tuple[list[tuple[bytes, str | None]], _Line | None, int]:
        """The commits, newest first, down to one that is remembered; the line that has it, and its place there."""
        new: list[tuple[bytes, str | None]] = []
        commit = head
        while True:
            for line in self._lines:
                place = line.places.get(commit.id.raw)
                if place is not None:
                    return new, line, place
            new.append((commit.id.raw, from_text(commit.message)[1]))
            if not commit.parent_ids:
                return new, None, -1
            commit = cast("pygit2.Commit", repo[commit.parent_ids[0]])
