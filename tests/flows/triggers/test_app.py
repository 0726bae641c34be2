"""The trigger service's interface, on a real Prefect server: who may call it, and that a run starts once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from components.workspace import Workspace, open_workspace
from flows.triggers import app
from flows.triggers.token import make_token, read_token
from tests.examples import commit_parcels
from tests.flows.triggers.deployed import Deployed, eventually

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("prefect")]

HEAD = "0123456789abcdef" * 4


@pytest.fixture
def client(watched: Deployed) -> Iterator[TestClient]:
    """The service, and its token in every request."""
    workspace = open_workspace("test")
    make_token(workspace.home)
    headers = {"Authorization": f"Bearer {read_token(workspace)}"}
    with TestClient(app.Service(workspace).app(), headers=headers, raise_server_exceptions=False) as client:
        yield client


def order(client: TestClient, project: str, **body: object) -> dict[str, Any]:
    answer = client.post(f"/projects/{project}/runs", json=body)
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_the_same_trigger_twice(client: TestClient, watched: Deployed) -> None:
    """One run, with the commit's full id and the service's profile; both answers name it."""
    commit = commit_parcels(open_workspace("test"), 300, "other", watched.project)
    first = order(client, watched.project, commit="other")
    again = order(client, watched.project, commit=commit[:10])
    assert (first["new"], again["new"]) == (True, False)
    assert first["run"] == again["run"]
    [run] = watched.runs()
    assert run["id"] == first["run"]
    assert run["parameters"] == {"project": watched.project, "profile": "test", "until": "publish", "commit": commit}
    page = httpx.get(first["url"], headers={"Accept": "text/html"}, trust_env=False, follow_redirects=True)
    assert page.headers["content-type"].startswith("text/html")


def test_a_delivery_has_a_name(client: TestClient, watched: Deployed) -> None:
    """Where the caller names deliveries, the name tells them apart; without a commit the sources are read."""
    first, again = (order(client, watched.project, delivery="monday") for _ in range(2))
    assert first["run"] == again["run"]
    assert watched.commits() == [""]


def test_a_burst(client: TestClient, watched: Deployed) -> None:
    """Five commits in a row: one run waits, with the newest; deliveries that come again change nothing."""
    workspace = open_workspace("test")
    commits = [commit_parcels(workspace, rows, "other", watched.project) for rows in range(300, 305)]
    runs = {order(client, watched.project, commit=commit)["run"] for commit in commits}
    assert len(runs) == 1
    assert watched.commits() == [commits[-1]]
    for commit in commits[:3]:
        assert order(client, watched.project, commit=commit)["run"] in runs
    assert watched.commits() == [commits[-1]]


def test_one_goes_on_and_one_waits(client: TestClient, watched: Deployed, small: Path) -> None:
    """Commits that come while a run goes on wait together; Prefect begins their run when the first has ended."""
    workspace = open_workspace("test")
    commits = [commit_parcels(workspace, rows, "other", watched.project) for rows in range(300, 304)]
    first = order(client, watched.project, commit=commits[0])["run"]
    body = {"state": {"type": "PENDING", "name": "Pending"}}
    api = f"{workspace.endpoint('prefect')}/api/flow_runs/{first}/set_state"
    assert httpx.post(api, json=body, trust_env=False).json()["status"] == "ACCEPT"
    runs = {order(client, watched.project, commit=commit)["run"] for commit in commits[1:]}
    assert len(runs) == 1
    assert runs != {first}
    assert sorted(watched.commits()) == sorted([commits[0], commits[-1]])


def test_a_branch_that_moved(client: TestClient, watched: Deployed) -> None:
    """The hook names a branch; the run takes its newest commit, whatever became of earlier deliveries."""
    workspace = open_workspace("test")
    commit_parcels(workspace, 300, "incoming", watched.project)
    newest = commit_parcels(workspace, 301, "incoming", watched.project)
    for _ in range(2):
        assert client.post("/hooks/git", json={"branch": "incoming"}).status_code == 202
    assert watched.commits() == [newest]


def test_nothing_new_on_a_branch(client: TestClient, watched: Deployed) -> None:
    """A branch that holds nothing for the project but what `main` has starts nothing."""
    open_workspace("test").store.branch("incoming", "main")
    answer = client.post("/hooks/git", json={"branch": "incoming"})
    assert (answer.status_code, answer.json()) == (200, {"runs": []})
    assert watched.runs() == []


def test_what_was_missed(watched: Deployed) -> None:
    """A commit that was made while the service was down is found when it starts, and once."""
    workspace = open_workspace("test")
    commit = commit_parcels(workspace, 300, "incoming", watched.project)
    make_token(workspace.home)
    for _ in range(2):
        with TestClient(app.Service(workspace).app()):
            assert eventually(watched.commits) == [commit]


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer wrong", "Basic {token}", "Bearer {token}x"])
def test_wrong_token(client: TestClient, watched: Deployed, header: str) -> None:
    """401, in every case the same words, and nothing starts."""
    token = read_token(open_workspace("test"))
    client.headers["Authorization"] = header.format(token=token)
    for path in (f"/projects/{watched.project}/runs", "/projects/nowhere/runs", "/hooks/git", "/hooks/lakefs"):
        answer = client.post(path, json={"delivery": "x", "branch": "incoming"})
        assert answer.status_code == 401
        assert answer.json() == {"error": "no token, or another one", "accepted": "Authorization: Bearer TOKEN"}
        assert token not in answer.text
    assert watched.runs() == []


@pytest.mark.parametrize(
    ("path", "content", "status", "says"),
    [
        ("/projects/nowhere/runs", '{"delivery": "x"}', 404, "no project 'nowhere'"),
        ("/projects/No/runs", '{"delivery": "x"}', 422, "project 'No'"),
        ("/projects/{project}/runs", "{}", 422, "neither `commit` nor `delivery`"),
        ("/projects/{project}/runs", '{"commit": "nowhere"}', 404, "'nowhere'"),
        ("/projects/{project}/runs", '{"commit": "../etc"}', 422, "'../etc'"),
        ("/projects/{project}/runs", '{"commit": 7}', 422, "'commit'"),
        ("/projects/{project}/runs", '{"comit": "main"}', 422, "'comit'"),
        ("/projects/{project}/runs", "{", 422, "JSON"),
        ("/projects/{project}/runs", '{"branch": "main"}', 404, "no project watches branch 'main'"),
        ("/hooks/git", '{"branch": "main"}', 404, "no project watches branch 'main'"),
        ("/hooks/git", '{"branch": "incoming"}', 404, "'incoming'"),
        ("/hooks/lakefs", '{"repository_id": "x", "branch_id": "incoming"}', 404, "repository 'x'"),
        ("/hooks/git", '"' + "x" * 70_000 + '"', 413, "65536 bytes"),
        ("/elsewhere", "{}", 404, "Not Found"),
    ],
)
def test_what_is_refused(
    client: TestClient, watched: Deployed, path: str, content: str, status: int, says: str
) -> None:
    """One line that names the culprit, and nothing starts."""
    answer = client.post(path.format(project=watched.project), content=content)
    assert answer.status_code == status, answer.text
    assert says in answer.json()["error"]
    assert "\n" not in json.dumps(answer.json()["error"])
    assert watched.runs() == []


def test_too_many_requests(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks without end is told to wait."""
    monkeypatch.setattr(app, "RATE", 0.0)
    answers = [client.post("/hooks/git", json={"branch": "main"}).status_code for _ in range(app.BURST + 2)]
    assert answers == [404] * app.BURST + [429] * 2


def test_no_deployment(client: TestClient, watched: Deployed, small: Path) -> None:
    """A project that is not deployed is named, with the command that deploys it."""
    projects = small / "config" / "projects"
    (projects / watched.project).rename(projects / "undeployed")
    answer = client.post("/projects/undeployed/runs", json={"delivery": "x"})
    assert answer.status_code == 404
    assert "lifecycle/undeployed" in answer.json()["error"]
    assert answer.json()["next"] == "prefect deploy --all"


def test_no_worker(client: TestClient, watched: Deployed) -> None:
    """The run waits for a worker, and the answer says how to start one."""
    assert "prefect worker start --pool watched" in order(client, watched.project, delivery="x")["note"]


def test_prefect_is_down(small: Path, workspace: Workspace) -> None:
    """503, and what to start."""
    make_token(workspace.home)
    headers = {"Authorization": f"Bearer {read_token(workspace)}"}
    with TestClient(app.Service(workspace).app(), headers=headers) as client:
        answer = client.post("/projects/small/runs", json={"delivery": "x"})
    assert (answer.status_code, answer.json()["error"]) == (503, "prefect is not running")
