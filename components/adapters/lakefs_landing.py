"""How a commit lands on a lakeFS branch: whole, once, and on the head it is meant for.

Whole: the objects are uploaded to a hidden branch of their own and committed there, and that is merged into the branch,
squashed into one commit. Uploads to the branch itself would be seen uncommitted by its readers and mix with those of
other writers. (The SDK's own `transact` neither squashes nor says which head it is meant for.) A process that is killed
leaves a hidden branch that nobody reads; the next attempt under the same key removes it.

Once: the commit carries its key, and the branch's log is searched for it before anything lands.

On its head: lakeFS merges into whatever the head has become. So every merge says in its metadata which head it is meant
for, and a hook, which lakeFS runs inside its update of the branch, refuses it on any other.

Validated: another hook refuses merges into `main` that do not say what found their data good, whoever asks for them.
What has a key of ours and one parent is no merge but a commit. Hooks are an object of the repository, on every branch,
as `.gitattributes` is in a Git repository; lakeFS takes them from the branch that is merged.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import cast
from uuid import uuid4

import lakefs
from lakefs.exceptions import NotFoundException, ServerException
from lakefs.models import Commit
from urllib3.exceptions import HTTPError

from components.adapters.lakefs_terms import HEAD, KEY, decoded, encoded, to_revision
from components.adapters.store_rules import MAIN, VALIDATION, check_name
from components.errors import ConfigError, ConflictError, GateError, NotFoundError
from components.ports import Revision

ACTIONS = "_lakefs_actions/"
"""Where lakeFS looks for what it has to do; none of it is data."""
HOOK_PATH = f"{ACTIONS}trilha.yaml"
TRIGGERS_PATH = f"{ACTIONS}trilha-triggers.yaml"
EXPECTED = "expected-head"
HOOK = f"""\
name: trilha
on:
  pre-merge: {{}}
hooks:
  - id: {EXPECTED}
    type: lua
    properties:
      script: |
        local head = action.commit.metadata["{HEAD}"]
        if head and head ~= action.commit.parents[1] then require("hook").fail("the branch has moved") end
  - id: validated
    type: lua
    properties:
      script: |
        local strings, told, project = require("strings"), action.commit.metadata, "PROJECT"
        local ours = told["{KEY}"] and #action.commit.parents == 1
        if action.branch_id == "{MAIN}" and not ours and (told["{VALIDATION}"] or "") == "" then
          local source = action.merge_source
          if strings.has_prefix(source, "ingestS") then
            source = strings.replace(strings.replace(source, "S", "/", -1), "D", ".", -1)
            project = strings.split(source, "/")[2]
          end
          require("hook").fail("'" .. source .. "' was not validated; accepted: a merge into '{MAIN}' by a run; " ..
            "next: trilha run " .. project)
        end
"""
_REFUSAL = re.compile(r"hook '([^']+)': (?:action failed: )?(.*)")
"""A hook and what it says, in a line of lakeFS' answer."""
ATTEMPTS = 100
"""Each failed one means that another writer came through."""


class Landing:
    """The branches of a repository, and what lands on them.

    Args:
        repository: the SDK's.
    """

    def __init__(self, repository: lakefs.Repository) -> None:
        self._repo = repository

    def branches(self, prefix: str = "") -> list[str]:
        """Their names, sorted; without those that have no name of ours."""
        found = (decoded(branch.id) for branch in self._repo.branches(prefix=encoded(prefix)))
        return sorted(name for name in found if name)

    def branch(self, name: str) -> lakefs.Branch:
        """The SDK's branch, whether or not it is there."""
        return self._repo.branch(encoded(name))

    def head(self, branch: str) -> Commit:
        """The newest commit of a branch.

        Raises:
            NotFoundError: there is no such branch.
        """
        try:
            return self.branch(check_name(branch, "branch")).head.get_commit()
        except NotFoundException as error:
            raise NotFoundError(f"no branch {branch!r}", accepted=", ".join(self.branches()[:20])) from error

    def done(self, branch: str, key: str, expected: str | None = None) -> Revision | None:
        """The commit of `branch` that carries `key`.

        Raises:
            ConflictError: none does, and the head is not `expected`.
        """
        return self._done(branch, self.head(branch), key, expected)

    @contextmanager
    def scratch(self, branch: str, key: str) -> Iterator[lakefs.Branch]:
        """A hidden branch at the head of `branch`; gone on leaving."""
        scratch = self._repo.branch(scratch_name(branch, key))
        scratch.create(self.head(branch).id, hidden=True)
        try:
            yield scratch
        finally:
            with suppress(ServerException, HTTPError):  # what is left is harmless, and the first error counts
                scratch.delete()

    def tidy_up(self, branch: str, key: str) -> None:
        """Remove the hidden branches that killed attempts left; live ones find the commit that made them needless."""
        for left in list(self._repo.branches(prefix=_scratch_prefix(branch, key), show_hidden=True)):
            with suppress(NotFoundException):
                left.delete()

    def land(
        self,
        source: lakefs.Reference,
        into: str,
        *,
        message: str,
        metadata: Mapping[str, str],
        key: str,
        expected: str | None = None,
        squash: bool = True,
        strategy: str | None = None,
    ) -> Revision:
        """Merge `source` into the branch `into`, unless `key` is there already.

        Args:
            source: a hidden branch, or a commit.
            into: the name of a branch.
            message: what the commit's log says.
            metadata: strings by name.
            key: at most one commit of a branch carries it.
            expected: the head to land on; any other may come, too, where not given.
            squash: make one commit with one parent.
            strategy: lakeFS' own; `source-wins` has no conflicts.

        Raises:
            ConflictError: the head is not `expected`.
            GateError: a hook refuses it.
            ConflictException: both sides changed a path.
        """
        for _ in range(ATTEMPTS):
            head = self.head(into)
            done = self._done(into, head, key, expected)
            if done is not None:
                return done
            try:
                landed = source.merge_into(
                    self.branch(into),
                    message=message,
                    metadata={**metadata, KEY: key, HEAD: head.id},
                    allow_empty=True,
                    squash_merge=squash,
                    strategy=strategy,
                )
            except ServerException as error:
                if error.status_code != HTTPStatus.PRECONDITION_FAILED:  # what a hook answers
                    raise
                self._check_moved(into, error)
                continue  # another writer came first
            revision = to_revision(self._repo.ref(landed).get_commit())
            if revision.parents[0] != head.id:
                raise _no_hooks()
            return revision
        raise ConflictError(f"branch {into!r} kept moving", next_step="try again")

    def put_hook(self, scratch: lakefs.Branch) -> None:
        """See to it that the next commit of a hidden branch carries the hooks as they are now."""
        if not _has(scratch, HOOK_PATH, HOOK):
            scratch.object(HOOK_PATH).upload(HOOK.encode())

    def put_triggers(self, branch: str, text: str) -> None:
        """Have a commit on top of `branch` carry the action file `text`, unless the branch has it already."""
        if _has(self.branch(branch).head, TRIGGERS_PATH, text):
            return
        key = f"triggers-{uuid4().hex}"
        with self.scratch(branch, key) as scratch:
            scratch.object(TRIGGERS_PATH).upload(text.encode())
            self.put_hook(scratch)
            scratch.commit("Watch branches")
            self.land(scratch, branch, message="Watch branches", metadata={}, key=key)

    def install_hook(self) -> None:
        """Put the hooks on `main` where they are not there as they are now, once they have been seen to refuse.

        Raises:
            ConfigError: the server does not run hooks.
        """
        if _has(self._repo.ref(MAIN), HOOK_PATH, HOOK):
            return
        key = f"hook {hashlib.sha256(HOOK.encode()).hexdigest()} on {self.head(MAIN).id}"
        with self.scratch(MAIN, "hook") as hooked, self.scratch(MAIN, "probe") as probe:
            self.put_hook(hooked)
            hooked.commit("Watch merges", allow_empty=True)
            try:
                hooked.merge_into(probe, metadata={HEAD: "another"}, allow_empty=True)
            except ServerException as error:
                if error.status_code != HTTPStatus.PRECONDITION_FAILED:
                    raise
            else:
                raise _no_hooks()
            self.land(hooked, MAIN, message="Watch merges", metadata={}, key=key)

    def _check_moved(self, into: str, error: ServerException) -> None:
        """Refuse what a hook refused for another reason than that the branch has moved."""
        found = dict(_REFUSAL.findall(str(error.body.get("message"))))
        if found and EXPECTED not in found:
            name, why = next(iter(found.items()))
            raise GateError(
                f"hook {name!r} of lakeFS refuses what was to come to {into!r}: {why.strip()}",
                next_step=f"lakectl actions runs list lakefs://{self._repo.id}",
            ) from error

    def _done(self, branch: str, head: Commit, key: str, expected: str | None) -> Revision | None:
        for commit in self._repo.ref(head.id).log(first_parent=True):
            if (commit.metadata or {}).get(KEY) == key:
                return to_revision(commit)
        if expected not in {None, head.id}:
            raise ConflictError(
                f"branch {branch!r} is at {head.id[:12]}",
                accepted=str(expected),
                next_step="look at the newest commit and try again on top of it",
            )
        return None


def _has(ref: lakefs.Reference, path: str, text: str) -> bool:
    """Whether an object is there and holds this text."""
    try:
        return cast("bytes", ref.object(path).reader("rb").read()) == text.encode()
    except NotFoundException:
        return False


def scratch_name(branch: str, key: str) -> str:
    """A new hidden branch's; it says when it was made, for lakeFS does not."""
    return f"{_scratch_prefix(branch, key)}{int(time.time()):08x}{uuid4().hex}"


def _scratch_prefix(branch: str, key: str) -> str:
    """Names of hidden branches start with a capital, so that they are nobody else's."""
    return f"T{hashlib.sha256(f'{branch} {key}'.encode()).hexdigest()[:16]}-"


def _no_hooks() -> ConfigError:
    return ConfigError(
        "lakeFS does not run hooks",
        accepted="actions.enabled: true in the server's configuration",
        next_step="turn them on: a hook sees to it that a commit lands on the head it is meant for",
    )
