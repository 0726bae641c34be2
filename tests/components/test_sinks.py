"""Nights of predictions where readers are: SQLite, a real Redis, a real PostgreSQL, Delta Lake; and the step that writes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.register_assert_rewrite("tests.contracts.sink")

from components import scores  # noqa: E402  # all that follows comes after that line
from components.adapters.redis_features import RedisFeatures  # noqa: E402
from components.adapters.sqlite_features import SqliteFeatures  # noqa: E402
from components.data_ports import Sink  # noqa: E402
from components.errors import ConfigError, NotFoundError, UnavailableError  # noqa: E402
from components.online import key_of  # noqa: E402
from components.ports import FeatureStore  # noqa: E402
from components.scores import Predictions, parts_of  # noqa: E402
from components.sink_settings import Sink as Settings  # noqa: E402
from components.sinks import TableSink, nights_of, opened, row_of, without_password  # noqa: E402
from components.workspace import Workspace, open_workspace  # noqa: E402
from flows.execute import execute, scoring_of  # noqa: E402
from tests.contracts.sink import SCHEMA, Read, SinkContract, batches, rows  # noqa: E402
from tests.databases import PASSWORD, Postgres, postgres  # noqa: E402, F401  # a fixture
from tests.flights import ROWS, flights, place_flights, released  # noqa: E402
from tests.triton import Fitted  # noqa: E402


def reader_of(store: FeatureStore) -> Read:
    """What a reader of a store of features does: the name, then the keys."""
    keys = {row["id"]: key_of([row["id"]]) for row in rows(0)}

    def read(table: str) -> list[dict[str, Any]]:
        name = nights_of(table)
        values = None
        while values is None:
            with suppress(NotFoundError):  # the night that it was is gone, as nights after the next are: asked anew
                values = store.read(name, str(store.pointed(name)), [*keys.values()])
        found = [{"id": key} | row_of(value) for key, value in zip(keys, values, strict=True) if value is not None]
        return sorted(found, key=lambda row: str(row["id"]))

    return read


class TestSqlite(SinkContract):
    opened = """
from pathlib import Path
from components.adapters.sqlite_features import SqliteFeatures
from components.sinks import TableSink
sink = TableSink(SqliteFeatures(Path(os.environ["SINK"])), "here")
"""

    @pytest.fixture
    def store(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FeatureStore:
        monkeypatch.setenv("SINK", str(tmp_path / "online"))
        return SqliteFeatures(tmp_path / "online")

    @pytest.fixture
    def sink(self, store: FeatureStore) -> Sink:
        return TableSink(store, "here")

    @pytest.fixture
    def read(self, store: FeatureStore) -> Read:
        return reader_of(store)


class TestRedis(TestSqlite):
    opened = """
from components import scores  # noqa: E402  # all that follows comes after that line
from components.adapters.redis_features import RedisFeatures
from components.sinks import TableSink
sink = TableSink(RedisFeatures(os.environ["SINK"], "", ""), "there")
"""

    @pytest.fixture
    def store(self, redis: tuple[subprocess.Popen[bytes], str], monkeypatch: pytest.MonkeyPatch) -> FeatureStore:  # type: ignore[override]
        monkeypatch.setenv("SINK", redis[1])
        return RedisFeatures(redis[1], "the connection", "correct it")


class TestDelta(SinkContract):
    opened = """
from components.adapters.delta_sink import DeltaSink
sink = DeltaSink(os.environ["SINK"])
"""

    @pytest.fixture
    def sink(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sink:
        pytest.importorskip("deltalake")
        from components.adapters.delta_sink import DeltaSink

        monkeypatch.setenv("SINK", str(tmp_path))
        return DeltaSink(str(tmp_path))

    @pytest.fixture
    def read(self, tmp_path: Path) -> Read:
        deltalake = pytest.importorskip("deltalake")

        def read(table: str) -> list[dict[str, Any]]:
            found = pa.table(deltalake.DeltaTable(str(tmp_path / table)).to_pyarrow_table()).to_pylist()
            return sorted(found, key=lambda row: str(row["id"]))

        return read


@pytest.fixture
def warehouse(postgres: Postgres) -> str:  # noqa: F811  # the fixture that is imported
    """The URL of a database of its own."""
    name = f"w{os.urandom(4).hex()}"
    postgres.ask(f"create database {name}")
    return f"postgresql://postgres:{PASSWORD}@127.0.0.1:{postgres.port}/{name}"


class TestPostgres(SinkContract):
    opened = """
from components.adapters.postgres_sink import PostgresSink
sink = PostgresSink(os.environ["SINK"])
"""

    @pytest.fixture
    def sink(self, warehouse: str, monkeypatch: pytest.MonkeyPatch) -> Sink:
        from components.adapters.postgres_sink import PostgresSink

        monkeypatch.setenv("SINK", warehouse)
        return PostgresSink(warehouse)

    @pytest.fixture
    def ask(self, warehouse: str) -> Callable[[str], list[tuple[Any, ...]]]:
        import psycopg2

        def ask(query: str) -> list[tuple[Any, ...]]:
            with psycopg2.connect(warehouse) as connection, connection.cursor() as cursor:
                cursor.execute(query)
                names = [one.name for one in cursor.description]
                return [tuple(zip(names, row, strict=True)) for row in cursor.fetchall()]

        return ask

    @pytest.fixture
    def read(self, ask: Callable[[str], list[tuple[Any, ...]]]) -> Read:
        def read(table: str) -> list[dict[str, Any]]:
            found = [dict(row) for row in ask(f"select * from {table}")]
            for row in found:
                missing = row["probability"] is None  # real comes as the shortest decimal that is the same 32-bit float
                row["probability"] = None if missing else pa.scalar(row["probability"], pa.float32()).as_py()
            return sorted(found, key=lambda row: str(row["id"]))

        return read

    def test_old_nights_go(self, sink: Sink, ask: Callable[[str], list[tuple[Any, ...]]]) -> None:
        """But for the one before the newest: somebody may still read it."""
        for night in range(4):
            sink.write("people", str(night) * 64, SCHEMA, batches(night, 10))
        there = {
            row[0][1]
            for row in ask("select relname from pg_class where relname like 'people\\_\\_%' and relkind = 'r'")
        }
        assert there == {"people__222222222222", "people__333333333333"}

    def test_what_it_does_not_take(
        self, sink: Sink, warehouse: str, ask: Callable[[str], list[tuple[Any, ...]]]
    ) -> None:
        """A table of somebody else's, and a wrong password, which is not repeated."""
        from components.adapters.postgres_sink import PostgresSink

        sink.write("others", "1" * 64, SCHEMA, batches(1, 10))
        ask("drop view others; create table others (id int); select 1 as one")
        with pytest.raises(ConfigError, match="others.*accepted: a name that nothing else has"):
            sink.write("others", "2" * 64, SCHEMA, batches(2, 10))
        wrong = warehouse.replace(PASSWORD, "wrong-secret")
        with pytest.raises(UnavailableError, match="password authentication failed") as caught:
            PostgresSink(wrong).holds("people", "1" * 64)
        assert "wrong-secret" not in str(caught.value)


def test_through_the_dag(
    repository: Path, workspace: Workspace, fitted: Fitted, warehouse: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A night goes to every sink, and again where a sink has lost it; no password is in a record."""
    import psycopg2

    sinks = "  sinks:\n    shop: {kind: postgres, connection: warehouse, table: late}\n    fast: {kind: online}\n"
    place_flights(repository, sinks)
    profile = repository / "config" / "profiles" / "test.yaml"
    profile.write_text(profile.read_text() + "connections: {warehouse: {url_env: WAREHOUSE}}\n")
    monkeypatch.setenv("WAREHOUSE", warehouse)
    open_workspace.cache_clear()
    released(workspace, fitted)

    def night() -> Predictions:
        made = execute(scoring_of("flights", "test"), project="flights", profile="test", engine="local")
        assert isinstance(made, Predictions)
        return made

    first = night()
    with psycopg2.connect(warehouse) as connection, connection.cursor() as cursor:
        cursor.execute("select count(*), count(distinct receipt) from late")
        assert cursor.fetchone() == (ROWS, ROWS)
        cursor.execute("drop view late")
        connection.commit()
        assert night() == first
        cursor.execute("select count(*) from late")
        assert cursor.fetchone() == (ROWS,)
    store = workspace.features
    name, key = nights_of("flights_scores"), str(flights()["flight"][7])
    (value,) = store.read(name, str(store.pointed(name)), [key_of([key])])
    assert value is not None
    assert set(row_of(value)) == {"origin", "probability", "label", "receipt"}
    written = b"".join(path.read_bytes() for path in workspace.home.rglob("*.json"))
    assert PASSWORD.encode() not in written
    assert b"127.0.0.1" in written


def test_the_best_of_each(repository: Path, workspace: Workspace, fitted: Fitted) -> None:
    """Of each carrier the likeliest flights in their order, with the receipts of those; and on the whole for others."""
    rank = "  rank: {by: origin, item: flight, best: 3}\n  sinks: {fast: {kind: online}}\n"
    place_flights(repository, rank)
    released(workspace, fitted)
    made = execute(scoring_of("flights", "test"), project="flights", profile="test", engine="local")
    assert isinstance(made, Predictions)
    entries = parts_of(workspace.store, made.id, "flights")
    table = pa.concat_tables([pq.read_table(workspace.store.local(made.id, entry.path)) for entry in entries])
    answers = sorted(table.to_pylist(), key=lambda row: (-row["probability"], row["flight"]))
    store, name = workspace.features, nights_of("flights_best")
    keys = ["EWR", "JFK", "LGA", ""]
    values = store.read(name, str(store.pointed(name)), [key_of([key]) for key in [*keys, "ORD"]])
    assert values[-1] is None
    for key, value in zip(keys, values, strict=False):
        expected = [row for row in answers if key in {"", row["origin"]}][:3]
        assert value is not None
        found = row_of(value)
        assert found["items"] == [row["flight"] for row in expected]
        assert found["scores"] == [row["probability"] for row in expected]
        assert found["receipts"] == [row["receipt"] for row in expected]
    assert scores.found(workspace.store, scores.parse(answers[0]["receipt"]))[1] == answers[0]  # type: ignore[arg-type]


def test_no_connection(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sink is named, and where to write it down."""
    with pytest.raises(ConfigError, match="scoring.sinks.shop: no connection"):
        opened(workspace, "scoring.sinks.shop", Settings(kind="postgres"))
    with pytest.raises(ConfigError, match="no connection 'warehouse'"):
        opened(workspace, "scoring.sinks.shop", Settings(kind="redis", connection="warehouse"))


def test_where_it_is() -> None:
    """Neither user nor password nor options are shown."""
    assert without_password("postgresql://me:secret@db:5432/shop?sslkey=x") == "postgresql://db:5432/shop"
