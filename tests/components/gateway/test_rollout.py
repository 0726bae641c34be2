"""Roll-outs on a real Triton, under load: who answers, what ends them, and that no request ever pays for it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from components.errors import ConfigError, ConflictError, GateError, NotFoundError
from components.gateway.conduct import counts_of
from components.records import Bundle, Release, digest
from components.releases import newest, write
from components.rollout import abort, start
from components.rollout_settings import RolloutRules
from components.rollouts import Rollout, change, ended, rollouts, under_way
from components.serving import serve
from components.tally import SqliteTally, open_tally
from components.workspace import Workspace
from tests.components.gateway.conftest import PROJECT, ROW, Running, running, until
from tests.components.gateway.load import Load
from tests.components.gateway.test_v2 import INFER, plain
from tests.triton import Fitted, fit, manifest_of, release_of

pytestmark = pytest.mark.xdist_group("gateway")

QUICK: dict[str, Any] = {
    "errors": 0.2, "latency": 20.0, "disagreement": 0.35, "compare": 0.5, "samples": 50, "seconds": 1.0, "longest": 60.0,
}  # fmt: skip
"""Bounds that a busy machine keeps, and few requests show."""

RAISES = """

class TritonPythonModel(TritonPythonModel):
    def execute(self, requests):
        raise RuntimeError("spoilt")
"""

NAN = """

class TritonPythonModel(TritonPythonModel):
    def _response(self, arrays):
        import numpy

        nan = numpy.float32("nan")
        return super()._response(tuple(one * nan if one.dtype.kind == "f" else one for one in arrays))
"""

SLOW = """

class TritonPythonModel(TritonPythonModel):
    def execute(self, requests):
        import time

        time.sleep(0.2)
        return super().execute(requests)
"""


@pytest.fixture(scope="module")
def alike(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    """A model that mostly answers as the one that serves."""
    return fit(tmp_path_factory.mktemp("alike"), seed=5)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    """A model that mostly does not."""
    return fit(tmp_path_factory.mktemp("other"), seed=5, scale=0.05)


def rolling(workspace: Workspace, fitted: Fitted, key: str = "candidate", **rules: Any) -> Release:
    """A release that becomes the candidate of a roll-out, as `trilha run` makes it where the project says `rollout:`."""
    return release_of(workspace, fitted, PROJECT, key, RolloutRules(**{**QUICK, **rules}))


def spoilt(workspace: Workspace, fitted: Fitted, code: str, **rules: Any) -> Release:
    """A candidate whose post-processing has `code` in it: nothing but requests finds out."""
    made = manifest_of(workspace, fitted, PROJECT, "spoilt")
    bundle = made(1).bundle
    name = f"{PROJECT}-{digest(code)[:12]}"
    folder = workspace.home / "spoilt"
    shutil.rmtree(folder, ignore_errors=True)
    for path, file in bundle.files.items():
        target = folder / path.replace(bundle.model, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        data = workspace.artifacts.local(file).read_bytes()
        if path.endswith("config.pbtxt"):
            data = data.replace(bundle.model.encode(), name.encode())
        if path.endswith("-post/1/model.py"):
            data += code.encode()
        target.write_bytes(data)
    files = workspace.artifacts.publish(f"spoilt-{digest(code)}", folder)
    changed: Bundle = bundle.model_copy(update={"model": name, "digest": digest(code), "files": files})
    return write(
        workspace.store, PROJECT, "spoilt",
        lambda number: made(number).model_copy(update={"bundle": changed, "digest": "f" * 64, "key": "spoilt"}),
        RolloutRules(**{**QUICK, **rules}),
    )  # fmt: skip


def last(workspace: Workspace) -> Rollout:
    return next(rollouts(workspace.store, PROJECT))


def is_so(workspace: Workspace, state: str, seconds: float = 60.0) -> Rollout:
    """Wait for the state of the last roll-out."""
    until(lambda: last(workspace).state == state, seconds)
    return last(workspace)


def serves(gateway: Running, release: Release) -> bool:
    """Whether a gateway gives all requests to a release."""
    entry = gateway.app.catalogue.entry(PROJECT)
    return entry.router is None and entry.champion is not None and entry.champion.number == release.number


def test_a_canary_is_promoted_by_itself(gateway: Running, behind: Release, alike: Fitted) -> None:
    """Step by step, each with a reason in numbers; under load no request fails, and both releases answer meanwhile."""
    workspace = gateway.workspace
    with Load(gateway.client.base_url, vary=True) as load:
        load.more()
        made = rolling(workspace, alike, shares=[0.2, 0.5], auto=True)
        assert newest(workspace.store, PROJECT).number == behind.number
        done = is_so(workspace, "promoted")
        until(lambda: serves(gateway, made))
        begun = len(load.answers)
        load.more()
    by_release = load.check()
    assert set(by_release) == {behind.number, made.number}
    assert {told.answer["release"] for told in load.answers[begun + 8 :]} == {made.number}
    assert newest(workspace.store, PROJECT).number == made.number
    assert [event.what for event in done.events] == ["started at 20%", "went on to 50%", "promoted"]
    assert "requests failed" in done.events[-1].why
    assert {event.who for event in done.events[1:]} == {"gateway"}


@pytest.mark.parametrize("code", [RAISES, NAN], ids=["raises", "says NaN"])
def test_a_candidate_that_fails(gateway: Running, behind: Release, alike: Fitted, code: str) -> None:
    """It is given up by itself; not one request fails meanwhile, for the running release answers in its place."""
    with Load(gateway.client.base_url, vary=True) as load:
        load.more()
        made = spoilt(gateway.workspace, alike, code, shares=[0.3])
        done = is_so(gateway.workspace, "aborted")
        load.more()
    assert set(load.check()) == {behind.number}
    assert "requests failed" in done.events[-1].why
    assert newest(gateway.workspace.store, PROJECT).number == behind.number
    assert (done.running, done.candidate) == (behind.number, made.number)


def test_blue_green_back_at_once(gateway: Running, behind: Release, alike: Fitted) -> None:
    """All requests go to a green that fails; each is answered by blue, and blue has them back."""
    with Load(gateway.client.base_url, vary=True) as load:
        load.more()
        spoilt(gateway.workspace, alike, RAISES, how="blue-green")
        is_so(gateway.workspace, "aborted")
        load.more()
    assert set(load.check()) == {behind.number}


@pytest.mark.parametrize("how", ["canary", "shadow"])
def test_a_candidate_that_answers_differently(gateway: Running, behind: Release, other: Fitted, how: str) -> None:
    """It is given up for its disagreement; as a shadow it has answered nobody."""
    with Load(gateway.client.base_url, vary=True) as load:
        load.more()
        rolling(gateway.workspace, other, how=how, shares=[0.5], disagreement=0.1)
        done = is_so(gateway.workspace, "aborted")
        load.more()
    assert "answered differently" in done.events[-1].why
    answered = set(load.check())
    assert (answered == {behind.number}) == (how == "shadow")


def test_a_slow_candidate(gateway: Running, behind: Release, alike: Fitted) -> None:
    """It is given up for its latency, by the median, before it is known what the p99 is."""
    with Load(gateway.client.base_url, vary=True) as load:
        load.more()
        spoilt(gateway.workspace, alike, SLOW, shares=[0.5], latency=3.0, disagreement=None)
        done = is_so(gateway.workspace, "aborted")
    load.check()
    assert done.events[-1].why.startswith("p50")


def test_a_bundle_that_triton_refuses(gateway: Running, behind: Release, alike: Fitted) -> None:
    """The roll-out ends at once, and says why; what serves goes on."""
    with Load(gateway.client.base_url, clients=2, vary=True) as load:
        load.more()
        spoilt(gateway.workspace, alike, "\nraise RuntimeError('no model at all')\n")
        done = is_so(gateway.workspace, "aborted")
        load.more()
    assert set(load.check()) == {behind.number}
    assert done.events[-1].why.startswith("the candidate cannot be served")
    assert gateway.client.get("/health/ready").status_code == 200


def test_promoted_and_aborted_by_a_person(gateway: Running, behind: Release, alike: Fitted, other: Fitted) -> None:
    """Under load: one is given up, the next one is promoted; no request fails, and each answer is its release's own."""
    workspace = gateway.workspace
    with Load(gateway.client.base_url, vary=True) as load:
        load.more()
        first = rolling(workspace, other, "first", shares=[0.5], disagreement=None, errors=0.001)
        until(lambda: any(told.answer["release"] == first.number for told in load.answers))
        abort(workspace, PROJECT, "a test")
        until(lambda: not gateway.app.catalogue.entry(PROJECT).router)
        begun = len(load.answers)
        load.more()
        assert first.number not in {told.answer["release"] for told in load.answers[begun + 8 :]}
        second = rolling(workspace, alike, "second", shares=[0.5], errors=0.001)
        until(lambda: any(told.answer["release"] == second.number for told in load.answers))
        change(workspace.store, last(workspace), lambda one: ended(one, "promoted", "ana", "a test"))
        serve(workspace, second.bundle, PROJECT)
        until(lambda: serves(gateway, second))
        begun = len(load.answers)
        load.more()
        assert {told.answer["release"] for told in load.answers[begun + 8 :]} == {second.number}
    assert set(load.check()) == {behind.number, first.number, second.number}


def test_a_key_stays_with_its_release(gateway: Running, behind: Release, alike: Fitted) -> None:
    """A caller that names a key is answered by one release, and those of the first step stay with the candidate."""
    made = rolling(gateway.workspace, alike, shares=[0.2, 0.6], errors=0.05)
    until(lambda: gateway.app.catalogue.entry(PROJECT).router is not None)
    with Load(gateway.client.base_url, vary=True) as load:
        until(lambda: last(gateway.workspace).step == 1)
        until(lambda: gateway.app.catalogue.entry(PROJECT).rollout.step == 1)  # type: ignore[union-attr]
        split = len(load.answers)
        load.more(400)
    load.check()
    first = {(told.key, told.answer["release"]) for told in load.answers[: split - 60]}
    second = {(told.key, told.answer["release"]) for told in load.answers[split + 60 :]}
    for found in (first, second):
        assert len({key for key, _ in found}) == len(found)
    assert {key for key, release in first if release == made.number} <= {
        key for key, release in second if release == made.number
    } | ({key for key, _ in first} - {key for key, _ in second})
    share = sum(release == made.number for _, release in second) / len(second)
    assert 0.4 < share < 0.8


def test_a_gateway_that_is_started_again(behind: Release, served: Workspace, alike: Fitted, repository: Path) -> None:
    """In the middle of a step: the next process routes as the one before, and what was counted counts."""
    with running(repository, {}) as first:
        rolling(first.workspace, alike, shares=[0.5], errors=0.001, longest=600.0)
        until(lambda: first.app.catalogue.entry(PROJECT).router is not None)
        with Load(first.client.base_url, vary=True) as load:
            load.more(200)
            until(lambda: counts_of(open_tally(first.workspace), last(first.workspace)).candidate.requests > 50)
        before = counts_of(open_tally(first.workspace), last(first.workspace))
    load.check()
    with running(repository, {}) as again:
        assert again.app.catalogue.entry(PROJECT).router is not None
        with Load(again.client.base_url, vary=True) as load:
            load.more(100)
            counts = lambda: counts_of(open_tally(again.workspace), last(again.workspace))  # noqa: E731
            until(lambda: counts().candidate.requests > before.candidate.requests)
            assert counts().running.requests > before.running.requests
        assert set(load.check()) == {behind.number, behind.number + 1}
        assert last(again.workspace).state == "running"


def test_several_gateways(behind: Release, served: Workspace, alike: Fitted, repository: Path) -> None:
    """Two processes' counts are put together, one of them writes each change, and both see it."""
    with running(repository, {}) as one, running(repository, {}) as two:
        made = rolling(one.workspace, alike, shares=[0.3, 0.6], auto=True, seconds=3.0)  # each looks every second
        with Load(one.client.base_url, two.client.base_url, clients=2, vary=True) as load:
            done = is_so(one.workspace, "promoted")
            for gateway in (one, two):
                until(lambda gateway=gateway: serves(gateway, made))
        load.check()
        tally = open_tally(one.workspace)
        assert all(len(tally.counts(PROJECT, f"{done.number}.{step}")) == 2 for step in (0, 1))
    assert [event.what for event in done.events] == ["started at 30%", "went on to 60%", "promoted"]


def test_what_is_said(gateway: Running, behind: Release, alike: Fitted) -> None:
    """The project's page, the metrics and Triton's list of releases say who answers."""
    made = rolling(gateway.workspace, alike, shares=[0.5])
    until(lambda: gateway.app.catalogue.entry(PROJECT).router is not None)
    for _ in range(30):
        gateway.predict(ROW)
    told = gateway.client.get(f"/v1/projects/{PROJECT}").json()
    assert told["release"] == behind.number
    assert told["rollout"] == f"canary, release {behind.number} to {made.number}: 50%, step 1 of 1"
    text = gateway.client.get("/metrics").text
    assert f'trilha_gateway_release{{project="{PROJECT}"}} {behind.number}.0' in text
    assert f'trilha_gateway_rollout_share{{project="{PROJECT}",release="{made.number}"}} 0.5' in text
    assert f'trilha_gateway_arm_requests_total{{fate="answered",project="{PROJECT}",release="{made.number}"}}' in text
    asked = gateway.client.post(f"/v2/models/{PROJECT}/versions/{made.number}/infer", json=plain([ROW]))
    assert asked.headers["Trilha-Release"] == str(made.number)


def test_a_request_that_is_to_blame(gateway: Running, behind: Release, alike: Fitted) -> None:
    """What the running release refuses as well is nobody's failure."""
    rolling(gateway.workspace, alike, how="blue-green", longest=600.0, errors=0.001)
    until(lambda: gateway.app.catalogue.entry(PROJECT).router is not None)
    for _ in range(30):
        assert gateway.client.post(INFER, content=b'{"inputs": []}').status_code == 400
        assert gateway.client.post(f"/v1/projects/{PROJECT}/predict", json={"rows": [{}]}).status_code == 422
    counts = gateway.app.catalogue.entry(PROJECT).router.counts  # type: ignore[union-attr]
    assert (counts.candidate.failed, counts.running.failed) == (0, 0)


# --- records ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def begun(behind: Release, served: Workspace, alike: Fitted) -> tuple[Workspace, Release]:
    """A roll-out that nobody conducts."""
    return served, rolling(served, alike)


def test_changes_are_made_once(begun: tuple[Workspace, Release]) -> None:
    """Who saw an older state is refused, and nothing is written."""
    workspace, _ = begun
    seen = last(workspace)
    change(workspace.store, seen, lambda one: ended(one, "aborted", "ana", "first"))
    with pytest.raises(ConflictError, match="is another one by now"):
        change(workspace.store, seen, lambda one: ended(one, "promoted", "bob", "second"))
    assert last(workspace).state == "aborted"
    with pytest.raises(NotFoundError, match="no roll-out of small is under way"):
        abort(workspace, PROJECT, "once more")


def test_another_release_takes_the_place(begun: tuple[Workspace, Release], other: Fitted, behind: Release) -> None:
    """A new candidate ends the roll-out before in the same commit; a release without one serves at once."""
    workspace, first = begun
    second = rolling(workspace, other, "second")
    states = [(one.candidate, one.state) for one in rollouts(workspace.store, PROJECT)]
    assert states == [(second.number, "running"), (first.number, "aborted")]
    assert newest(workspace.store, PROJECT).number == behind.number
    third = release_of(workspace, other, PROJECT, "third")
    assert third.number == second.number  # the same evidence is the same release
    assert under_way(workspace.store, PROJECT) is not None


def test_start_by_hand(begun: tuple[Workspace, Release], behind: Release) -> None:
    """A candidate that was given up is tried again under a number of its own; what serves is none."""
    workspace, first = begun
    abort(workspace, PROJECT, "a test")
    again = start(workspace, PROJECT, first, RolloutRules(how="shadow"), "once more")
    assert (again.running, again.candidate, again.state) == (behind.number, first.number + 1, "running")
    assert newest(workspace.store, PROJECT).number == behind.number
    with pytest.raises(ConfigError, match="is what small serves"):
        start(workspace, PROJECT, behind, RolloutRules(), "a test")


def test_start_holds_the_bundle_to_its_golden_answers(
    behind: Release, served: Workspace, alike: Fitted, other: Fitted
) -> None:
    """A bundle that answers otherwise than its release says is refused, and nothing is written."""
    made = manifest_of(served, alike, PROJECT, "a")(7)
    strange = manifest_of(served, other, PROJECT, "b")(7).bundle
    mixed = made.model_copy(update={"bundle": strange.model_copy(update={"golden": made.bundle.golden})})
    with pytest.raises(GateError, match="golden answers differ"):
        start(served, PROJECT, mixed, RolloutRules(), "a test")
    assert not list(rollouts(served.store, PROJECT))


def test_the_tally_keeps_what_each_said(tmp_path: Path) -> None:
    """The last word of each process, by step."""
    tally = SqliteTally(tmp_path / "deep" / "gateway.db")
    tally.count("a", "1.0", "x", b"1")
    tally.count("a", "1.0", "x", b"2")
    SqliteTally(tmp_path / "deep" / "gateway.db").count("a", "1.0", "y", b"3")
    tally.count("a", "1.1", "x", b"4")
    assert sorted(tally.counts("a", "1.0")) == [b"2", b"3"]
    assert tally.counts("b", "1.0") == []
