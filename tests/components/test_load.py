"""The rows of `features.sql` in a warehouse: a real PostgreSQL and a Delta Lake, killed half-way and run again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.errors import ConfigError
from components.load import Loaded, load
from components.records import Prepared
from components.runs import RunLog
from components.sink_settings import Sink
from components.workspace import Workspace, open_workspace
from flows.execute import execute, lifecycle_of
from tests.databases import PASSWORD, Postgres, postgres

__all__ = ["postgres"]  # a fixture

ROOT = Path(__file__).parents[2]

PROGRAM = """
import os, signal, sys
from components.adapters import delta_sink, postgres_sink
from flows.execute import execute, lifecycle_of

kind, when = sys.argv[1:]
owner = {"postgres": postgres_sink.PostgresSink, "delta": delta_sink.DeltaSink}[kind]
write = owner.write

def dies(self, table, night, schema, batches):
    def half():
        for batch in batches:
            yield batch.slice(0, 10)
            os.kill(os.getpid(), signal.SIGKILL)
    write(self, table, night, schema, half() if when == "within" else batches)
    os.kill(os.getpid(), signal.SIGKILL)

owner.write = dies
execute(lifecycle_of("small", "test", "load-shop"), project="small", profile="test", engine="local")
"""


@pytest.fixture(params=["postgres", "delta"])
def shop(request: pytest.FixtureRequest, small: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Any]]:
    """The project `small` with a sink for its features; what is called yields the table there, None without one."""
    project = small / "config" / "projects" / "small" / "project.yaml"
    project.write_text(
        f"{project.read_text()}features: {{sinks: {{shop: {{kind: {request.param}, connection: c}}}}}}\n"
    )
    profile = small / "config" / "profiles" / "test.yaml"
    profile.write_text(profile.read_text() + "connections: {c: {url_env: SHOP_URL}}\n")
    open_workspace.cache_clear()
    if request.param == "delta":
        deltalake = pytest.importorskip("deltalake")
        monkeypatch.setenv("SHOP_URL", str(small / "lake"))

        def in_delta() -> Any:
            path = str(small / "lake" / "small_features")
            if not deltalake.DeltaTable.is_deltatable(path):
                return None
            table = deltalake.DeltaTable(path)
            return table.version(), pa.table(table.to_pyarrow_table()).sort_by("id").to_pylist()

        yield in_delta
        return
    psycopg2 = pytest.importorskip("psycopg2")
    server: Postgres = request.getfixturevalue("postgres")
    name = f"w{os.urandom(4).hex()}"
    server.ask(f"create database {name}")
    url = f"postgresql://postgres:{PASSWORD}@127.0.0.1:{server.port}/{name}"
    monkeypatch.setenv("SHOP_URL", url)

    def in_postgres() -> Any:
        with psycopg2.connect(url) as connection, connection.cursor() as cursor:
            cursor.execute("select to_regclass('small_features')")
            if cursor.fetchone() == (None,):
                return None
            cursor.execute("select oid from pg_class where relkind = 'r' and relname like 'small_features%'")
            relations = cursor.fetchall()
            cursor.execute("select * from small_features order by id")
            names = [column.name for column in cursor.description]
            return relations, [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    yield in_postgres


def run() -> Loaded:
    made = execute(lifecycle_of("small", "test", "load-shop"), project="small", profile="test", engine="local")
    assert isinstance(made, Loaded)
    return made


def prepared_rows(workspace: Workspace) -> list[dict[str, Any]]:
    """All rows that `prepare` made, by their key."""
    nodes = RunLog(workspace).nodes(RunLog(workspace).header("last").id)
    prepared = Prepared.model_validate(nodes["prepare"].output)
    files = [workspace.artifacts.local(one.file) for one in (prepared.train, prepared.valid, prepared.test)]
    return pa.concat_tables([pq.read_table(file) for file in files]).sort_by("id").to_pylist()


def test_every_row_of_the_query(shop: Callable[[], Any], small: Path) -> None:
    """With its types and what is missing, the key first; a second run looks and writes nothing; other data takes over."""
    workspace = open_workspace("test")
    first = run()
    expected, (place, rows) = prepared_rows(workspace), shop()
    assert rows == expected
    assert len(rows) == first.rows == 2_000
    assert any(row["weight"] is None for row in rows)
    assert next(iter(rows[0])) == "id"
    assert run() == first
    assert shop()[0] == place
    data = small / "data" / "parcels.csv"
    data.write_text("\n".join(data.read_text().splitlines()[:1_901]) + "\n")
    second = run()
    assert second.night != first.night
    assert len(shop()[1]) == second.rows == 1_900
    written = b"".join(path.read_bytes() for path in workspace.home.rglob("*.json"))
    assert PASSWORD.encode() not in written


@pytest.mark.long
@pytest.mark.parametrize("when", ["within", "after"])
def test_killed(shop: Callable[[], Any], request: pytest.FixtureRequest, when: str) -> None:
    """Within the load nothing is seen, after it all is there: the next run ends with the rows once, loaded once."""
    kind = request.node.callspec.params["shop"]
    command = [sys.executable, "-c", PROGRAM, kind, when]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    there = shop()
    assert (there is None) == (when == "within")
    run()
    again = shop()
    assert len(again[1]) == 2_000
    assert when == "within" or again == there


def test_a_sink_without_a_connection(workspace: Workspace, small: Path) -> None:
    """It is named as project.yaml has it."""
    execute(lifecycle_of("small", "test", "prepare"), project="small", profile="test", engine="local")
    nodes = RunLog(workspace).nodes(RunLog(workspace).header("last").id)
    prepared = Prepared.model_validate(nodes["prepare"].output)
    with pytest.raises(ConfigError, match=r"features\.sinks\.shop: no connection"):
        load("small", "test", prepared, "shop", Sink(kind="postgres"))


def test_no_sink_no_step(small: Path) -> None:
    """A project without one has the DAG that it had, and its policy may name the step all the same."""
    path = small / "config" / "projects" / "small" / "project.yaml"
    path.write_text(path.read_text() + "policy: {load: {retries: 5}}\n")
    assert not any(node.name.startswith("load") for node in lifecycle_of("small", "test").nodes)
    path.write_text(path.read_text() + "features: {sinks: {shop: {kind: online}}}\n")
    assert lifecycle_of("small", "test")["load-shop"].policy.retries == 5
