"""Several releases behind one endpoint: who answers whom, what is learned from feedback, and what feedback is refused."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
import yaml
from hypothesis import given
from scipy.stats import binomtest

from components.errors import UnavailableError
from components.gateway import log, receipts
from components.gateway.conduct import arms_of
from components.profile import GatewayCache
from components.reconcile import uphold
from components.records import Release
from components.selection_settings import Selection
from components.serving import take_down
from components.tally import Rewards, SqliteTally, Tally, counts_apart, open_tally
from components.workspace import Workspace
from tests.components.gateway.conftest import PROJECT, ROW, Running, Start, key_of, running, until
from tests.components.gateway.test_fuzz import BOUNDED, CHECKS
from tests.components.gateway.test_v2 import INFER, plain
from tests.triton import Fitted, fit, free_ports, release_of

pytestmark = pytest.mark.xdist_group("gateway")

PATH = f"/v1/projects/{PROJECT}/feedback"


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    """A model that answers differently."""
    return fit(tmp_path_factory.mktemp("second"), seed=5, scale=2.0)


def choose(repository: Path, **selection: Any) -> None:
    """Put a selection into the project's settings; a gateway that runs sees it within a second."""
    path = repository / "config" / "projects" / PROJECT / "project.yaml"
    settings = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(settings | {"selection": selection}, sort_keys=False))


@pytest.fixture
def two(behind: Release, served: Workspace, second: Fitted) -> tuple[Release, Release]:
    """Releases 1 and 2; the second one serves."""
    return behind, release_of(served, second, PROJECT, "second")


def chosen(gateway: Running, repository: Path, **selection: Any) -> None:
    """`choose`, and wait for the gateway."""
    choose(repository, **selection)
    until(lambda: gateway.app.catalogue.entry(PROJECT).selection == Selection(**selection))
    until(lambda: gateway.app.catalogue.entry(PROJECT).router is not None)


def fed(gateway: Running, **told: Any) -> httpx.Response:
    return gateway.client.post(PATH, json=told)


# --- who answers ------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_shares(gateway: Running, two: tuple[Release, Release], repository: Path) -> None:
    """Of requests without a key, each arm answers its share, within what chance allows."""
    chosen(gateway, repository, how="ab", arms=[1, 2], shares=[0.8, 0.2])
    random.seed(11)
    found = Counter(gateway.predict(ROW).json()["release"] for _ in range(600))
    assert found.total() == 600
    assert binomtest(found[1], 600, 0.8).pvalue > 0.001


def test_a_key_stays(gateway: Running, two: tuple[Release, Release], repository: Path) -> None:
    """One key, one release, in every form of a request; keys are spread by the shares."""
    chosen(gateway, repository, how="ab", arms=[1, 2], shares=[0.7, 0.3])
    by_key = {}
    for number in range(300):
        key = {"Trilha-Key": f"caller {number}"}
        by_key[number] = gateway.predict(ROW, **key).json()["release"]
        if number < 20:
            assert gateway.predict(ROW, **key).json()["release"] == by_key[number]
            v2 = gateway.client.post(INFER, json=plain([ROW]), headers=key)
            tensorflow = gateway.client.post(f"/v1/models/{PROJECT}:predict", json={"instances": [ROW]}, headers=key)
            for answer in (v2, tensorflow):
                assert int(answer.headers["Trilha-Release"]) == by_key[number]
    assert binomtest(list(by_key.values()).count(1), 300, 0.7).pvalue > 0.001


def test_a_column_is_the_key(gateway: Running, two: tuple[Release, Release], repository: Path) -> None:
    """Its value decides, in rows and in columns; a request with two values is refused, and says which column."""
    chosen(gateway, repository, how="ab", arms=[1, 2], key="hour")
    by_hour = {hour: gateway.predict({**ROW, "hour": hour}).json()["release"] for hour in range(24)}
    assert set(by_hour.values()) == {1, 2}
    for hour, release in by_hour.items():
        row = {**ROW, "hour": hour}
        assert gateway.predict(row, row).json()["release"] == release
        for body in ({"instances": [row]}, {"inputs": {name: [value] for name, value in row.items()}}):
            answer = gateway.client.post(f"/v1/models/{PROJECT}:predict", json=body)
            assert int(answer.headers["Trilha-Release"]) == release
    told = gateway.predict({**ROW, "hour": 1}, {**ROW, "hour": 2})
    assert (told.status_code, told.json()["field"]) == (422, "hour")
    one = {gateway.predict({**ROW, "hour": hour}, **{"Trilha-Key": "me"}).json()["release"] for hour in range(24)}
    assert len(one) == 1


def test_an_arm_that_fails(gateway: Running, two: tuple[Release, Release], repository: Path) -> None:
    """The release that serves answers in its place, and it is brought up again."""
    chosen(gateway, repository, how="ab", arms=[1, 2])
    take_down(gateway.workspace.server, two[0].bundle.model)
    answers = [gateway.predict(ROW) for _ in range(30)]
    assert {answer.status_code for answer in answers} == {200}
    until(lambda: two[0].bundle.model in gateway.workspace.server.loaded())
    until(lambda: gateway.predict(ROW).json()["release"] == 1)


def test_arms_stay_loaded(gateway: Running, two: tuple[Release, Release], repository: Path, fitted: Fitted) -> None:
    """Whatever moves the stable name leaves them."""
    chosen(gateway, repository, how="ab", arms=[1, 2])
    gateway.workspace.server.unload(PROJECT)
    uphold(gateway.workspace, two[1])
    assert {one.bundle.model for one in two} <= gateway.workspace.server.loaded()


def test_an_arm_that_is_not_there(gateway: Running, two: tuple[Release, Release], repository: Path) -> None:
    """What serves goes on to, and what is amiss is said."""
    choose(repository, how="ab", arms=[1, 9])
    until(lambda: gateway.client.get(f"/v1/projects/{PROJECT}").json()["trouble"])
    assert "arm 9 does not take part" in gateway.client.get(f"/v1/projects/{PROJECT}").json()["trouble"]
    assert gateway.predict(ROW).json()["release"] == 2


# --- what is learned --------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("how", ["epsilon-greedy", "thompson"])
def test_a_bandit_finds_the_better_arm(
    gateway: Running, two: tuple[Release, Release], repository: Path, how: str
) -> None:
    """Arms that are right in 3 of 10 and in 7 of 10 cases, told late: the better one ends with most requests."""
    chosen(gateway, repository, how=how, arms=[1, 2])
    random.seed(3)
    draw, pending, answered = random.Random(5), [], []
    for _ in range(400):
        said = gateway.predict(ROW).json()
        answered.append(said["release"])
        pending.append((said["receipt"], float(draw.random() < {1: 0.7, 2: 0.3}[said["release"]])))
        if len(pending) > 20:  # feedback is late
            receipt, reward = pending.pop(0)
            assert fed(gateway, receipt=receipt, reward=reward).json()["counted"] is True
    assert answered[-150:].count(1) > 105
    learned = open_tally(gateway.workspace).rewards(PROJECT)
    assert sum(one.count for one in learned.values()) == 380
    assert learned[1].total / learned[1].count > learned[2].total / max(1, learned[2].count)


def test_what_was_learned_is_everybodys(two: tuple[Release, Release], repository: Path, served: Workspace) -> None:
    """Feedback to one gateway moves another one, and one that is started later."""
    choose(repository, how="epsilon-greedy", arms=[1, 2], epsilon=0.0)
    with running(repository, {}) as one, running(repository, {}) as other:
        receipt = {}
        while set(receipt) != {1, 2}:
            said = one.predict(ROW).json()
            receipt[said["release"]] = said["receipt"]
        fed(other, receipt=receipt[1], reward=1)
        fed(other, receipt=receipt[2], reward=0)
        until(lambda: {one.predict(ROW).json()["release"] for _ in range(10)} == {1})
        known = 'trilha_gateway_arm_rewards{project="small",release="1"} 1.0'
        until(lambda: known in one.client.get("/metrics").text)
        until(lambda: arms_of(open_tally(one.workspace), PROJECT)[1].requests > 10)
    with running(repository, {}) as later:
        until(lambda: {later.predict(ROW).json()["release"] for _ in range(10)} == {1})


def test_a_label_is_held_against_the_answer(
    two: tuple[Release, Release], repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a prediction that was written down; one that was not yet, or never, is told so."""
    choose(repository, how="thompson", arms=[1, 2])
    path = repository / "config" / "projects" / PROJECT / "project.yaml"
    path.write_text(f"{path.read_text()}online: {{log: 1.0}}\n")
    monkeypatch.setattr(log.PredictionLog.__init__, "__defaults__", (0.2,))
    with running(repository, {}) as gateway:
        said = gateway.predict(ROW, ROW).json()
        label = said["answers"][0]["label"]
        until(lambda: fed(gateway, receipt=f"{said['receipt']}.1", label=label).status_code == 200)
        assert fed(gateway, receipt=said["receipt"], label=label).json()["reward"] == 1.0
        other = gateway.predict(ROW).json()
        wrong = 1 - other["answers"][0]["label"]
        until(lambda: fed(gateway, receipt=other["receipt"], label=wrong).json().get("reward") == 0.0)
        made_up = other["receipt"][:-12] + "0" * 12
        told = fed(gateway, receipt=made_up, label=1)
        assert (told.status_code, told.json()["field"]) == (409, "label")
        assert told.headers["Retry-After"] == "60"


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.fixture
def learning(gateway: Running, two: tuple[Release, Release], repository: Path) -> Running:
    """A gateway that learns."""
    chosen(gateway, repository, how="thompson", arms=[1, 2], window=1000)
    return gateway


def moved(receipt: str, seconds: float) -> str:
    """A receipt as if it had been given at another moment."""
    front, unique = receipt.rsplit("-", 1)
    moment = int(unique[:12], 16) + int(seconds * 1000)
    return f"{front}-{moment:012x}{unique[12:]}"


def test_twice_counts_once(learning: Running) -> None:
    """Also with the row spelt out, and with another reward; rows of one request count each."""
    receipt = learning.predict(ROW, ROW).json()["receipt"]
    assert fed(learning, receipt=receipt, reward=1).json()["counted"] is True
    for again in (receipt, f"{receipt}.0"):
        assert fed(learning, receipt=again, reward=0).json()["counted"] is False
    assert fed(learning, receipt=f"{receipt}.1", reward=0).json()["counted"] is True
    parsed = receipts.parse(receipt)
    assert parsed is not None
    assert open_tally(learning.workspace).rewards(PROJECT) == {parsed.release: Rewards(2, 1.0)}


def test_receipts_that_are_refused(learning: Running) -> None:
    """No receipt, another project's, another store's, of a release that is no arm, too old, of the future."""
    receipt = learning.predict(ROW).json()["receipt"]
    parsed = receipts.parse(receipt)
    assert parsed is not None
    other_digest = receipt.replace(parsed.digest, "0" * 12)
    no_arm = receipt.replace(f"{PROJECT}-{parsed.release}-", f"{PROJECT}-7-")
    refused = {
        "x": 422, "": 422, receipt.replace(PROJECT, "other"): 422, other_digest: 404, no_arm: 409,
        moved(receipt, -1001): 410, moved(receipt, 90): 422, f"{receipt}.999999": 422,
    }  # fmt: skip
    for text, status in refused.items():
        told = fed(learning, receipt=text, reward=1)
        assert (told.status_code, told.json()["field"]) == (status, "receipt"), text
    assert fed(learning, receipt=moved(receipt, -900), reward=1).status_code == 200
    assert sum(one.count for one in open_tally(learning.workspace).rewards(PROJECT).values()) == 1


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"reward": 1}, 422, "receipt"),
        ({"receipt": 3, "reward": 1}, 422, "receipt"),
        ({"receipt": "R"}, 422, "reward"),
        ({"receipt": "R", "reward": 1, "label": 1}, 422, "reward"),
        ({"receipt": "R", "reward": 1.5}, 422, "reward"),
        ({"receipt": "R", "reward": "much"}, 422, "reward"),
        ({"receipt": "R", "reward": 1, "more": 2}, 422, "more"),
        ([], 422, None),
    ],
)
def test_bodies_that_are_refused(learning: Running, body: Any, status: int, field: str | None) -> None:
    """The member at fault is named, with what is accepted."""
    if isinstance(body, dict) and body.get("receipt") == "R":
        body["receipt"] = learning.predict(ROW).json()["receipt"]
    told = learning.client.post(PATH, json=body)
    assert (told.status_code, told.json().get("field")) == (status, field), told.text
    assert told.json()["accepted"]
    assert learning.client.post(PATH, content=b"{").status_code == 400


def test_who_may(start: Start, two: tuple[Release, Release], repository: Path) -> None:
    """It takes a scope of its own, and a project that learns."""
    choose(repository, how="thompson", arms=[1, 2])
    gateway = start(authentication=True)
    receipt = gateway.predict(ROW, **key_of(gateway, "predict:small", name="asks")).json()["receipt"]
    tells, asks = key_of(gateway, "feedback:small", name="tells"), key_of(gateway, "predict:*", name="asks-more")
    body = {"receipt": receipt, "reward": 1}
    assert gateway.client.post(PATH, json=body).status_code == 401
    refused = gateway.client.post(PATH, json=body, headers=asks)
    assert (refused.status_code, refused.json()["accepted"]) == (403, "scope feedback:small")
    assert gateway.client.post(PATH, json=body, headers=tells).status_code == 200
    assert gateway.client.get(PATH, headers=tells).status_code == 405


def test_a_project_that_does_not_learn(gateway: Running) -> None:
    """409, and it is not in the description."""
    receipt = gateway.predict(ROW).json()["receipt"]
    told = fed(gateway, receipt=receipt, reward=1)
    assert (told.status_code, told.json()["detail"]) == (409, "small has no selection that learns")
    assert PATH not in gateway.client.get("/openapi.json").json()["paths"]


def test_the_description(learning: Running) -> None:
    """Feedback made of the OpenAPI document, right and wrong: no 5xx, and every answer is one that it describes."""
    schema = schemathesis.openapi.from_dict(learning.client.get("/openapi.json").json())
    operation = next(one.ok() for one in schema.get_all_operations() if one.ok().path == PATH)
    asked = 0
    for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):

        @BOUNDED
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: schemathesis.Case) -> None:
            nonlocal asked
            asked += 1
            case.call_and_validate(base_url=str(learning.client.base_url), checks=CHECKS, timeout=20)

        ask()
    assert asked > 50


# --- where it is kept -------------------------------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "redis"])
def tally(
    request: pytest.FixtureRequest, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Tally]:
    """Each kind, as a profile opens it."""
    if request.param == "sqlite":
        yield open_tally(workspace)
        return
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no redis-server on PATH")
    (port,) = free_ports(1)
    process = subprocess.Popen(
        [program, "--port", str(port), "--save", "", "--dir", str(tmp_path)], stdout=subprocess.DEVNULL
    )
    monkeypatch.setenv("CACHE_URL", f"redis://127.0.0.1:{port}/0")
    gateway = workspace.profile.services.gateway.model_copy(update={"cache": GatewayCache(redis_env="CACHE_URL")})
    services = workspace.profile.services.model_copy(update={"gateway": gateway})
    made = open_tally(Workspace(workspace.name, workspace.profile.model_copy(update={"services": services})))
    deadline = time.monotonic() + 10
    while True:
        try:
            made.rewards("none")
            break
        except UnavailableError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    yield made
    process.kill()
    process.wait()


def test_tallies_are_alike(tally: Tally) -> None:
    """The last word of each process by step; each prediction's reward once; sums by release; nothing of others."""
    tally.count("a", "1.0", "x", b"1")
    tally.count("a", "1.0", "x", b"2")
    tally.count("a", "1.0", "y", b"3")
    tally.count("a", "1.1", "x", b"4")
    assert sorted(tally.counts("a", "1.0")) == [b"2", b"3"]
    assert tally.counts("b", "1.0") == []
    assert tally.reward("a", "p.0", 3, 0.25) is True
    assert tally.reward("a", "p.0", 3, 1.0) is False
    assert tally.reward("a", "p.1", 3, 0.5) is True
    assert tally.reward("a", "p.2", 4, 1.0) is True
    assert tally.rewards("a") == {3: Rewards(2, 0.75), 4: Rewards(1, 1.0)}
    assert tally.rewards("b") == {}


def test_gateways_that_count_apart(workspace: Workspace) -> None:
    """A profile whose gateways may be on several machines is told to name a Redis; others are told nothing."""
    profile = workspace.profile
    assert not counts_apart(workspace)
    far = Workspace("far", profile.model_copy(update={"state": "s3://bucket/state"}))
    assert "services.gateway.cache.redis_env" in counts_apart(far)
    gateway = profile.services.gateway.model_copy(update={"cache": GatewayCache(redis_env="CACHE_URL")})
    services = profile.services.model_copy(update={"gateway": gateway})
    assert not counts_apart(Workspace("far", far.profile.model_copy(update={"services": services})))


def test_a_tally_that_is_gone(tmp_path: Path) -> None:
    """It is said plainly, and is nobody's traceback."""
    path = tmp_path / "gateway.db"
    path.write_bytes(b"not a database, but some text that is long enough to be read as one's head")
    with pytest.raises(UnavailableError, match=r"gateway\.db: file is not a database"):
        SqliteTally(path).rewards("a")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"arms": [1, 1]}, "each arm once"),
        ({"shares": [0.5, 0.6]}, "1 in sum"),
        ({"how": "thompson", "shares": [0.5, 0.5]}, "rewards decide"),
        ({"arms": [1]}, "at least 2"),
    ],
)
def test_selections_that_make_no_sense(wrong: dict[str, Any], words: str) -> None:
    """Refused when they are read."""
    with pytest.raises(ValueError, match=words):
        Selection(**{"how": "ab", "arms": [1, 2], **wrong})
