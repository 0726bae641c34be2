"""What Trilha asks of the parts around it. Each Protocol is small; its contract is a suite in `tests/contracts/`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np

    from components.place import Stat
    from components.serve_settings import Triton


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of a commit: its path, its content's SHA-256 (hex), its size in bytes."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Change:
    """One path that differs between two commits."""

    path: str
    kind: Literal["added", "removed", "changed"]


@dataclass(frozen=True, slots=True)
class Revision:
    """One commit as the log shows it; `created` is UTC, ISO 8601. `metadata` holds strings only."""

    id: str
    parents: tuple[str, ...]
    message: str
    created: str
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a store's own object storage has an object already, and the storage's checksum of it."""

    physical: str
    checksum: str


NOWHERE: Mapping[str, Address] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Leftover:
    """What a store has and nothing needs: what it is and is called there, what people call it, its bytes."""

    kind: str
    id: str
    name: str
    size: int


class Sweep(Protocol):
    """What of one store nothing needs, and the way to be rid of it.

    It is made with the names that are needed, and a moment: what was made, changed or used since then stays.
    """

    def leftovers(self) -> list[Leftover]:
        """What nothing needs, in the order in which it is best removed."""

    def discard(self, leftovers: Sequence[Leftover]) -> list[Leftover]:
        """Remove it for good, and return what is gone; what is needed or was used meanwhile is not."""


class DataStore(Protocol):
    """A Git-like store of immutable commits. A `ref` is a branch, a tag, or a commit id (its first 7 digits will do).

    There is a branch `main`, which stays. A commit, merge or revert that changes nothing is made all the same: it
    carries its key. Metadata comes back as it was given.

    Every method raises `NotFoundError` for a ref or path that does not exist, `ConfigError` for a name outside the
    allow-list (`[a-z0-9][a-z0-9._/-]*`, no `..`), and `UnavailableError` when the store itself cannot be reached.
    """

    def resolve(self, ref: str) -> Revision:
        """The commit that `ref` names."""

    def branches(self, prefix: str = "") -> list[str]: ...

    def branch(self, name: str, source: str) -> None:
        """Make branch `name` at `source`; no error if it exists already and points there, else `ConflictError`."""

    def delete_branch(self, name: str) -> None:
        """Remove a branch; no error if it is gone already."""

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
        addresses: Mapping[str, Address] = NOWHERE,
    ) -> Revision:
        """Write the local files `puts` (path in the store -> file) and drop `deletes` in one atomic commit.

        The files are hashed and copied in one pass, or taken over without a copy where `move` allows it. Nothing is
        seen by any reader before the commit. A commit that already carries `key` on this branch is returned as it is.
        Of a path among `addresses` a store that can refers to the object there, and does not copy the file.

        Raises:
            ConflictError: the branch's head is not `expected`, where given.
        """

    def merge(self, source: str, into: str, *, message: str, metadata: Mapping[str, str], key: str) -> Revision:
        """Merge `source` into branch `into` atomically; a merge that already carries `key` is returned as it is.

        Raises:
            GateError: `into` is `main`, and no `validation` is in the metadata.
            ConflictError: both sides changed the same path since they parted; nothing is written.
        """

    def tag(self, name: str, ref: str) -> None:
        """Name a commit for good; no error if the tag is there already and names it, else `ConflictError`."""

    def tags(self) -> dict[str, str]: ...

    def untag(self, name: str) -> None:
        """Remove a tag; no error if it is gone already."""

    def diff(self, left: str, right: str) -> list[Change]:
        """What has to change in `left` to become `right`, sorted by path."""

    def log(self, ref: str) -> Iterator[Revision]:
        """First parents, newest first."""

    def ls(self, ref: str, prefix: str = "") -> list[Entry]:
        """The objects under `prefix` (a folder, or all), sorted by path; none where there is no such folder."""

    def local(self, ref: str, path: str) -> Path:
        """A local, read-only file with the object's bytes: the object itself, or a copy staged once by checksum.

        Raises:
            NotFoundError: also where the commit names the object but its bytes are gone.
        """

    def has(self, ref: str) -> bool:
        """Whether the commit and every object in it are there."""

    def revert(self, branch: str, ref: str, *, message: str, key: str) -> Revision:
        """A new commit on `branch` that undoes what the commit `ref` changed against its first parent.

        Raises:
            ConfigError: `ref` is the first commit, which has none.
            ConflictError: a later commit changed the same path.
            NotFoundError: the bytes of what would come back are gone.
        """

    def tree(self, ref: str) -> str:
        """SHA-256 over all paths and contents at `ref`, hex: the same in every store that holds the same data."""

    def sweep(self, needed: Collection[str], before: float, going: Collection[str] = ()) -> Sweep:
        """The objects that no commit needs that is there to be read, and branches of ingests that came to nothing.

        Branches, tags and the history of all of them stay, and so do the objects of each head, of each tag, of each
        commit in `needed`, and of what a branch was at any time since `before`. What an older commit held beside is
        gone then; the log still has it.

        Args:
            needed: names, ids of commits among them.
            before: POSIX seconds.
            going: tags that are as good as gone.
        """


class Tracker(Protocol):
    """Where trials are compared and models are registered."""

    def trial(
        self,
        *,
        experiment: str,
        name: str,
        key: str,
        parameters: Mapping[str, object],
        tags: Mapping[str, str],
    ) -> AbstractContextManager[TrialLog]:
        """A run that is started anew, or the finished one that carries `key`. Leaving with an error marks it failed."""

    def search(self, *, experiment: str, name: str, key: str, children: Sequence[str], tags: Mapping[str, str]) -> str:
        """The parent run that holds `children`, found by `key` or made; returns its id."""

    def register(self, *, name: str, run_id: str, graphs: Mapping[str, Path], key: str, tags: Mapping[str, str]) -> str:
        """A version of the registered model `name`, found by `key` or made; returns its number."""

    def point(self, *, name: str, alias: str, version: str) -> None:
        """Move the registry's alias; no effect where it points there already."""

    def pointed(self, *, name: str, alias: str) -> str | None:
        """The version that the alias names."""

    def url(self, run_id: str) -> str:
        """The page of a run for people."""


class TrialLog(Protocol):
    """What one trial writes into its run. Everything is buffered and sent in batches."""

    @property
    def run_id(self) -> str: ...

    @property
    def finished(self) -> bool:
        """Whether this run had been finished before (a crash came between the effect and its record)."""

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None: ...

    def dataset(self, name: str, commit: str, digest: str, source: str) -> None: ...

    def files(self, files: Sequence[Path], folder: str = "") -> None:
        """Attach files by their names, in `folder` of the run; they have to be there until the trial ends."""


class ModelServer(Protocol):
    """A Triton Inference Server under explicit model control."""

    @property
    def address(self) -> str:
        """`host:port` of its gRPC endpoint."""

    def targets(self) -> frozenset[str]:
        """The bundle targets this server can serve: `auto`, `full`."""

    def lacks(self, settings: Triton, target: str) -> dict[str, str]:
        """What of `settings` a bundle of `target` would not get here: setting -> what the server is without.

        Triton itself passes over some of them in silence, so it is asked to do what they say.
        """

    def publish(self, models: Mapping[str, Mapping[str, Path | str | bytes]]) -> None:
        """Put models (name -> path inside the model -> a file, or what is in one) into the server's repository.

        Each file is there whole or not at all, and nothing is served before `load`. A file that is there already is
        not touched.
        """

    def load(self, model: str) -> None:
        """Load, or reload what changed, an ensemble's parts included; requests in flight end on what they started on.

        Raises:
            GateError: the server refuses the model; its own words are in the details.
        """

    def unload(self, model: str) -> None:
        """Stop serving a model and take it out of the repository; no error if it is gone already."""

    def loaded(self) -> frozenset[str]:
        """The models that are served."""

    def stored(self) -> Mapping[str, Stat]:
        """The models that are in the repository, served or not."""

    def parts(self, model: str) -> tuple[str, ...]:
        """The models that an ensemble is made of, in its order; none for any other model.

        Raises:
            NotFoundError: it is not loaded.
        """

    def infer(
        self, model: str, inputs: Mapping[str, np.ndarray], *, timeout: float = 30.0, settings: Triton | None = None
    ) -> dict[str, np.ndarray]:
        """One request with binary tensors; arrays are `[rows, 1]`; strings are object arrays of `str`.

        With `settings` the model is asked as they want it: each row is a sequence of its own where there are sequences,
        and of several answers the last one counts.

        Raises:
            NotFoundError: the model is not loaded.
            GateError: the server refuses the request; its own words are in the details.
            UnavailableError: the server, or the process that runs the model, does not answer.
        """


class FeatureStore(Protocol):
    """Tables of what is known by entity: bytes by key, for requests that cannot wait.

    A table is called by a digest of what is in it. It appears as a whole and never changes.

    Every method raises `UnavailableError` when the store cannot be reached.
    """

    def has(self, project: str, table: str) -> bool:
        """Whether a table is there."""

    def write(self, project: str, table: str, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        """Write a table of keys and values; nobody sees it before it is whole, and writing it again is no error.

        Raises:
            GateError: two rows have one key.
        """

    def read(self, project: str, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """The value of each key, None where there is none; raises `NotFoundError` where there is no such table."""

    async def find(self, project: str, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """The same for a service that does other things meanwhile."""

    async def close(self) -> None:
        """Let go of what `find` has opened."""

    def point(self, project: str, table: str) -> None:
        """Let the project's name mean a table that is there, for readers who name none: at once, and for all."""

    def pointed(self, project: str) -> str | None:
        """The table that the project's name means, None where it means none."""

    async def newest(self, project: str) -> str | None:
        """What `pointed` says, for a service that does other things meanwhile."""

    def tables(self, project: str) -> set[str]:
        """The tables of a project."""

    def size(self, project: str, table: str) -> int:
        """The bytes that a table takes; 0 where it is gone."""

    def drop(self, project: str, table: str) -> None:
        """Remove a table; no error if it is gone already."""
