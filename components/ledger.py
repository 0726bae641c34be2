"""The durable record of steps done. Every engine runs a node through `perform`, and nothing else runs a step.

key = digest of (the step's first-party source, the lock file, its inputs). Found: the recorded output is returned. Not
found: the step runs and its record is written atomically. The step sees its key through `effect_key()` and hands it to
whatever it changes outside, so that a crash between the effect and its record does not do the effect twice.
"""

from __future__ import annotations

import hashlib
import time
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from components import config
from components.fingerprint import fingerprint
from components.place import Place, Stat
from components.records import Artifact, Commit, Published, Record, Skipped, digest, parts, to_json
from components.scores import BRANCH, Predictions

_effect_key: ContextVar[str] = ContextVar("effect_key")


def effect_key() -> str:
    """The key of the step that is running: the idempotency key of everything it changes outside.

    Raises:
        LookupError: no step is running; a test can use `running_as`.
    """
    return _effect_key.get()


@contextmanager
def running_as(key: str) -> Iterator[None]:
    """Let `effect_key()` answer `key` inside the block."""
    token = _effect_key.set(key)
    try:
        yield
    finally:
        _effect_key.reset(token)


class Key(Record):
    """A key and the parts it was made of, kept so that `why` can name the one that changed."""

    digest: str
    step: str
    source: dict[str, str]
    lock: str
    inputs: dict[str, str]


class Done(Record):
    """A ledger entry: what a step returned, and when."""

    key: Key
    output: Any
    run: str
    started: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a node: its record, its key, and whether the ledger had it already.

    `lost` says what the step had made before and was not there any more, so that it was done again.
    """

    record: Record
    key: Key
    hit: bool
    started: str
    seconds: float
    lost: str = ""


def key_of(step: Callable[..., object], arguments: Mapping[str, object]) -> Key:
    """The key of calling `step` with `arguments`."""
    source = fingerprint(step)
    inputs = {name: digest(value) for name, value in arguments.items()}
    name = f"{step.__module__}:{step.__qualname__}"
    lock = _lock_digest()
    return Key(
        digest=digest({"step": name, "source": source, "lock": lock, "inputs": inputs}),
        step=name,
        source=source,
        lock=lock,
        inputs=inputs,
    )


@cache
def _lock_digest() -> str:
    path = config.root() / "requirements.lock"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


@cache
def _returns(step: Callable[..., object]) -> TypeAdapter[Any]:
    return TypeAdapter(typing.get_type_hints(step)["return"])


def revive(step: Callable[..., object], output: object) -> Record:
    """The record of `step` from its JSON.

    Raises:
        pydantic.ValidationError: the JSON does not fit what the step returns.
    """
    if isinstance(output, dict) and set(output) == {"skipped"}:
        return Skipped(**output)
    return typing.cast("Record", _returns(step).validate_python(output, strict=False))


class Ledger:
    """Entries by key, beside the data.

    Args:
        url: its root, any fsspec URL.
        present: tells whether an artifact or a commit that an entry names is still there.
    """

    def __init__(self, url: str, present: Callable[[Artifact | Commit], bool]) -> None:
        self._place = Place(url)
        self._present = present

    def read(self, key: str) -> Done | None:
        """The entry, whether or not its outputs are still there."""
        content = self._place.read(_name(key))
        try:
            return Done.model_validate_json(content) if content else None
        except ValidationError:
            return None

    def find(self, step: Callable[..., object], key: str) -> tuple[Done, Record] | None:
        """The entry and its record, if all that the record names is still there."""
        found = self.recorded(step, key)
        return found if found and next(self.gone(found[1]), None) is None else None

    def recorded(self, step: Callable[..., object], key: str) -> tuple[Done, Record] | None:
        """The entry and its record, whether or not what the record names is still there."""
        entry = self.read(key)
        try:
            return (entry, revive(step, entry.output)) if entry else None
        except ValidationError:  # written by an older version of the record
            return None

    def gone(self, record: Record) -> Iterator[Artifact | Commit]:
        """What `record` names and is not there any more, or not as it was."""
        return (part for part in parts(record) if isinstance(part, Artifact | Commit) and not self._present(part))

    def newest(self, step: Callable[..., object], inputs: Mapping[str, object]) -> Record | None:
        """What `step` returned last with `inputs` among its own, if that is still there.

        It reads every entry: for a person who waits once, not for a run.
        """
        name, wanted = f"{step.__module__}:{step.__qualname__}", {name: digest(value) for name, value in inputs.items()}
        keys = [name.rsplit("/", 1)[-1].removesuffix(".json") for name in self._place.names()]
        for entry in sorted(filter(None, map(self.read, keys)), key=lambda entry: entry.started, reverse=True):
            if entry.key.step == name and wanted.items() <= entry.key.inputs.items():
                found = self.find(step, entry.key.digest)
                if found:
                    return found[1]
        return None

    def touch(self, key: str) -> None:
        """Let an entry be one that was used just now."""
        self._place.touch(_name(key))

    def used(self) -> dict[str, Stat]:
        """Every entry: its key, its bytes, and when it was written or found last."""
        return {
            name.rsplit("/", 1)[-1].removesuffix(".json"): stat
            for name, stat in self._place.files().items()
            if name.endswith(".json")
        }

    def used_at(self, key: str) -> float | None:
        """When an entry was written or found last (POSIX seconds); None where there is none."""
        found = self._place.files(_name(key)).get(_name(key))
        return found.changed if found else None

    def text(self, key: str) -> str:
        """An entry as it is written; empty where there is none."""
        return (self._place.read(_name(key)) or b"").decode(errors="replace")

    def forget(self, key: str, before: float) -> bool:
        """Remove an entry that was not used since `before`; returns whether it is gone."""
        used = self.used_at(key)
        if used is not None and used >= before:
            return False
        self._place.remove(_name(key))
        return True

    def write(self, entry: Done) -> None:
        """Make an entry visible, whole or not at all."""
        self._place.write(_name(entry.key.digest), entry.model_dump_json().encode())


def _name(key: str) -> str:
    return f"{key[:2]}/{key}.json"


def perform(
    step: Callable[..., Record],
    arguments: Mapping[str, object],
    *,
    ledger: Ledger,
    lock: Callable[[str], AbstractContextManager[object]],
    guards: Sequence[object] = (),
    cached: bool = True,
    run: str = "",
    begin: Callable[[], object] = lambda: None,
) -> Outcome:
    """Run one node, or find that it was done.

    Args:
        step: the node's function.
        arguments: by name; records, settings, scalars, lists and dicts.
        ledger: where the entry is looked up and written.
        lock: a context that keeps others, here or in another process, from performing the same key at the same time.
        guards: records of the gates around the node.
        cached: False for a step that looks at the outside world.
        run: the run this is for.
        begin: is called once it is clear that the step has to run.
    """
    started, clock = datetime.now(UTC).isoformat(timespec="milliseconds"), time.perf_counter()
    key = key_of(step, arguments)
    reason = _why_skipped(guards, arguments)
    if reason:
        return Outcome(Skipped(skipped=reason), key, False, started, 0.0)
    with lock(key.digest):
        found = ledger.recorded(step, key.digest) if cached else None
        gone = [*ledger.gone(found[1])] if found else []
        if found and not gone:
            ledger.touch(key.digest)  # so that nobody takes it for forgotten while this run goes on
            return Outcome(found[1], key, True, found[0].started, found[0].seconds)
        begin()
        with running_as(key.digest):
            output = to_json(step(**arguments))
        record = revive(step, output)
        seconds = time.perf_counter() - clock
        ledger.write(Done(key=key, output=output, run=run, started=started, seconds=seconds))
    return Outcome(record, key, False, started, seconds, lost(gone))


def lost(gone: Sequence[Artifact | Commit]) -> str:
    """What is gone, in words; empty where nothing is."""
    if not gone:
        return ""
    first, more = gone[0], f", and {len(gone) - 1} more" if len(gone) > 1 else ""
    if isinstance(first, Artifact):
        return f"{first.path} is gone or was replaced{more}"
    if isinstance(first, Predictions):
        return f"the branch {BRANCH} holds other predictions than commit {first.id[:12]} by now{more}"
    if isinstance(first, Published):
        return f"main does not hold the data of commit {first.id[:12]} any more{more}"
    return f"commit {first.id[:12]} is gone{more}"


def _why_skipped(guards: Sequence[object], arguments: Mapping[str, object]) -> str:
    """The reason that this node is skipped for; empty where it is not."""
    for record in (part for value in (*guards, *arguments.values()) for part in parts(value)):
        if isinstance(record, Skipped):
            return record.skipped
    held = next((guard for guard in guards if not cast("Any", guard).passed), None)
    return f"{type(held).__name__.lower()} did not pass" if held is not None else ""
