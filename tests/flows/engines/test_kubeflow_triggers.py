"""Triggers on Kubeflow, against a server that speaks its REST interface (see tests/kubeflow.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.errors import ConfigError
from components.workspace import open_workspace
from flows.triggers.start import start
from flows.triggers.trigger import trigger
from tests.examples import commit_parcels
from tests.kubeflow import TOKEN, Server


@pytest.fixture
def on_cluster(small: Path, kubeflow: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The repository with `small`, whose profile runs it on the server."""
    path = small / "config" / "profiles" / "test.yaml"
    cluster = f"kubeflow: {{host: '{kubeflow.url}', token_env: KUBEFLOW_TOKEN, image: 'trilha:1'}}\n"
    path.write_text(path.read_text().replace("engine: local", "engine: kubeflow") + cluster)
    monkeypatch.setenv("KUBEFLOW_TOKEN", TOKEN)
    monkeypatch.setattr("kfp.Client._LOCAL_KFP_CONTEXT", str(small / "none.json"))
    open_workspace.cache_clear()


def test_one_run_for_a_commit(on_cluster: None, kubeflow: Server) -> None:
    """The pipeline takes that commit; a second delivery finds the run."""
    workspace = open_workspace("test")
    commits = [commit_parcels(workspace, rows) for rows in (300, 301)]
    started = [start(workspace, trigger(workspace, "small", commit, None)) for commit in [*commits, *commits]]
    assert [one.new for one in started] == [True, True, False, False]
    assert [one.run for one in started[:2]] == [one.run for one in started[2:]]
    assert len(kubeflow.runs) == 2
    assert all(commit in str(run) for commit, run in zip(commits, kubeflow.runs.values(), strict=True))
    assert all(one.url.startswith(kubeflow.url) for one in started)


def test_a_call_without_a_commit(on_cluster: None, kubeflow: Server) -> None:
    """It could not be told from its repeat, so it is refused."""
    workspace = open_workspace("test")
    with pytest.raises(ConfigError, match="trilha kubeflow submit small"):
        start(workspace, trigger(workspace, "small", None, "monday"))
    assert not kubeflow.runs
