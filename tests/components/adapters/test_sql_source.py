"""Tables in databases, by watermark: what is new is read, what is held stays, and every fault has one plain line."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.errors import ConfigError, ConflictError, GateError, NotFoundError, TrilhaError, UnavailableError
from components.ingest import ingest, observe
from components.ledger import running_as
from components.records import Commit, Observation
from components.source_settings import SqlTable
from components.tables import contents, sources_of
from components.workspace import Workspace, open_workspace
from flows.services.processes import free_port
from tests.databases import PASSWORD, Postgres, postgres

__all__ = ["postgres"]  # a fixture

Do = Callable[..., None]
ROWS = [(1, 10, "2024-01-01 00:00:00", 1.5, "a"), (2, 20, "2024-01-02 00:00:00", None, "b'; DROP TABLE orders; --")]
MORE = [(3, 20, "2024-01-03 00:00:00", 2.5, 'c"'), (4, 30, "2024-01-03 00:00:00", 3.5, None)]


@pytest.fixture(params=["sqlite", "postgres"])
def execute(request: pytest.FixtureRequest, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Do]:
    """A table `orders` with two rows, in the connection `shop`; calling it changes the database."""
    if request.param == "sqlite":
        with closing(sqlite3.connect(repository / "shop.db", isolation_level=None)) as connection:
            connect(repository, monkeypatch, "sqlite:///shop.db")
            yield made(lambda sql, *values: connection.executemany(sql, values) if values else connection.execute(sql))
        return
    import psycopg2

    server: Postgres = request.getfixturevalue("postgres")
    connect(repository, monkeypatch, address(server))
    with closing(psycopg2.connect(address(server))) as connection, connection.cursor() as cursor:
        connection.autocommit = True

        def run(sql: str, *values: tuple[object, ...]) -> None:
            for one in values or (None,):
                cursor.execute(sql.replace("?", "%s"), one)

        yield made(run)


def made(run: Do) -> Do:
    run("DROP TABLE IF EXISTS orders")
    run("CREATE TABLE orders (id INT, n BIGINT, at TIMESTAMP, price NUMERIC(8,2), name TEXT)")
    insert(run, ROWS)
    return run


def insert(run: Do, rows: list[Any]) -> None:
    run("INSERT INTO orders VALUES (?, ?, ?, ?, ?)", *rows)


def connect(repository: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """The profile has the connection `shop`."""
    path = repository / "config" / "profiles" / "test.yaml"
    path.write_text(path.read_text() + "connections: {shop: {url_env: SHOP_URL}}\n")
    monkeypatch.setenv("SHOP_URL", url)
    open_workspace.cache_clear()


def address(server: Postgres) -> str:
    return f"postgresql://postgres:{PASSWORD}@127.0.0.1:{server.port}/postgres"


def orders(columns: dict[str, str] | None = None, **settings: object) -> dict[str, Any]:
    given = {"connection": "shop", "table": "orders", "watermark": "at", **settings}
    given = {name: value for name, value in given.items() if value is not None}
    return {"orders": SqlTable.model_validate({"sql": given, "columns": columns or {}})}


def run(key: str = "1", sources: dict[str, Any] | None = None, seen: Observation | None = None) -> Commit:
    sources = sources or orders()
    with running_as(key * 64):
        return ingest("shop", "test", sources, seen or observe("shop", "test", sources))


def publish(commit: Commit) -> Commit:
    """Bring `main` to a commit, without the gates between."""
    if commit.branch != "main":
        open_workspace("test").store.merge(
            commit.id, "main", message="", metadata={"validation": "by hand"}, key=commit.id
        )
    return commit


def files(commit: Commit) -> dict[str, str]:
    """Name -> SHA-256 of the table's files."""
    store = open_workspace("test").store
    return {entry.path.removeprefix("shop/orders/"): entry.sha256 for entry in store.ls(commit.id, "shop/orders")}


def rows(commit: Commit) -> list[dict[str, Any]]:
    store = open_workspace("test").store
    parts = [pq.read_table(store.local(commit.id, f"shop/orders/{name}")) for name in sorted(files(commit))]
    return pa.concat_tables(parts).to_pylist()


# --- what is read -----------------------------------------------------------------------------------------------------


def test_rows_come_with_their_types(execute: Do) -> None:
    """In the order of the watermark, whatever is in them; the commit says where from, and no password."""
    commit = run()
    assert commit.tables == {"orders": 2}
    assert [row["name"] for row in rows(commit)] == [row[4] for row in ROWS]
    assert [row["n"] for row in rows(commit)] == [10, 20]
    assert [str(row["at"]) for row in rows(commit)] == [row[2] for row in ROWS]
    assert [row["price"] is None or float(row["price"]) for row in rows(commit)] == [1.5, True]
    store = open_workspace("test").store
    (stamp,) = sources_of(store, commit.id, "shop")["orders"]
    assert stamp.url == "sql://shop/orders"
    assert stamp.stamp.startswith("1 rows at ")
    assert "2024-01-02 00:00:00" in stamp.stamp
    assert PASSWORD not in json.dumps(dict(store.resolve(commit.id).metadata))


def test_only_what_is_new_is_read_and_written(execute: Do, workspace: Workspace) -> None:
    """A further file beside those that are there, byte for byte as they were; the rows are those of a reading anew."""
    for number in range(3, 6):
        insert(execute, [(number, number, f"2024-02-0{number} 00:00:00", number, "x")])
    first = publish(run("1"))
    execute("UPDATE orders SET name = 'changed behind the watermark' WHERE id = 1")
    insert(execute, MORE_LATER)
    second = run("2")
    before, after = files(first), files(second)
    kept = sorted(before)[:-1]
    assert kept
    assert [after[name] for name in kept] == [before[name] for name in kept]
    assert [row["id"] for row in rows(second)] == [1, 2, 3, 4, 5, 6, 7]
    assert second.tables == {"orders": 7}
    assert "changed behind the watermark" not in [row["name"] for row in rows(second)]


MORE_LATER = [(6, 6, "2024-03-01 00:00:00", 1, "y"), (7, 7, "2024-03-02 00:00:00", 1, "z")]


def test_nothing_new_writes_nothing(execute: Do, workspace: Workspace) -> None:
    """The same stamp, so that the ledger finds it done; asked all the same, `main` is the result."""
    seen = observe("shop", "test", orders())
    publish(run("1"))
    assert observe("shop", "test", orders()) == seen
    again = run("2")
    assert again.branch == "main"
    assert again.tables == {"orders": 2}


def test_rows_that_share_the_newest_watermark_and_come_later(execute: Do) -> None:
    """They change the stamp, and are neither missed nor read twice."""
    insert(execute, MORE[:1])
    seen = observe("shop", "test", orders())
    publish(run("1"))
    insert(execute, MORE[1:])
    assert observe("shop", "test", orders()) != seen
    second = publish(run("2"))
    assert [row["id"] for row in rows(second)] == [1, 2, 3, 4]
    insert(execute, MORE_LATER)
    assert [row["id"] for row in rows(run("3"))] == [1, 2, 3, 4, 6, 7]


def test_numbers_and_texts_as_watermarks(execute: Do) -> None:
    """Compared as what they are: 9 comes before 10."""
    execute("UPDATE orders SET n = 9 WHERE id = 1")
    for watermark in ("n", "id"):
        assert [row["id"] for row in rows(run(watermark[0], orders(watermark=watermark)))] == [1, 2]
    publish(run("2", orders(watermark="n")))
    insert(execute, [(5, 100, "2020-01-01 00:00:00", 1, "old, by another column")])
    assert [row["id"] for row in rows(run("3", orders(watermark="n")))] == [1, 2, 5]


def test_a_query_in_place_of_a_table(execute: Do) -> None:
    """In the database's own words; a comment at its end and a semicolon do no harm."""
    query = "SELECT id, at, n * 2 AS twice FROM orders WHERE n < 100 -- all\n;"
    commit = publish(run("1", orders(table=None, query=query)))
    assert [(row["id"], row["twice"]) for row in rows(commit)] == [(1, 20), (2, 40)]
    insert(execute, MORE)
    assert [row["twice"] for row in rows(run("2", orders(table=None, query=query)))] == [20, 40, 40, 60]


def test_the_same_rows_are_the_same_bytes(execute: Do) -> None:
    """Whatever order they were written in: rows that share a watermark are sorted by all they have."""
    insert(execute, MORE)
    first = files(run("1"))
    execute("DELETE FROM orders")
    insert(execute, [*reversed(MORE), *reversed(ROWS)])
    assert files(run("2")) == first


def test_other_columns_or_settings_have_it_read_anew(execute: Do) -> None:
    """A column that came, a declared type, or an epoch: rows of one table never differ in their columns."""
    publish(run("1"))
    execute("ALTER TABLE orders ADD COLUMN more INT")
    execute("UPDATE orders SET name = 'changed'")
    execute("INSERT INTO orders VALUES (3, 3, '2024-05-01 00:00:00', 1, 'x', 7)")
    second = publish(run("2"))
    assert [(row["name"], row["more"]) for row in rows(second)] == [("changed", None), ("changed", None), ("x", 7)]
    typed = publish(run("3", orders({"price": "DOUBLE"})))
    assert [row["price"] for row in rows(typed)] == [1.5, None, 1.0]
    execute("UPDATE orders SET name = 'once more'")
    assert {row["name"] for row in rows(run("4", orders({"price": "DOUBLE"}, epoch=2)))} == {"once more"}


def test_a_crash_between_commit_and_record(execute: Do, workspace: Workspace) -> None:
    """Done again it is the same commit, also where `main` moved on meanwhile."""
    publish(run("1"))
    insert(execute, MORE)
    seen = observe("shop", "test", orders())
    made = run("2", seen=seen)
    publish(run("3", seen=seen))
    assert run("2", seen=seen).tables == made.tables
    assert [row["id"] for row in rows(made)] == [1, 2, 3, 4]


def test_types_of_postgres(repository: Path, monkeypatch: pytest.MonkeyPatch, postgres: Postgres) -> None:
    """Numbers, times, lists and bytes as they are; numbers without an end as DOUBLE; all that Parquet lacks as text."""
    connect(repository, monkeypatch, address(postgres))
    postgres.ask("DROP TABLE IF EXISTS orders")
    postgres.ask(
        "CREATE TABLE orders AS SELECT 1 AS id, timestamptz '2024-01-01 02:00:00+02' AS at, 1.5::numeric AS free, "
        "2.50::numeric(8,2) AS exact, 7::smallint AS small, true AS flag, date '2024-01-02' AS day, '\\x00ff'::bytea AS raw, "
        "array[1,2] AS list, array['a', null] AS texts, '{\"a\": 1}'::json AS document, "
        "'00000000-0000-0000-0000-000000000007'::uuid AS key, array['00000000-0000-0000-0000-000000000007'::uuid] AS keys, "
        "'10.0.0.1'::inet AS host, interval '1 day' AS span, 'x'::char(3) AS padded, null::text AS nothing, point '(1,2)' AS dot"
    )
    commit = run()
    table = contents(open_workspace("test").store, commit.id, "shop")
    assert table is not None
    assert table.tables["orders"].columns == {
        "id": "INTEGER", "at": "TIMESTAMP WITH TIME ZONE", "free": "DOUBLE", "exact": "DECIMAL(8,2)", "small": "SMALLINT",
        "flag": "BOOLEAN", "day": "DATE", "raw": "BLOB", "list": "INTEGER[]", "texts": "VARCHAR[]", "document": "VARCHAR",
        "key": "VARCHAR", "keys": "VARCHAR", "host": "VARCHAR", "span": "VARCHAR", "padded": "VARCHAR", "nothing": "VARCHAR",
        "dot": "VARCHAR",
    }  # fmt: skip
    (row,) = rows(commit)
    assert (row["at"].isoformat(), row["raw"], row["list"]) == ("2024-01-01T00:00:00+00:00", b"\x00\xff", [1, 2])
    assert (row["document"], row["host"], row["span"], row["dot"]) == ('{"a": 1}', "10.0.0.1/32", "P1D", "(1,2)")
    assert row["keys"] == "{00000000-0000-0000-0000-000000000007}"


# --- what goes wrong --------------------------------------------------------------------------------------------------


def refused(error: type[TrilhaError], sources: dict[str, Any] | None = None, key: str = "9") -> str:
    with pytest.raises(error) as caught:
        run(key, sources)
    words = str(caught.value) + caught.value.details
    assert "table 'orders'" in words
    assert "\n" not in str(caught.value)
    assert PASSWORD not in words
    assert PASSWORD not in repr(caught.value.__cause__)
    assert open_workspace("test").store.branches("ingest/") == []
    return str(caught.value)


def test_a_watermark_that_runs_backwards(execute: Do, workspace: Workspace) -> None:
    """One plain error, with what `main` holds and what to do; `epoch` has all of it read again."""
    first = publish(run("1"))
    workspace.store.delete_branch(first.branch)
    execute("DELETE FROM orders WHERE id = 2")
    words = refused(GateError)
    assert "'at' in sql://shop/orders ran backwards" in words
    assert "2024-01-01 00:00:00" in words
    assert "2024-01-02 00:00:00" in words
    assert "epoch" in words
    assert [row["id"] for row in rows(run("2", orders(epoch=2)))] == [1]


def test_rows_without_a_watermark(execute: Do) -> None:
    """They could never be told to be new."""
    insert(execute, [(3, 3, None, 1, "x")])
    assert "have no 'at'" in refused(GateError)


def test_no_rows(execute: Do) -> None:
    execute("DELETE FROM orders")
    assert "no rows" in refused(GateError)


def test_rows_at_the_watermark_that_come_between_looking_and_reading(execute: Do) -> None:
    """What was seen is what the key stands for; later rows with a later watermark do not disturb."""
    seen = observe("shop", "test", orders())
    insert(execute, MORE)
    assert [row["id"] for row in rows(run("1", seen=seen))] == [1, 2]
    insert(execute, [(9, 9, ROWS[1][2], 1, "late")])
    with pytest.raises(ConflictError, match="run again"):
        run("2", seen=seen)


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"table": "gone"}, NotFoundError, "gone"),
        ({"watermark": "gone"}, ConfigError, "gone"),
        ({"table": None, "query": "SELECT 1; DROP TABLE orders"}, ConfigError, "one SELECT"),
        ({"table": None, "query": "DELETE FROM orders RETURNING *"}, ConfigError, "one SELECT"),
        ({"table": 'orders"; DROP TABLE orders; --'}, NotFoundError, "DROP TABLE"),
        ({"columns": {"gone": "BIGINT"}}, ConfigError, "no column 'gone'"),
        ({"columns": {"name": "BIGINT"}}, GateError, "not what its column is made"),
        ({"columns": {"name": "NOTHING"}}, ConfigError, "no type 'NOTHING'"),
    ],
)
def test_what_the_database_or_the_settings_do_not_have(
    execute: Do, settings: dict[str, Any], error: type[TrilhaError], says: str
) -> None:
    """Named, and nothing is changed: names are quoted, and only one SELECT is asked."""
    assert says in refused(error, orders(**settings))
    assert run("1").tables == {"orders": 2}


def test_a_database_of_a_kind_that_is_not_known(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(repository, monkeypatch, f"mysql://me:{PASSWORD}@127.0.0.1/shop")
    assert "postgresql://" in refused(ConfigError)


def test_a_file_that_is_no_database(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(repository, monkeypatch, "sqlite:///shop.db")
    assert "no file" in refused(NotFoundError)
    (repository / "shop.db").write_text("nothing that SQLite knows, and long enough to be looked at" * 50)
    assert "not a database" in refused(ConfigError)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ((PASSWORD, "wrong"), ConfigError, "password authentication failed"),
        (("/postgres", "/gone"), NotFoundError, 'database "gone" does not exist'),
        (("PORT", "1"), UnavailableError, "refused"),
        (("127.0.0.1", "nowhere.invalid"), UnavailableError, "nowhere.invalid"),
        (("PORT", "99x"), ConfigError, "port"),
    ],
)
def test_postgres_that_cannot_be_reached(
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
    postgres: Postgres,
    change: tuple[str, str],
    error: type[TrilhaError],
    says: str,
) -> None:
    """Wrong credentials, another database, a server that is down: one line each, without the password."""
    old, new = change
    url = address(postgres)
    url = url.replace(f":{postgres.port}/", f":{new}/") if old == "PORT" else new.join(url.rsplit(old, 1))
    connect(repository, monkeypatch, url)
    assert says in refused(error)


def test_a_port_where_nobody_is(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Worth another try, unlike a table that is not there."""
    connect(repository, monkeypatch, f"postgresql://me:{PASSWORD}@127.0.0.1:{free_port([])}/shop")
    with pytest.raises(UnavailableError) as caught:
        observe("shop", "test", orders())
    assert caught.value.retryable


def test_a_connection_that_is_cut_off(repository: Path, monkeypatch: pytest.MonkeyPatch, postgres: Postgres) -> None:
    """In the middle of the rows: an error worth another try, nothing half-written, and the next run has all of them."""
    connect(repository, monkeypatch, address(postgres))
    postgres.ask("DROP TABLE IF EXISTS orders")
    rows_of = "SELECT i AS id, i AS at, repeat('x', 500) AS name FROM generate_series(1, 60000) AS i"
    postgres.ask(f"CREATE TABLE orders AS {rows_of}")
    seen, ended = observe("shop", "test", orders()), threading.Event()

    def cut() -> None:
        busy = "FROM pg_stat_activity WHERE application_name = 'trilha' AND query LIKE 'COPY (SELECT%ORDER BY%'"
        while not ended.wait(0.02):
            if postgres.ask(f"SELECT pg_terminate_backend(pid) {busy}"):
                return

    cutting = threading.Thread(target=cut)
    cutting.start()
    try:
        with pytest.raises(UnavailableError) as caught:
            run("1", seen=seen)
    finally:
        ended.set()
        cutting.join()
    assert "connection 'shop'" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert PASSWORD not in str(caught.value)
    store = open_workspace("test").store
    assert store.branches() == ["main"]
    assert list((open_workspace("test").home / "scratch").glob("*")) == []
    assert run("1", seen=seen).tables == {"orders": 60_000}
