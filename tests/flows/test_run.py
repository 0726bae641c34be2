"""A run on the local engine, its record, plan and why."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

import pytest

from components.errors import DagError, GateError, TimeLimitError, UnavailableError
from components.project import Policy
from components.records import Artifact, Record, Skipped
from components.runs import NodeState, Run, RunLog, new_header
from components.workspace import Workspace, open_workspace
from flows.dag import Dag, Do, trace, until
from flows.engines import local
from flows.plan import plan, why

BARRIER = threading.Barrier(2, timeout=10)
ATTEMPTS: list[str] = []


class Text(Record):
    text: str
    file: Artifact | None = None


class Verdict(Record):
    passed: bool


def look(path: str) -> Text:
    return Text(text=Path(path).read_text())


def shout(profile: str, text: Text, mark: str) -> Text:
    with open_workspace(profile).output() as out:
        (out.folder / "text").write_text(text.text.upper() + mark)
        return Text(text=text.text.upper() + mark, file=out.publish()["text"])


def judge(text: Text) -> Verdict:
    return Verdict(passed=len(text.text) < 10)


def measure(text: Text, letters: int) -> Verdict:
    return Verdict(passed=len(text.text) < letters)


def join(texts: list[Text]) -> Text:
    return Text(text=" ".join(text.text for text in texts))


def dag_of(path: Path, marks: str = "!?") -> Dag:
    def shouting(do: Do) -> Text:
        seen = do(look, str(path))
        loud = [do.named(f"shout-{i}")(shout, "test", seen, mark) for i, mark in enumerate(marks)]
        with do.when(do(judge, seen)):
            return do(join, loud)

    return trace(shouting, policies={"look": Policy(cache=False)})


def run(workspace: Workspace, dag: Dag, watch: list[NodeState] | None = None) -> tuple[str, dict[str, Record]]:
    header = new_header(dag.name, "small", "test", "local")
    going = Run(workspace, header, (watch if watch is not None else []).append)
    going.announce(dag.nodes)
    return header.id, local.run(dag, going)


@pytest.fixture
def source(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    ATTEMPTS.clear()
    monkeypatch.setattr("flows.plan.LOOKING", {"look"})
    path = tmp_path / "source.txt"
    path.write_text("hello")
    return path


def artifact_of(record: Record) -> Artifact:
    assert isinstance(record, Text)
    assert record.file
    return record.file


def statuses(workspace: Workspace, name: str) -> dict[str, str]:
    return {node.name: node.status for node in RunLog(workspace).nodes(name).values()}


def test_a_second_run_finds_everything_but_what_looks_outside(workspace: Workspace, source: Path) -> None:
    """Nothing is done twice, and both runs say what became of each node."""
    first, records = run(workspace, dag_of(source))
    again, same = run(workspace, dag_of(source))
    assert records["join"] == Text(text="HELLO! HELLO?")
    assert same == records
    assert set(statuses(workspace, first).values()) == {"done"}
    assert statuses(workspace, again) == {
        "look": "done", "shout-0": "found", "shout-1": "found", "judge": "found", "join": "found",
    }  # fmt: skip


def test_a_gate_that_does_not_pass_skips_what_is_behind_it(workspace: Workspace, source: Path) -> None:
    """The record says why, on every engine."""
    source.write_text("a long text, too long")
    name, records = run(workspace, dag_of(source))
    assert records["join"] == Skipped(skipped="verdict did not pass")
    assert statuses(workspace, name)["join"] == "skipped"


def test_plan_says_what_would_run_and_why_and_changes_nothing(workspace: Workspace, source: Path) -> None:
    """Before the first run, after it, after an edit, after an output was deleted."""

    def actions(dag: Dag) -> dict[str, tuple[str, str]]:
        return {row.name: (row.action, row.why) for row in plan(dag, workspace, "small")}

    assert actions(dag_of(source))["shout-0"] == ("run", "never done")
    assert actions(dag_of(source))["join"] == ("run", "after shout-0, shout-1, judge")
    assert not RunLog(workspace).ids()
    first, records = run(workspace, dag_of(source))
    assert {action for action, _ in actions(dag_of(source)).values()} == {"look", "found"}
    assert actions(dag_of(source, marks="!."))["shout-1"] == ("run", "input 'mark' changed")
    path = artifact_of(records["shout-0"])
    workspace.artifacts.local(path).unlink()
    action, reason = actions(dag_of(source))["shout-0"]
    assert action == "run"
    assert re.fullmatch(rf"done on \S+ by run {first}, but {path.path} is gone or was replaced", reason)
    source.write_text("bye")
    assert actions(dag_of(source))["shout-0"] == ("run", "input 'text' changed (from look)")


def test_plan_foresees_what_a_run_does_after_a_loss(workspace: Workspace, source: Path) -> None:
    """A step that lost its file makes the same again, so what follows is found: a run does no more than the plan says."""
    _, records = run(workspace, dag_of(source))
    partial, _ = run(workspace, until(dag_of(source), "look"))
    workspace.artifacts.local(artifact_of(records["shout-1"])).unlink()
    planned = {row.name: row for row in plan(dag_of(source), workspace, "small")}
    again, same = run(workspace, dag_of(source))
    assert same == records
    meant = {"run": "done", "look": "done", "found": "found"}
    assert {name: meant[row.action] for name, row in planned.items()} == statuses(workspace, again)
    assert planned["join"].why.endswith(", if shout-1 makes the same again")
    assert planned["shout-0"].why.split()[-1] not in {partial, again}  # by the run that did it, not by the newest one


def test_plan_looks_beyond_the_newest_run(workspace: Workspace, source: Path) -> None:
    """What the newest run did not come to is compared with the last run that did."""
    run(workspace, dag_of(source))
    run(workspace, until(dag_of(source), "look"))
    planned = {row.name: row.why for row in plan(dag_of(source, marks="!."), workspace, "small")}
    assert planned["shout-1"] == "input 'mark' changed"


def test_why_names_the_part_of_the_key_that_changed(workspace: Workspace, source: Path) -> None:
    """First time, found, changed input and where it came from, skipped, lost, and what looks outside."""

    def explain(name: str, node: str) -> str:
        return "\n".join(why(workspace, dag_of(source), RunLog(workspace).header(name), node))

    first, _ = run(workspace, dag_of(source))
    assert explain(first, "shout-0") == "shout-0 was done for the first time"
    second, records = run(workspace, dag_of(source))
    assert "nothing in its key changed" in explain(second, "shout-0")
    assert explain(second, "look") == "look was done because it looks at the outside world every time"
    gone = artifact_of(records["shout-1"])
    workspace.artifacts.local(gone).unlink()
    second, _ = run(workspace, dag_of(source))
    assert explain(second, "shout-1").endswith(f"\n{gone.path} is gone or was replaced")
    source.write_text("a long text, too long")
    third, _ = run(workspace, dag_of(source))
    assert "input 'text' changed (from look)" in explain(third, "shout-0")
    assert explain(third, "join") == "join was skipped: verdict did not pass"


def test_a_gate_that_passes_now(workspace: Workspace, source: Path) -> None:
    """Neither plan nor why calls a step lost that was skipped, and has the same inputs now."""

    def gated(letters: int) -> Dag:
        def dag(do: Do) -> Text:
            seen = do(look, str(source))
            with do.when(do(measure, seen, letters)):
                return do(join, [seen])

        return trace(dag, policies={"look": Policy(cache=False)})

    first, _ = run(workspace, gated(3))
    planned = {row.name: row.why for row in plan(gated(9), workspace, "small")}
    assert planned["measure"] == "input 'letters' changed"
    assert planned["join"] == "after measure"
    run(workspace, until(gated(9), "measure"))
    planned = {row.name: row.why for row in plan(gated(9), workspace, "small")}
    assert planned["join"] == f"it was skipped in run {first}"
    second, _ = run(workspace, gated(9))
    said = why(workspace, gated(9), RunLog(workspace).header(second), "join")
    assert said == [f"join was done because run {first} had skipped it: verdict did not pass"]


def fail_twice(name: str) -> Text:
    ATTEMPTS.append(name)
    if len(ATTEMPTS) < 3:
        raise UnavailableError("down")
    return Text(text=name)


def refuse(name: str) -> Text:
    ATTEMPTS.append(name)
    raise GateError("no")


def meet(name: str) -> Text:
    BARRIER.wait()
    return Text(text=name)


def sleep(seconds: float) -> Text:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)
    return Text(text="woke")


def test_what_may_pass_is_retried_and_a_gate_is_not(workspace: Workspace, source: Path) -> None:
    """Retries are for the outside world, never for a verdict."""
    policy = Policy(retries=2, retry_delay=0)
    _, records = run(workspace, trace(lambda do: do(fail_twice, "a"), policies={"fail_twice": policy}))
    assert records["fail_twice"] == Text(text="a")
    assert len(ATTEMPTS) == 3
    with pytest.raises(GateError):
        run(workspace, trace(lambda do: do(refuse, "a"), policies={"refuse": policy}))
    assert len(ATTEMPTS) == 4


def test_independent_nodes_run_side_by_side(workspace: Workspace, source: Path) -> None:
    """Two nodes that wait for each other both end."""

    def both(do: Do) -> Text:
        return do(join, [do.named("left")(meet, "l"), do.named("right")(meet, "r")])

    assert run(workspace, trace(both))[1]["join"] == Text(text="l r")


def test_a_failure_stops_only_what_needs_it_and_is_the_runs_error(workspace: Workspace, source: Path) -> None:
    """The other branch ends; the run's log keeps the error and what it did not come to."""

    def dag(do: Do) -> Text:
        bad, good = do(refuse, "x"), do(look, str(source))
        return do(join, [bad, good])

    seen: list[NodeState] = []
    with pytest.raises(GateError, match="no"):
        run(workspace, trace(dag), seen)
    states = statuses(workspace, RunLog(workspace).ids()[0])
    assert states == {"refuse": "failed", "look": "done", "join": "waiting"}
    assert next(state.error for state in seen if state.status == "failed") == "no"


def test_a_step_past_its_deadline_is_stopped(workspace: Workspace, source: Path) -> None:
    """Soon after, not when it would have ended."""
    clock = time.monotonic()
    with pytest.raises(TimeLimitError, match="'sleep' ran past its 0.2 s; next: raise policy.sleep.timeout"):
        run(workspace, trace(lambda do: do(sleep, 30.0), policies={"sleep": Policy(timeout=0.2)}))
    assert time.monotonic() - clock < 10


@pytest.mark.parametrize("policy", [Policy(cpu=4096), Policy(memory_mb=2**40), Policy(gpu=64)])
def test_what_the_machine_does_not_have_is_refused_before_anything_runs(
    workspace: Workspace, source: Path, policy: Policy
) -> None:
    """With the file and line of the node."""
    with pytest.raises(DagError, match=r"test_run.py:\d+: step 'refuse' asks for .*accepted: at most \d+"):
        run(workspace, trace(lambda do: do(refuse, "x"), policies={"refuse": policy}))
    assert ATTEMPTS == []
