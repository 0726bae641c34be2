"""The data store on a lakeFS server, through the official `lakefs` SDK. How commits land: `lakefs_landing`.

lakeFS' own garbage collection may take the bytes of a commit that it still names. So `has` asks for a byte of every
object that is not staged on this machine already.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import wraps
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, Literal, ParamSpec, TypeVar, cast

import lakefs
from lakefs.client import Client
from lakefs.exceptions import (
    BadRequestException,
    ConflictException,
    NotFoundException,
    ServerException,
    api_exception_handler,
)
from lakefs.models import Commit, ObjectInfo
from lakefs.object import StoredObject
from lakefs_sdk.models.revert_creation import RevertCreation

from components.adapters.lakefs_client import connect
from components.adapters.lakefs_landing import ACTIONS, Landing
from components.adapters.lakefs_others import Others
from components.adapters.lakefs_parts import Parts
from components.adapters.lakefs_sweep import LakeFSSweep, hold, let_go
from components.adapters.lakefs_terms import border, decoded, encoded, to_entry, to_revision, words
from components.adapters.lakefs_uploads import REQUESTS, Uploads
from components.adapters.object_folder import ObjectFolder
from components.adapters.store_rules import (
    MAIN,
    check_edits,
    check_name,
    check_new_ref,
    check_validated,
    conflict,
    tree_digest,
)
from components.errors import ConfigError, ConflictError, NotFoundError
from components.ports import NOWHERE, Address, Change, Entry, Revision

if TYPE_CHECKING:
    from components.profile import LakeFSStore as Settings
    from components.workspace import Workspace

P = ParamSpec("P")
R = TypeVar("R")

BATCH = 1000
"""Paths that lakeFS deletes in one request."""


def open_store(workspace: Workspace) -> LakeFSStore:
    """The store at the profile's `store.url`, with the credentials in the environment.

    Raises:
        ConfigError: they are not there.
    """
    settings = cast("Settings", workspace.profile.store)
    cache = ObjectFolder(workspace.home / "lakefs")
    return LakeFSStore(settings, connect(settings), cache, Others(cache, workspace.home / "lakefs" / "others"))


def _at_border(method: Callable[Concatenate[LakeFSStore, P], R]) -> Callable[Concatenate[LakeFSStore, P], R]:
    """Let a method raise our errors where the SDK raises its own."""

    @wraps(method)
    def inside(self: LakeFSStore, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with border(self.url):
            return method(self, *args, **kwargs)

    return inside


class LakeFSStore:
    """A `DataStore` in one lakeFS repository, made where there is none.

    Args:
        settings: where the server and the repository are.
        client: the SDK's client, with credentials.
        cache: where objects are staged, once each, on this machine.
        others: what is known of the objects that others wrote.
    """

    def __init__(self, settings: Settings, client: Client, cache: ObjectFolder, others: Others) -> None:
        self.url = settings.url
        self._repo = lakefs.Repository(settings.repository, client)
        self._revert_api = client.sdk_client.branches_api
        self._landing = Landing(self._repo)
        self._cache = cache
        self._parts = Parts(settings, self._repo, client)
        self._uploads = Uploads(self._repo, client, cache, self._parts)
        self._others = others
        self._initialize(settings.namespace)

    @_at_border
    def _initialize(self, namespace: str) -> None:
        try:
            try:
                _ = self._repo.properties  # asks the server
            except NotFoundException:
                self._repo.create(namespace, default_branch=MAIN, exist_ok=True)
        except BadRequestException as error:
            raise ConfigError(
                f"lakeFS at {self.url} refuses the repository {self._repo.id!r}: {words(error)}",
                accepted="a name of three or more of a-z, 0-9 and '-', and a storage namespace of its own",
                next_step="correct store.repository and store.namespace in the profile",
            ) from error
        self._landing.install_hook()

    # --- reading ------------------------------------------------------------------------------------------------------

    @_at_border
    def resolve(self, ref: str) -> Revision:
        return to_revision(self._commit(ref))

    @_at_border
    def branches(self, prefix: str = "") -> list[str]:
        return self._landing.branches(prefix)

    @_at_border
    def tags(self) -> dict[str, str]:
        found = ((decoded(tag.id), tag) for tag in self._repo.tags())
        return {name: tag.get_commit().id for name, tag in found if name}

    @_at_border
    def log(self, ref: str) -> Iterator[Revision]:
        return self._log(self._commit(ref).id)

    def _log(self, commit: str) -> Iterator[Revision]:
        with border(self.url):
            yield from map(to_revision, self._repo.ref(commit).log(first_parent=True))

    @_at_border
    def diff(self, left: str, right: str) -> list[Change]:
        changes = self._repo.ref(self._commit(left).id).diff(self._commit(right).id, type="two_dot")
        found = (
            Change(change.path, cast("Literal['added', 'removed', 'changed']", change.type))
            for change in changes
            if not change.path.startswith(ACTIONS)
        )
        return sorted(found, key=lambda change: change.path)

    @_at_border
    def ls(self, ref: str, prefix: str = "") -> list[Entry]:
        folder = f"{check_name(prefix.removesuffix('/'), 'prefix')}/" if prefix else ""
        commit = self._repo.ref(self._commit(ref).id)
        found = (info for info in commit.objects(prefix=folder) if isinstance(info, ObjectInfo))
        entries = (self._entry(commit.object(info.path), info) for info in found if not info.path.startswith(ACTIONS))
        return sorted(entries, key=lambda entry: entry.path)

    @_at_border
    def local(self, ref: str, path: str) -> Path:
        stored = self._repo.ref(self._commit(ref).id).object(check_name(path, "path"))
        try:
            entry = self._entry(stored, stored.stat())
        except NotFoundException as error:
            raise NotFoundError(f"no {path!r} in {ref!r}", next_step=f"trilha data ls {ref}") from error
        if self._cache.keeps(entry):
            return self._cache.path(entry.sha256)
        try:
            with stored.reader("rb") as source:
                return self._cache.receive(entry, source)
        except ServerException as error:
            if error.status_code != HTTPStatus.GONE:
                raise
            raise NotFoundError(
                f"the bytes of {path!r} in {ref!r} are gone", next_step="run the project again: they will be made anew"
            ) from error

    @_at_border
    def has(self, ref: str) -> bool:
        try:
            commit = self._repo.ref(self._commit(ref).id)
            entries = [entry for entry in self.ls(commit.id) if not self._cache.holds(entry.sha256, entry.size)]
        except NotFoundError:
            return False
        with ThreadPoolExecutor(REQUESTS) as pool:
            return all(pool.map(lambda entry: _readable(commit.object(entry.path)), entries))

    def tree(self, ref: str) -> str:
        return tree_digest(self.ls(ref))

    # --- writing ------------------------------------------------------------------------------------------------------

    @_at_border
    def branch(self, name: str, source: str) -> None:
        commit = self._commit(source).id
        try:
            self._landing.branch(check_new_ref(name, "branch")).create(commit)
        except ConflictException as error:
            _check_same(f"branch {name!r}", self._landing.head(name), commit, error)

    @_at_border
    def tag(self, name: str, ref: str) -> None:
        commit = self._commit(ref).id
        tag = self._repo.tag(encoded(check_new_ref(name, "tag")))
        try:
            tag.create(commit)
        except ConflictException as error:
            _check_same(f"tag {name!r}", tag.get_commit(), commit, error)
        hold(self._repo, tag.id, commit)

    @_at_border
    def untag(self, name: str) -> None:
        tag = self._repo.tag(encoded(check_name(name, "tag")))
        with suppress(NotFoundException):
            tag.delete()
        let_go(self._repo, tag.id)

    @_at_border
    def delete_branch(self, name: str) -> None:
        if check_name(name, "branch") == MAIN:
            raise ConfigError(f"branch {MAIN!r} stays", accepted="any other branch")
        with suppress(NotFoundException):
            self._landing.branch(name).delete()

    @_at_border
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
        check_edits(puts, deletes)
        done = self._landing.done(branch, key, expected)
        if done is None:
            entries = self._cache.take(puts, move=move)
            try:
                with self._landing.scratch(branch, key) as scratch:
                    self._uploads.send(scratch, entries, addresses)
                    self._delete(scratch, deletes, branch)
                    self._landing.put_hook(scratch)
                    scratch.commit(message, allow_empty=True)
                    done = self._landing.land(
                        scratch,
                        branch,
                        message=message,
                        metadata=metadata,
                        key=key,
                        expected=expected,
                        strategy="source-wins",  # the last writer of a path wins, as anywhere
                    )
                self._uploads.forget(entries)
            except NotFoundException:  # the hidden branch: another attempt under this key was first, and tidied up
                done = self._landing.done(branch, key, expected)
                if done is None:
                    raise
        self._landing.tidy_up(branch, key)
        return done

    def _delete(self, scratch: lakefs.Branch, paths: Sequence[str], branch: str) -> None:
        for path in paths:
            if not scratch.object(path).exists():
                raise NotFoundError(f"no {path!r} to delete in {branch!r}", next_step=f"trilha data ls {branch}")
        for start in range(0, len(paths), BATCH):
            scratch.delete_objects(list(paths[start : start + BATCH]))

    @_at_border
    def merge(self, source: str, into: str, *, message: str, metadata: Mapping[str, str], key: str) -> Revision:
        check_validated(source, into, metadata)
        theirs = self._repo.ref(self._commit(source).id)
        try:
            return self._landing.land(theirs, into, message=message, metadata=metadata, key=key, squash=False)
        except ConflictException as error:
            changes = self._repo.ref(self._landing.head(into).id).diff(theirs, type="three_dot")
            paths = [change.path for change in changes if change.type == "conflict"]
            raise conflict(f"{source!r} and {into!r}", paths) from error

    @_at_border
    def revert(self, branch: str, ref: str, *, message: str, key: str) -> Revision:
        undone = self._commit(ref)
        if not undone.parents:
            raise ConfigError(f"{ref!r} is the first commit", accepted="a commit that changed something")
        done = self._landing.done(branch, key)
        if done is not None:
            return done
        parent_number = 1 if len(undone.parents) > 1 else 0
        order = RevertCreation(ref=undone.id, parent_number=parent_number, allow_empty=True)
        try:
            with self._landing.scratch(branch, key) as scratch:
                with api_exception_handler():
                    self._revert_api.revert_branch(self._repo.id, scratch.id, order)
                return self._landing.land(scratch, branch, message=message, metadata={}, key=key)
        except ConflictException as error:
            before, now = undone.parents[0], self._landing.head(branch).id
            pairs = ((before, undone.id), (undone.id, now), (before, now))
            clash = set.intersection(*({change.path for change in self.diff(*pair)} for pair in pairs))
            raise conflict(f"{ref!r} and a later commit on {branch!r}", sorted(clash)) from error

    def _commit(self, ref: str) -> Commit:
        try:
            return self._repo.ref(encoded(check_name(ref, "ref"))).get_commit()
        except NotFoundException as error:
            raise NotFoundError(f"no branch, tag or commit {ref!r}", next_step="trilha data log") from error

    def _entry(self, stored: StoredObject, info: ObjectInfo) -> Entry:
        """The entry of an object, whoever wrote it."""
        return to_entry(info) or self._others.entry(stored, info)

    def sweep(
        self,
        needed: Collection[str],
        before: float,
        going: Collection[str] = (),  # noqa: ARG002  # what a tag holds here, no copy of it is needed for
    ) -> LakeFSSweep:
        return LakeFSSweep(self.url, self._repo, self._landing, self._parts, self._cache, needed, before)

    def put_triggers(self, branches: Sequence[str], text: str) -> None:
        """Have `main` and `branches`, made where there are none, carry the action file `text`."""
        with border(self.url):
            for name in (MAIN, *branches):
                if name not in self._landing.branches(name):
                    self.branch(name, MAIN)
                self._landing.put_triggers(name, text)


def _check_same(what: str, there: Commit, wanted: str, error: ConflictException) -> None:
    if there.id != wanted:
        raise ConflictError(
            f"{what} is at {there.id[:12]}", accepted=wanted, next_step="choose another name"
        ) from error


def _readable(stored: StoredObject) -> bool:
    try:
        with stored.reader("rb") as source:
            source.read(1)
    except ServerException as error:
        if error.status_code in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
            return False
        raise
    return True
