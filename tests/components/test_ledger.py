"""The ledger: what is a hit, what is a miss, and what a crash leaves."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from components.artifacts import Artifacts
from components.errors import GateError
from components.ledger import Ledger, Outcome, effect_key, key_of, perform
from components.records import INCIDENTAL, Artifact, Record, Skipped, digest, identity
from components.workspace import Workspace

CALLS: list[str] = []


class Made(Record):
    value: int
    file: Artifact | None = None


class Gate(Record):
    passed: bool


def make(value: int) -> Made:
    CALLS.append(effect_key())
    if value < 0:
        raise GateError("negative")
    return Made(value=value)


def write(profile: str, text: str) -> Made:
    from components.workspace import open_workspace

    CALLS.append(effect_key())
    with open_workspace(profile).output() as out:
        (out.folder / "text").write_text(text)
        return Made(value=1, file=out.publish()["text"])


def use(made: Made) -> Made:
    return Made(value=made.value + 1)


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    CALLS.clear()


def done(workspace: Workspace, step: object, **arguments: object) -> Outcome:
    guards = arguments.pop("guards", ())
    return perform(step, arguments, ledger=workspace.ledger, lock=workspace.lock, guards=guards)  # type: ignore[arg-type]


def test_a_step_is_done_once(workspace: Workspace) -> None:
    """The second time its record comes from the ledger, and other arguments are another key."""
    first, second, other = (done(workspace, make, value=value) for value in (1, 1, 2))
    assert (first.hit, second.hit, other.hit) == (False, True, False)
    assert second.record == first.record
    assert CALLS == [first.key.digest, other.key.digest]


def test_a_failure_is_not_recorded(workspace: Workspace) -> None:
    """What raised is tried again."""
    for _ in range(2):
        with pytest.raises(GateError):
            done(workspace, make, value=-1)
    assert len(CALLS) == 2


def test_a_deleted_output_is_a_miss(workspace: Workspace) -> None:
    """An entry counts only while all that it names is there: it is made again, never reported as done."""
    first = done(workspace, write, profile="test", text="a")
    assert isinstance(first.record, Made)
    assert first.record.file
    path = workspace.artifacts.local(first.record.file)
    path.unlink()
    again = done(workspace, write, profile="test", text="a")
    assert not again.hit
    assert path.read_text() == "a"
    assert again.record == first.record


def test_a_truncated_output_is_a_miss(workspace: Workspace) -> None:
    """A file of another size is not the output."""
    first = done(workspace, write, profile="test", text="abc")
    assert isinstance(first.record, Made)
    assert first.record.file
    os.truncate(workspace.artifacts.local(first.record.file), 1)
    assert not done(workspace, write, profile="test", text="abc").hit


def test_a_damaged_entry_is_a_miss(workspace: Workspace) -> None:
    """Half an entry, or one of an older version of the record, is done again and not an error."""
    first = done(workspace, make, value=1)
    entry = next(Path(workspace.state, "ledger").rglob("*.json"))
    entry.write_text(entry.read_text()[:40])
    assert not done(workspace, make, value=1).hit
    assert workspace.ledger.read(first.key.digest)


def test_two_threads_do_a_step_once(workspace: Workspace) -> None:
    """Whoever comes second waits, and finds the record."""
    outcomes: list[Outcome] = []
    threads = [threading.Thread(target=lambda: outcomes.append(done(workspace, make, value=7))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcome.hit for outcome in outcomes) == [False, True, True, True]


def test_a_gate_that_does_not_pass_skips_and_so_does_what_follows(workspace: Workspace) -> None:
    """'skipped' is the record of a held node, and travels."""
    held = done(workspace, make, value=1, guards=(Gate(passed=False),)).record
    assert held == Skipped(skipped="gate did not pass")
    assert done(workspace, use, made=held).record == held
    assert CALLS == []
    assert done(workspace, make, value=1, guards=(Gate(passed=True),)).record == Made(value=1)


def test_incidental_fields_are_not_identity() -> None:
    """Where a thing is does not change what it is."""
    left, right = (Artifact(path=path, sha256="ab", size=1) for path in ("x", "y"))
    assert digest(left) == digest(right)
    assert identity(left) == {"sha256": "ab", "size": 1}
    assert INCIDENTAL in Artifact.model_fields["path"].metadata
    assert key_of(use, {"made": Made(value=1, file=left)}) == key_of(use, {"made": Made(value=1, file=right)})


def test_what_is_not_json_cannot_be_an_input() -> None:
    """Data travels by URI, records by value."""
    with pytest.raises(TypeError, match="set is not JSON-able"):
        key_of(make, {"value": {1}})


def test_a_ledger_may_live_in_any_file_system() -> None:
    """The same entry through fsspec's memory file system."""
    from contextlib import nullcontext

    ledger = Ledger("memory://ledger", lambda _: True)
    outcomes = [perform(make, {"value": 1}, ledger=ledger, lock=lambda _: nullcontext()) for _ in range(2)]
    assert [outcome.hit for outcome in outcomes] == [False, True]


def test_files_of_a_killed_attempt_are_dropped(tmp_path: Path) -> None:
    """A step starts from an empty folder, and replaces what an earlier attempt had published, as a whole."""
    artifacts = Artifacts(str(tmp_path / "root"), tmp_path / "scratch")
    for names in (("a", "b"), ("c",)):
        with artifacts.folder("key") as folder:
            for name in names:
                (folder / name).write_text(name)
            published = artifacts.publish("key", folder)
    assert list(published) == ["c"]
    assert [path.name for path in (tmp_path / "root" / "key").iterdir()] == ["c"]
    assert not any((tmp_path / "scratch").iterdir())
