"""Which release answers: one at a time, wholly, under load, through switches, bad bundles and a Triton that dies."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from components.errors import UnavailableError
from components.gateway import receipts
from components.project import Serve
from components.reconcile import uphold
from components.records import Release
from components.release import roll_back
from components.releases import write
from components.serve_settings import Triton as Settings
from components.serving import serve, take_down
from components.workspace import Workspace, open_workspace
from tests import triton as servers
from tests.components.gateway.conftest import PROJECT, ROW, Running, Start, configure, running, until
from tests.components.gateway.load import Load
from tests.conftest import place_small
from tests.triton import Fitted, Triton, fit, release_of

pytestmark = pytest.mark.xdist_group("gateway")


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    """A model that answers differently."""
    return fit(tmp_path_factory.mktemp("second"), seed=5, scale=2.0)


def another(workspace: Workspace, fitted: Fitted, project: str = PROJECT) -> Release:
    """Release another model, as the lifecycle does: the manifest, then Triton."""
    made = release_of(workspace, fitted, project, key=f"release {time.monotonic_ns()}")
    serve(workspace, made.bundle, project)
    return made


def test_switches_under_load(gateway: Running, behind: Release, fitted: Fitted, second: Fitted) -> None:
    """Releases and rollbacks while clients ask: no request fails, and each answer is that of the release it names."""
    with Load(gateway.client.base_url) as load:
        load.more()
        for number, model in ((2, second), (3, fitted), (4, second)):
            another(gateway.workspace, model)
            until(lambda number=number: gateway.predict(ROW).json()["release"] == number)
            load.more()
    assert set(load.check()) == {1, 2, 3, 4}
    by_release: dict[int, set[float]] = {}
    for told in load.answers:
        by_release.setdefault(told.answer["release"], set()).add(told.answer["answers"][0]["probability"])
    assert all(len(values) == 1 for values in by_release.values())
    assert by_release[1] == by_release[3] != by_release[2] == by_release[4]


def test_a_burst_of_releases(gateway: Running, fitted: Fitted, second: Fitted, tmp_path: Path) -> None:
    """Releases that follow so quickly that the one that answers is dropped from Triton cost a wait, and no error."""
    third = fit(tmp_path, seed=9, scale=3.0)
    with Load(gateway.client.base_url, clients=2) as load:
        load.more()
        for model in (second, third, fitted, second):
            another(gateway.workspace, model)
        until(lambda: gateway.predict(ROW).json()["release"] == 5)
        load.more()
    load.check()


def test_the_release_before_can_be_asked(gateway: Running, behind: Release, second: Fitted) -> None:
    """By its number, as long as Triton holds it; an answer names the release that was asked."""
    before = gateway.predict(ROW).json()["answers"][0]["probability"]
    another(gateway.workspace, second)
    until(lambda: gateway.predict(ROW).json()["release"] == 2)
    from tests.components.gateway.test_v2 import plain

    found = {}
    for version in (1, 2):
        answer = gateway.client.post(f"/v2/models/{PROJECT}/versions/{version}/infer", json=plain([ROW]))
        assert answer.headers["Trilha-Release"] == str(version)
        found[version] = next(one for one in answer.json()["outputs"] if one["name"] == "probability")["data"][0]
    assert found[1] == pytest.approx(before, abs=1e-6)
    assert found[1] != pytest.approx(found[2], abs=1e-4)


def test_a_bad_bundle(gateway: Running, second: Fitted) -> None:
    """A release that Triton refuses changes nothing for clients; what is amiss is said on the project's page."""
    with Load(gateway.client.base_url, clients=2) as load:
        good = release_of(gateway.workspace, second, PROJECT, key="good")
        name = f"{PROJECT}-0123456789ab"
        files = {path.replace(good.bundle.model, name): file for path, file in good.bundle.files.items()}
        del files[f"{name}-model/1/model.onnx"]
        spoilt = good.bundle.model_copy(update={"model": name, "digest": "0123456789ab" * 5, "files": files})
        write(
            gateway.workspace.store, PROJECT, "spoilt",
            lambda number: good.model_copy(update={
                "bundle": spoilt, "number": number, "digest": "f" * 64, "key": "spoilt"
            }),
        )  # fmt: skip
        until(lambda: gateway.client.get(f"/v1/projects/{PROJECT}").json()["trouble"])
        load.more()
    assert not set(load.check()) - {1, good.number}
    assert gateway.client.get("/health/ready").status_code == 200


def test_a_model_whose_process_died(gateway: Running, behind: Release, triton: Triton) -> None:
    """Triton goes on listing it; the first request that finds out has it started again, and is answered late."""
    assert gateway.predict(ROW).status_code == 200
    for process in psutil.Process(triton.process.pid).children():
        if behind.bundle.model in " ".join(process.cmdline()):
            process.kill()
    assert gateway.predict(ROW).status_code == 200


def test_a_model_that_was_unloaded(gateway: Running, behind: Release) -> None:
    """Likewise."""
    take_down(gateway.workspace.server, behind.bundle.model)
    assert gateway.predict(ROW).status_code == 200


@pytest.fixture
def own_triton(repository: Path, fitted: Fitted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A Triton that may be killed, a release on it; `start` starts it again on the same ports."""
    home = tmp_path_factory.mktemp("own")
    held: dict[str, Any] = {"server": servers.start(home), "home": home}
    first: Triton = held["server"]
    ports = (first.address, first.http)

    def again() -> None:
        if held["server"].process.poll() is not None:
            held["server"] = servers.start(home, tuple(int(one.rsplit(":", 1)[1]) for one in ports))

    held["again"] = again
    path = repository / "config" / "profiles" / "test.yaml"
    profile = yaml.safe_load(path.read_text())
    profile["services"] = {"triton": {"url": first.address, "http": first.http, "repository": str(first.repository)}}
    path.write_text(yaml.safe_dump(profile))
    open_workspace.cache_clear()
    place_small(repository)
    release_of(open_workspace("test"), fitted, PROJECT)
    yield held
    held["server"].process.kill()
    held["server"].process.wait()


@pytest.mark.long
def test_triton_is_killed_under_load(own_triton: dict[str, Any], repository: Path) -> None:
    """`kill -9`: until it is up again 503 with when to come again; then the same answers. Never another answer."""
    dead = threading.Event()

    def revive() -> None:
        if dead.is_set():
            raise UnavailableError("not yet")
        own_triton["again"]()

    with running(repository, {}, revive) as gateway, Load(gateway.client.base_url) as load:
        load.more()
        dead.set()
        own_triton["server"].process.send_signal(signal.SIGKILL)
        own_triton["server"].process.wait()
        until(lambda: any(told.status == 503 for told in load.answers))
        assert gateway.client.get("/health/live").status_code == 200
        until(lambda: gateway.client.get("/health/ready").status_code == 503)
        dead.clear()
        until(lambda: gateway.predict(ROW).status_code == 200)
        load.more()
    load.check(200, 503)
    assert {told.retry for told in load.answers if told.status == 503} == {"1"}
    assert len({told.answer["answers"][0]["probability"] for told in load.answers if told.status == 200}) == 1
    assert load.answers[-1].status == 200


def test_no_triton_at_the_start(own_triton: dict[str, Any], repository: Path) -> None:
    """The gateway is there before Triton, says so, and answers once it is."""
    own_triton["server"].process.kill()
    own_triton["server"].process.wait()
    workspace = configure(repository, {})
    with running(repository, {}, wait=False) as gateway:
        until(lambda: gateway.predict(ROW).status_code == 503)
        assert gateway.client.get("/health/ready").status_code == 503
        own_triton["again"]()
        until(lambda: gateway.predict(ROW).status_code == 200)
        assert workspace.server.loaded()


def test_a_project_without_a_release(start: Start, behind: Release, repository: Path) -> None:
    """404, and it is said that there is none yet; it keeps nobody else from being ready."""
    (repository / "config" / "projects" / "young").mkdir()
    for name in ("project.yaml", "expectations.yaml", "features.sql"):
        source = repository / "config" / "projects" / PROJECT / name
        (repository / "config" / "projects" / "young" / name).write_text(source.read_text())
    running = start(projects=(PROJECT, "young"))
    told = running.predict(ROW, project="young")
    assert (told.status_code, told.json()["detail"]) == (404, "project 'young' has no release yet")
    assert running.client.get("/health/ready").status_code == 200
    assert [one["project"] for one in running.client.get("/v1/projects").json()] == [PROJECT, "young"]


def test_rolled_back(gateway: Running, behind: Release, second: Fitted, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a rollback the old bundle answers under a new number, which its receipts have."""
    before = gateway.predict(ROW).json()
    another(gateway.workspace, second)
    until(lambda: gateway.predict(ROW).json()["release"] == 2)
    monkeypatch.setattr("components.release.reconcile", lambda *_: None)  # MLflow's alias is not what is looked at here
    roll_back(gateway.workspace, PROJECT, behind)
    until(lambda: gateway.predict(ROW).json()["release"] == 3)
    after = gateway.predict(ROW).json()
    assert after["answers"] == before["answers"]
    assert receipts.parse(after["receipt"]).release == 3  # type: ignore[union-attr]


def test_releases_of_the_version_policy(
    served: Workspace, second: Fitted, behind: Release, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that the policy names answers by its number, however old it is; one that it does not name does not."""
    monkeypatch.setattr("components.gateway.catalogue.KEPT", 1)
    policy = {"specific": {"versions": [behind.number]}}
    for count in (2, 3):  # of instances, so that they are not the same release
        wanted = Serve(golden=16, triton=Settings(version_policy=policy, instance_group=[{"count": count}]))
        made = release_of(served, second, PROJECT, f"{count} {time.monotonic_ns()}", serve=wanted)
        uphold(served, made)
    gateway = start()
    assert sorted(gateway.app.catalogue.entry(PROJECT).doors) == [behind.number, made.number]
    asked = gateway.client.get(f"/v2/models/{PROJECT}/versions/{behind.number}/ready")
    assert asked.status_code == 200
    assert gateway.client.get(f"/v2/models/{PROJECT}/versions/{made.number - 1}/ready").status_code == 404
