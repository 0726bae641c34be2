"""Backfills: each partition by itself, side by side, once; what failed, is missing or stale is told and done again."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from components.retention import collect
from components.runs import RunLog
from components.tables import contents, local_files, sources_of
from components.workspace import Workspace, open_workspace
from flows.cli import app
from flows.execute import execute, lifecycle_of
from tests.children import dying_with_us
from tests.conftest import write_parcels
from tests.kubeflow import TOKEN, Server
from tests.lakefs_server import hidden

MONTHS = [f"2024-{month:02}" for month in range(1, 13)]


@pytest.fixture
def monthly(small: Path) -> Path:
    """`small`, partitioned: its 2,000 parcels in a file a month, and a table that is shared."""
    path = small / "config" / "projects" / "small" / "project.yaml"
    source = (
        "  parcels: {path: 'data/parcels-{year}-{month}.csv', columns: {sent: DATE}}\n  towns: {path: data/towns.csv}"
    )
    text = path.read_text().replace("  parcels: {path: data/parcels.csv, columns: {sent: DATE}}", source)
    path.write_text(text.replace("row: id\n", "partition: month\nrow: id\n"))
    write_parcels(small / "whole.csv")
    head, *lines = (small / "whole.csv").read_text().splitlines()
    for month in MONTHS:
        rows = [line for line in lines if line.split(",")[1].startswith(month)]
        (small / "data" / f"parcels-{month}.csv").write_text("\n".join([head, *rows]) + "\n")
    (small / "data" / "towns.csv").write_text("town\nnorth\n")
    return small / "data"


def backfill(*arguments: str, code: int = 0, all_of: bool = True) -> dict[str, Any]:
    """`trilha backfill small` over 2024, as it answers machines."""
    span = ["--from", "2024-01", "--to", "2024-12"] if all_of else []
    done = CliRunner().invoke(app, ["backfill", "small", *span, *arguments, "-p", "test", "--json"])
    assert done.exit_code == code, (done.output, done.exception)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def planned() -> dict[str, str]:
    """What `trilha plan` says that a backfill over 2024 would do and why, by node."""
    asked = ["plan", "small", "--dag", "backfill", "--from", "2024-01", "--to", "2024-12", "-p", "test", "--json"]
    rows = json.loads(CliRunner().invoke(app, asked).stdout)
    return {row["name"]: f"{row['action']}: {row['why']}" for row in rows}


def states(found: dict[str, Any]) -> str:
    """The calendar, a letter a month: of there, stale, failed, missing."""
    assert [one["key"] for one in found["partitions"]] == MONTHS
    return "".join(one["state"][0] for one in found["partitions"])


def ids(workspace: Workspace) -> list[int]:
    """The parcels that a reader of `main` finds."""
    files = local_files(workspace.store, "main", "small")["parcels"]
    return sorted(pa.concat_tables([pq.read_table(file, columns=["id"]) for file in files])["id"].to_pylist())


def commits_of(workspace: Workspace, key: str) -> int:
    """How often a partition came to `main`."""
    found = (one for one in workspace.store.log("main") if "ingest" in one.metadata)
    return sum(one.metadata.get("partition") == key for one in found)


def spoil(data: Path, month: str) -> str:
    """Let a month break an expectation; returns what it was."""
    path = data / f"parcels-{month}.csv"
    before = path.read_text()
    path.write_text(before + before.splitlines()[-1] + "\n")  # an id twice
    return before


def test_a_year_with_a_bad_month_and_one_that_is_missing(workspace: Workspace, monthly: Path) -> None:
    """Ten months are there, each by a commit of its own; the next call does the other two and no more."""
    good = spoil(monthly, "2024-03")
    late = (monthly / "parcels-2024-07.csv").rename(monthly / "later.csv")
    found = backfill(code=5)
    assert states(found) == "ttfttt" + "mttttt"
    bad, missing = found["partitions"][2], found["partitions"][6]
    assert "expect_column_values_to_be_unique" in bad["why"]
    assert not missing["ready"]
    assert "parcels-2024-07.csv" in missing["why"]
    held = contents(workspace.store, "main", "small")
    assert held is not None
    assert held.tables["parcels"].rows == len(ids(workspace)) < 2_000
    [branch] = workspace.store.branches("ingest/")  # for a look
    assert workspace.store.resolve(branch).metadata["partition"] == "2024-03"

    assert planned() == {
        "observe-2024-03": "look: it reads the outside world",
        "ingest-2024-03": "run: input 'columns' changed",  # main has some by now
        "validate-2024-03": "run: after ingest-2024-03",
        "publish-2024-03": "run: after ingest-2024-03, validate-2024-03",
    }
    (monthly / "parcels-2024-03.csv").write_text(good)
    late.rename(monthly / "parcels-2024-07.csv")
    again = backfill()
    assert states(again) == "t" * 12
    assert ids(workspace) == list(range(2_000))
    assert [commits_of(workspace, month) for month in MONTHS] == [1] * 12
    nothing = backfill()
    assert nothing["run"] is None
    assert planned() == {}
    assert workspace.store.branches("ingest/") == []
    urls = [stamp.url for stamp in sources_of(workspace.store, "main", "small")["parcels"]]
    assert urls == [f"data/parcels-{month}.csv" for month in MONTHS]


def test_a_file_that_changes(workspace: Workspace, monthly: Path) -> None:
    """It is stale, is ingested anew in place, and may go back to what it was; `--status` changes nothing."""
    span = ("--from", "2024-01", "--to", "2024-02")
    backfill(*span, all_of=False)
    path = monthly / "parcels-2024-02.csv"
    before, times = path.read_text(), path.stat()
    path.write_text(before + "5000,2024-02-29,north,1.0,2.0,0\n")
    head = workspace.store.resolve("main").id
    looked = backfill("--status", all_of=False)  # what main holds, where nothing else is said
    assert [(one["key"], one["state"]) for one in looked["partitions"]] == [("2024-01", "there"), ("2024-02", "stale")]
    assert workspace.store.resolve("main").id == head
    backfill(*span, all_of=False)
    assert 5_000 in ids(workspace)
    assert [commits_of(workspace, month) for month in MONTHS[:2]] == [1, 2]
    path.write_text(before)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # the ledger has all of it
    backfill(*span, all_of=False)
    assert 5_000 not in ids(workspace)
    assert len(ids(workspace)) == len(set(ids(workspace)))
    assert [one["state"] for one in backfill("--status", all_of=False)["partitions"]] == ["there", "there"]


def test_a_run_takes_what_main_holds(workspace: Workspace, monthly: Path) -> None:
    """Before a backfill there is nothing to learn from; after it a run adds the shared tables and keeps partitions."""
    dag = lifecycle_of("small", "test", "publish")
    with pytest.raises(Exception, match="main holds no partition of it yet; .*trilha backfill small"):
        execute(dag, project="small", profile="test")
    backfill("--from", "2024-01", "--to", "2024-02", all_of=False)
    execute(dag, project="small", profile="test")
    held = contents(workspace.store, "main", "small")
    assert held is not None
    assert held.rows == {"parcels": len(ids(workspace)), "towns": 1}
    backfill("--from", "2024-03", "--to", "2024-03", all_of=False)
    execute(dag, project="small", profile="test")
    held = contents(workspace.store, "main", "small")
    assert held is not None
    assert held.rows == {"parcels": len(ids(workspace)), "towns": 1}
    assert len(held.tables["parcels"].files) == 3


def test_partitions_have_the_same_columns(workspace: Workspace, monthly: Path) -> None:
    """A type that one month alone would not show is that of the others; a column more is refused, in plain words."""
    path = monthly / "parcels-2024-02.csv"
    head, *rows = path.read_text().splitlines()
    emptied = [",".join([*row.split(",")[:4], "", row.split(",")[5]]) for row in rows]  # no weight at all
    path.write_text("\n".join([head, *emptied]) + "\n")
    more = monthly / "parcels-2024-03.csv"
    more.write_text("\n".join(f"{line},{line[0]}" for line in more.read_text().splitlines()) + "\n")
    backfill("--from", "2024-01", "--to", "2024-01", all_of=False)
    found = backfill("--from", "2024-01", "--to", "2024-03", code=5, all_of=False)
    assert [one["state"] for one in found["partitions"]] == ["there", "there", "failed"]
    assert "has other columns than the others: column " in found["partitions"][2]["why"]
    assert len(ids(workspace)) == sum(one["rows"] for one in found["partitions"])


@pytest.mark.long
def test_a_database(workspace: Workspace, monthly: Path) -> None:
    """A query is asked for the rows of one partition."""
    with sqlite3.connect(monthly / "shop.db") as database:
        database.execute(
            "CREATE TABLE parcels (id INTEGER, sent TEXT, city TEXT, distance REAL, weight REAL, late INTEGER)"
        )
        lines = (monthly.parent / "whole.csv").read_text().splitlines()[1:]
        rows = [[value or None for value in line.split(",")] for line in lines]
        database.executemany("INSERT INTO parcels VALUES (?,?,?,?,?,?)", rows)
    project = monthly.parent / "config" / "projects" / "small" / "project.yaml"
    sql = (
        "sql: {connection: shop, query: 'SELECT * FROM parcels WHERE sent >= :start AND sent < :end', watermark: sent}"
    )
    project.write_text(project.read_text().replace("path: 'data/parcels-{year}-{month}.csv'", sql))
    profile = monthly.parent / "config" / "profiles" / "test.yaml"
    profile.write_text(profile.read_text() + "connections: {shop: {url: 'sqlite:///data/shop.db'}}\n")
    open_workspace.cache_clear()
    found = backfill("--from", "2023-12", "--to", "2024-02", code=3, all_of=False)
    assert [one["state"] for one in found["partitions"]] == ["missing", "there", "there"]
    assert ids(open_workspace("test")) == [int(row[0] or "") for row in rows if (row[1] or "") < "2024-03"]


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.xdist_group("prefect")
def test_on_prefect(on_prefect: Workspace, monthly: Path) -> None:
    """One flow run has all of them; what fails stops no other there either."""
    spoil(monthly, "2024-02")
    (monthly / "parcels-2024-05.csv").unlink()
    span = ("--from", "2024-01", "--to", "2024-05")
    found = backfill(*span, "--engine", "prefect", code=5, all_of=False)
    assert [one["state"][0] for one in found["partitions"]] == ["t", "f", "t", "t", "m"]
    assert len(ids(on_prefect)) == sum(one["rows"] for one in found["partitions"])


@pytest.mark.slow
@pytest.mark.long
def test_on_kubeflow(in_containers: Path, monthly: Path) -> None:
    """Each partition by containers of its own, side by side; what fails stops no other, and threads make the same."""
    good = spoil(monthly, "2024-02")
    (monthly / "parcels-2024-04.csv").rename(monthly / "later.csv")
    span = ("--from", "2024-01", "--to", "2024-04")
    found = backfill(*span, "--engine", "kubeflow", code=5, all_of=False)
    assert [one["state"][0] for one in found["partitions"]] == ["t", "f", "t", "m"]
    assert "expect_column_values_to_be_unique" in found["partitions"][1]["why"]
    states = RunLog(open_workspace("test")).nodes(found["run"])
    assert (
        states["observe-2024-02"].started < states["publish-2024-03"].started
    )  # of two workers, the first has both odd ones
    (monthly / "parcels-2024-02.csv").write_text(good)
    (monthly / "later.csv").rename(monthly / "parcels-2024-04.csv")
    again = backfill(*span, "--engine", "kubeflow", all_of=False)
    assert {one["state"] for one in again["partitions"]} == {"there"}
    there = open_workspace("test").store
    assert [commits_of(open_workspace("test"), month) for month in MONTHS[:4]] == [1] * 4
    assert there.branches("ingest/") == []
    profile = in_containers / "config" / "profiles" / "test.yaml"
    profile.write_text(profile.read_text().replace(".trilha/test", ".trilha/threads"))
    open_workspace.cache_clear()
    backfill(*span, all_of=False)
    here = open_workspace("test").store
    assert here.ls("main") == there.ls("main") != []


def test_a_package_for_a_cluster(monthly: Path, kubeflow: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has what is left to do: a task a node, and none needs one of another partition."""
    profile = monthly.parent / "config" / "profiles" / "test.yaml"
    settings = {"host": kubeflow.url, "namespace": "team", "token_env": "KUBEFLOW_TOKEN", "image": "trilha:1"}
    profile.write_text(f"{profile.read_text()}kubeflow: {json.dumps(settings)}\n")
    monkeypatch.setenv("KUBEFLOW_TOKEN", TOKEN)
    monkeypatch.setattr("kfp.Client._LOCAL_KFP_CONTEXT", str(monthly / "none.json"))
    open_workspace.cache_clear()
    backfill("--from", "2024-01", "--to", "2024-01", all_of=False)
    (monthly / "parcels-2024-03.csv").unlink()
    asked = ["small", "--dag", "backfill", "--from", "2024-01", "--to", "2024-04", "-p", "test"]
    assert "8 nodes" in CliRunner().invoke(app, ["kubeflow", "compile", *asked]).stdout
    package = next(iter(yaml.safe_load_all((monthly.parent / "deploy/kubeflow/small-backfill.yaml").read_text())))
    needs = {name: task.get("dependentTasks", []) for name, task in package["root"]["dag"]["tasks"].items()}
    for month in ("2024-02", "2024-04"):
        assert needs.pop(f"observe-{month}") == []
        assert needs.pop(f"ingest-{month}") == [f"observe-{month}"]
        assert needs.pop(f"validate-{month}") == [f"ingest-{month}"]
        assert sorted(needs.pop(f"publish-{month}")) == [f"ingest-{month}", f"validate-{month}"]
    assert needs == {}
    assert CliRunner().invoke(app, ["kubeflow", "submit", *asked]).exit_code == 0
    (made,) = kubeflow.runs.values()
    assert made["pipeline_spec"]["root"] == package["root"]
    nothing = CliRunner().invoke(app, ["kubeflow", "submit", *asked, "--to", "2024-01"])
    assert "nothing of small is left to do" in str(nothing.exception)
    assert len(kubeflow.runs) == 1


def trilha(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    """`trilha backfill small` over 2024 in a process of its own."""
    command = [Path(sys.executable).with_name("trilha"), "backfill", "small", "--from", "2024-01", "--to", "2024-12"]
    return subprocess.Popen(
        dying_with_us([*command, *arguments, "-p", "test"]), cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.long
def test_two_at_once(workspace: Workspace, monthly: Path) -> None:
    """Two processes over the same year: each partition comes to `main` once."""
    both = [trilha(cwd=monthly.parent) for _ in range(2)]
    said = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert "# 12 there" in said[0][0]
    assert ids(workspace) == list(range(2_000))
    assert [commits_of(workspace, month) for month in MONTHS] == [1] * 12
    assert workspace.store.branches("ingest/") == []


@pytest.mark.slow
@pytest.mark.long
def test_killed_in_the_middle(stored: Workspace, monthly: Path) -> None:
    """Killed again and again, wherever it is: in the end each partition is there once, and `gc` takes what was left."""
    workspace = stored
    for wanted in {"git": (1, 4, 8), "lakefs": (4,)}[workspace.profile.store.kind]:
        process = trilha(cwd=monthly.parent)
        deadline = time.monotonic() + 180
        while sum(commits_of(workspace, month) for month in MONTHS) < wanted and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    assert states(backfill()) == "t" * 12
    assert ids(workspace) == list(range(2_000))
    assert [commits_of(workspace, month) for month in MONTHS] == [1] * 12
    heads = [workspace.store.resolve(branch) for branch in workspace.store.branches("ingest/")]
    assert not [head for head in heads if len(head.parents) == 1]  # nothing was left but empty branches, for `gc`
    collect(workspace, time.time() + 60)
    assert ids(workspace) == list(range(2_000))
    assert workspace.profile.store.kind == "git" or not hidden(workspace)


def test_a_project_without_partitions(small: Path, workspace: Workspace) -> None:
    """It says so, and what would be one."""
    done = CliRunner().invoke(app, ["backfill", "small", "-p", "test"])
    assert "project small is not partitioned; accepted: a project with `partition`" in str(done.exception)
