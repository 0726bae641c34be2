"""The same project on several engines: no difference where there is none, and every planted one by its name."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from components.endpoints import TOKEN
from components.errors import ConfigError, TrilhaError, UnavailableError
from components.project import Policy
from components.records import Record
from components.runs import Run, new_header
from components.workspace import Workspace, open_workspace
from flows.dag import Dag, Do, trace
from flows.engines import Engine, local
from flows.parity import Observed, chosen, differences, observed_nodes, parity


class Text(Record):
    text: str


class Verdict(Record):
    passed: bool


LEFT: list[str] = []
"""Failures that `stumble` has left to make."""


def say(text: str) -> Text:
    return Text(text=text)


def stumble(text: Text) -> Text:
    if LEFT:
        raise UnavailableError(LEFT.pop())
    return text


def judge(text: Text) -> Verdict:
    return Verdict(passed=len(text.text) < 10)


def join(texts: list[Text]) -> Text:
    return Text(text=" ".join(text.text for text in texts))


def shouting(word: str) -> Dag:
    def dag(do: Do) -> Text:
        first, second = do.named("say-a")(say, word), do.named("say-b")(say, "b")
        with do.when(do(judge, first)):
            return do(join, [do(stumble, first), second])

    return trace(dag, policies={"stumble": Policy(retries=2, retry_delay=0)})


def observed(tmp_path: Path, engine: Engine, name: str, dag: Dag, drawn: Dag | None = None) -> Observed:
    """What `engine` makes of `dag` in a state of its own; `drawn` is what it is given where that is another."""
    profile = open_workspace("test").profile.model_copy(update={"state": str(tmp_path / name)})
    workspace = Workspace("test", profile)
    run = Run(workspace, new_header(dag.name, "small", "test", "local"))
    outcome = "done"
    try:
        engine(drawn or dag, run)
    except TrilhaError as error:
        outcome = type(error).__name__
    return Observed(name, outcome, "", 0.0, observed_nodes(workspace, dag, run.header.id))


def found(*sides: Observed) -> list[str]:
    return [f"{one.node}: {one.what}" for one in differences(sides)]


class Careless:
    """A run on an engine that hands nodes on as `tamper` says."""

    def __init__(self, tamper: Any) -> None:
        self._tamper = tamper

    def __call__(self, dag: Dag, run: Run) -> dict[str, Record]:
        apply = run.apply

        def careless(node: Any, arguments: Mapping[str, object], guards: Any) -> Record:
            return self._tamper(lambda given, gates: apply(node, given, gates), node, arguments, guards)

        run.apply = careless  # type: ignore[method-assign]
        return local.run(dag, run)


def drop_guards(apply: Any, node: Any, arguments: Any, guards: Any) -> Record:
    return apply(arguments, ())


def mix_up(apply: Any, node: Any, arguments: Any, guards: Any) -> Record:
    return apply({"texts": arguments["texts"][::-1]} if node.name == "join" else arguments, guards)


def do_twice(apply: Any, node: Any, arguments: Any, guards: Any) -> Record:
    if node.name == "say-b":
        apply(arguments, guards)
    return apply(arguments, guards)


def test_the_same_engine_twice_does_not_differ(repository: Path, tmp_path: Path) -> None:
    """Ids, times and places are not compared: a passing gate, one that holds, and a step that is tried again."""
    for word in ("a", "a long text, too long"):
        sides = []
        for name in ("one", "two"):
            LEFT[:] = ["down"]
            sides.append(observed(tmp_path, local.run, f"{name}-{len(word)}", shouting(word)))
        assert found(*sides) == []
        assert sides[0].nodes["join"].status == ("done" if word == "a" else "skipped")
        LEFT.clear()
    assert {name: node.attempts for name, node in sides[0].nodes.items()}["stumble"] == 1  # skipped


@pytest.mark.parametrize(
    ("word", "tamper", "differ"),
    [
        ("a", drop_guards, ["stumble: guards[0]", "join: guards[0]"]),
        ("too long to pass", drop_guards, ["stumble: status", "stumble: guards[0]", "join: status", "join: guards[0]"]),
        ("a", mix_up, ["join: key.inputs.texts", "join: output.text"]),
        ("a", do_twice, ["say-b: status", "say-b: attempts"]),
    ],
)
def test_an_engine_that_does_it_otherwise_is_found(
    repository: Path, tmp_path: Path, word: str, tamper: Any, differ: list[str]
) -> None:
    """A guard that is dropped, also where its gate passes; records in the wrong place; a node that is done twice."""
    good = observed(tmp_path, local.run, "good", shouting(word))
    assert found(good, observed(tmp_path, Careless(tamper), "careless", shouting(word))) == differ


def test_another_dag_is_found(repository: Path, tmp_path: Path) -> None:
    """A node that is missing, one that nobody asked for, and an edge that is not there."""
    dag = shouting("a")

    def fewer(do: Do) -> Text:
        first = do.named("say-a")(say, "a")
        with do.when(do(judge, first)):
            return do(join, [first, do.named("say-c")(say, "b")])

    drawn = trace(fewer)
    assert found(observed(tmp_path, local.run, "good", dag), observed(tmp_path, local.run, "other", dag, drawn)) == [
        "say-b: is there",
        "stumble: is there",
        "join: needs",
        "say-c: is there",
    ]


def test_retries_and_failures_are_compared(repository: Path, tmp_path: Path) -> None:
    """A step tried more often, and a run that ends otherwise."""
    good = observed(tmp_path, local.run, "good", shouting("a"))
    LEFT[:] = ["down"]
    assert found(good, observed(tmp_path, local.run, "again", shouting("a"))) == ["stumble: attempts"]
    LEFT[:] = ["down"] * 3
    failed = observed(tmp_path, local.run, "failed", shouting("a"))
    assert found(good, failed) == [
        "(run): ended", "stumble: status", "stumble: attempts", "stumble: guards[0]", "stumble: error", "join: is there",
    ]  # fmt: skip


def test_a_difference_is_one_line_with_each_engines_value(repository: Path, tmp_path: Path) -> None:
    """Node, what, and its value everywhere."""
    sides = [observed(tmp_path, local.run, name, shouting(name)) for name in ("a", "c")]
    lines = [str(one) for one in differences(sides)]
    assert 'say-a: output.text: a "a", c "c"' in lines
    assert all("\n" not in line for line in lines)
    assert not any(line.startswith("stumble: key") for line in lines)  # it was given what differs already


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("local,airflow", "engine 'airflow'; accepted: kubeflow, local, prefect"),
        ("local", "--engines local; accepted: two or more of"),
        ("local,local", "--engines local,local; accepted: two or more of"),
    ],
)
def test_what_cannot_be_compared_is_refused(repository: Path, names: str, message: str) -> None:
    """An engine that nobody knows, one engine, the same one twice."""
    with pytest.raises(ConfigError, match=message):
        chosen(names, "test")


def test_an_engine_that_cannot_run_here_is_left_out_by_name(repository: Path) -> None:
    """Unless it was asked for: then that is an error, which says what to do."""
    engines, left_out = chosen(None, "test")
    assert engines == ["local", "prefect"]
    assert left_out["kubeflow"].startswith("profile 'test' names no image")
    with pytest.raises(ConfigError, match="names no image.*next: make image"):
        chosen("local,kubeflow", "test")


# --- with every real part -----------------------------------------------------------------------------------------------


@pytest.fixture
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where fresh repositories are made; nothing may be left there, nor run."""
    folder = tmp_path_factory.mktemp("fresh")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield folder
    assert left_behind(folder) == []


def left_behind(folder: Path) -> list[str]:
    """Files below `folder`, and services that keep theirs there."""
    running = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(TOKEN, "").startswith(str(folder)):
                running.append(process.name())
        except psutil.Error:
            continue
    return [*running, *(path.name for path in folder.glob("trilha-fresh-*"))]


def trilha(*arguments: str) -> subprocess.Popen[str]:
    # What a shell runs in the background ignores the signal, and so do its children unless they say otherwise.
    listen = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    program = f"{listen}; from flows.cli import main; main()"
    command = [sys.executable, "-c", program, "parity", "small", "-p", "test", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str], code: int) -> str:
    output, errors = process.communicate(timeout=400)
    assert process.returncode == code, output + errors
    return output


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_whole_lifecycle(small: Path, temporary: Path) -> None:
    """From raw data to a release on both engines, without a difference; nothing of it is left."""
    said = json.loads(ended(trilha("--engines", "local,prefect", "--json"), 0))
    assert said["differences"] == []
    assert [one["engine"] for one in said["observed"]] == ["local", "prefect"]
    for one in said["observed"]:
        assert one["outcome"] == "done"
        assert len(one["nodes"]) == 14
        assert {(node["status"], node["attempts"]) for node in one["nodes"].values()} == {("done", 1)}
        assert all(node["digest"] for node in one["nodes"].values())


@pytest.mark.long
@pytest.mark.timeout(600)
def test_in_containers(in_containers: Path, temporary: Path) -> None:
    """Each node in a container of Kubeflow's own runner: from raw data to a release, without a difference."""
    said = json.loads(ended(trilha("--engines", "local,kubeflow", "--json"), 0))
    assert said["differences"] == []
    assert {len(one["nodes"]) for one in said["observed"]} == {14}


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_candidate_that_is_refused(small: Path, temporary: Path) -> None:
    """What is behind the gate is skipped on both, for the same reason."""
    path = small / "config" / "projects" / "small" / "project.yaml"
    path.write_text(path.read_text().replace("auc: 0.6", "auc: 0.999"))
    text = ended(trilha("--engines", "local,prefect", "--until", "register"), 0)
    line = next(line for line in text.splitlines() if line.startswith("register"))
    assert line.split()[1] == line.split()[3] == "skipped"
    assert "1 skipped, 0 retries; no difference" in text


class Source(SimpleHTTPRequestHandler):
    """Files over HTTP, by a server that cannot be used when it is asked for one the first time."""

    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        if self.asked == 1:
            self.send_error(503)
        else:
            super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("other", ["kubeflow", "prefect"])
def test_a_source_that_answers_the_second_time(
    small: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, other: str
) -> None:
    """It is asked again as often on both engines."""
    if other == "kubeflow":
        request.getfixturevalue("in_containers")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Source) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        path = small / "config" / "projects" / "small" / "project.yaml"
        path.write_text(path.read_text().replace("data/", f"http://127.0.0.1:{server.server_port}/data/"))
        profile = small / "config" / "profiles" / "test.yaml"
        profile.write_text(profile.read_text() + "inside: [127.0.0.1]\n")
        open_workspace.cache_clear()

        def begin(_: str) -> None:
            Source.asked = 0

        result = parity("small", "test", ["local", other], "publish", begin)
        server.shutdown()
    assert [str(one) for one in result.differences] == []
    assert {one.engine: one.nodes["ingest"].attempts for one in result.observed} == {"local": 2, other: 2}


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_step_that_draws_lots_is_found(small: Path, temporary: Path) -> None:
    """The node that makes something else each time is named with what differs, and the exit code says so."""
    path = small / "notebooks" / "small.ipynb"
    drawn = path.read_text().replace("C=strength", "C=strength * (1 + __import__('secrets').randbelow(1000))")
    assert drawn != path.read_text()
    path.write_text(drawn)
    text = ended(trilha("--engines", "local,prefect", "--until", "select"), 1)
    lines = text.splitlines()
    assert next(line for line in lines if line.startswith("train-00 ")).endswith("DIFFERS")
    assert next(line for line in lines if line.startswith("prepare ")).endswith("same")
    assert "train-00: output." in text
    assert not any(line.startswith(("observe:", "ingest:", "validate:", "publish:", "prepare:")) for line in lines)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_told_to_stop(small: Path, temporary: Path, ending: signal.Signals) -> None:
    """In the middle of a run: it stops, and so does all that it started."""
    process = trilha("--engines", "local,prefect", "--until", "select")
    assert process.stderr
    while "mlflow is up" not in (line := process.stderr.readline()):
        assert line, "it ended by itself"
    assert left_behind(temporary)
    os.kill(process.pid, ending)
    process.communicate(timeout=100)
    assert process.returncode == 130
