from __future__ import annotations

from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from components.errors import ConfigError, GateError, TrilhaError
from components.project import Features, RandomSplit, TimeSplit
from components.records import Prepared, Split, digest
from components.workspace import Workspace
from tests.examples import FEATURES, SPLIT, commit_tables, parcels, prepare_as, prepare_parcels

RANDOM = RandomSplit(by="random", key="id", valid=0.2, test=0.2)


def rows_of(workspace: Workspace, split: Split) -> pa.Table:
    return pq.read_table(workspace.artifacts.local(split.file))


def ids_of(workspace: Workspace, prepared: Prepared) -> list[set[int]]:
    return [
        set(rows_of(workspace, split)["id"].to_pylist()) for split in (prepared.train, prepared.valid, prepared.test)
    ]


def refusal(workspace: Workspace, sql: str, kind: type[TrilhaError], split: TimeSplit | RandomSplit = RANDOM) -> str:
    """The error of `sql` over the first parcels."""
    commit = commit_tables(workspace, {"parcels": [parcels(100)]})
    with pytest.raises(kind) as caught:
        prepare_as(workspace, commit, features=Features(sql=sql, row="id", target="late"), split=split)
    return str(caught.value)


def test_by_time(workspace: Workspace) -> None:
    """Rows before `valid_from` train, rows from `test_from` on test, and no row is lost."""
    prepared = prepare_parcels(workspace)
    train, valid, test = (rows_of(workspace, split) for split in (prepared.train, prepared.valid, prepared.test))
    assert pc.max(train["sent"]).as_py() < date(2024, 7, 1) <= pc.min(valid["sent"]).as_py()
    assert pc.max(valid["sent"]).as_py() < date(2024, 9, 1) <= pc.min(test["sent"]).as_py()
    assert train.num_rows + valid.num_rows + test.num_rows == 2_000
    assert (prepared.train.rows, prepared.train.positives) == (train.num_rows, pc.mean(train["late"]).as_py())


def test_inputs(workspace: Workspace) -> None:
    """Inputs are the columns without another role, in the order of the query, with their types."""
    prepared = prepare_parcels(workspace)
    assert prepared.features == {"city": "string", "distance": "double", "weight": "double"}
    assert (prepared.row, prepared.target) == ("id", "late")


def test_repeatable(workspace: Workspace) -> None:
    """The same commit makes the same bytes, whatever the order of the rows in its files."""
    table = parcels()
    once = prepare_as(workspace, commit_tables(workspace, {"parcels": [table]}))
    parts = [table[1_500:], table[:1_500].take(list(reversed(range(1_500))))]
    again = prepare_as(workspace, commit_tables(workspace, {"parcels": parts}), key="b")
    assert digest(once.train) == digest(again.train)
    assert digest([once.valid, once.test, once.reference]) == digest([again.valid, again.test, again.reference])


def test_random_split_is_stable(workspace: Workspace) -> None:
    """A row keeps its side when rows are added; another seed draws other sides."""
    few = prepare_as(workspace, commit_tables(workspace, {"parcels": [parcels(2_000)[:1_000]]}), split=RANDOM)
    all_rows = commit_tables(workspace, {"parcels": [parcels(2_000)]})
    many = prepare_as(workspace, all_rows, key="b", split=RANDOM)
    other = prepare_as(workspace, all_rows, key="c", split=RANDOM, seed=1)
    for side_of_few, side_of_many in zip(ids_of(workspace, few), ids_of(workspace, many), strict=True):
        assert side_of_few < side_of_many
    assert ids_of(workspace, many)[2] != ids_of(workspace, other)[2]


def test_random_split_shares(workspace: Workspace) -> None:
    """A random split gives each side its share."""
    prepared = prepare_as(workspace, commit_tables(workspace, {"parcels": [parcels()]}), split=RANDOM)
    assert prepared.valid.rows == pytest.approx(400, abs=60)
    assert prepared.test.rows == pytest.approx(400, abs=60)


def test_reference(workspace: Workspace) -> None:
    """The reference profile accounts for every training row of every input."""
    import json

    prepared = prepare_parcels(workspace)
    profile = json.loads(workspace.artifacts.local(prepared.reference).read_text())
    assert profile["rows"] == prepared.train.rows
    for name, column in profile["columns"].items():
        counts = column["counts"].values() if prepared.features[name] == "string" else column["counts"]
        assert sum(counts) + column.get("other", 0) + column["missing"] == prepared.train.rows
    assert profile["columns"]["weight"]["missing"] > 0


@pytest.mark.parametrize(
    ("column", "kind"),
    [("cast(1 as tinyint)", "bigint"), ("sum(id) over ()", "bigint"), ("cast(1.5 as decimal(9, 2))", "double")],
)
def test_numbers_are_widened(workspace: Workspace, column: str, kind: str) -> None:
    """Every whole number becomes a bigint, every other one a double."""
    features = Features(sql=f"select id, late, {column} as x from parcels", row="id", target="late")
    prepared = prepare_as(
        workspace, commit_tables(workspace, {"parcels": [parcels()]}), features=features, split=RANDOM
    )
    assert prepared.features == {"x": kind}


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("select id, late, disttance from parcels", ["features.sql", '"disttance" not found', "parcels"]),
        ("select id, late, distance from parcel", ["features.sql:1", "no table 'parcel' (did you mean 'parcels'?)"]),
        ("selct id from parcels", ["features.sql:1", "Invalid expression", "Line 1, Col: 13"]),
        ("select 1; select 2", ["features.sql", "not exactly one statement"]),
        ("-- nothing", ["features.sql", "not exactly one statement"]),
    ],
)
def test_refused_query(workspace: Workspace, sql: str, words: list[str]) -> None:
    """A query that is refused is an error of the project's features.sql, with the tables that there are."""
    error = refusal(workspace, sql, ConfigError)
    assert error.startswith("config/projects/small/features.sql")
    assert all(word in error for word in words), error


HOWS = ["read_csv('{0}')", "read_text('{0}')", "glob('{0}')", "query('from x')", "'{0}'"]


@pytest.mark.parametrize("how", HOWS)
def test_a_file_beside_the_commit(workspace: Workspace, tmp_path: Path, how: str) -> None:
    """It is in no key and no trail, so a query cannot read it; the error says where it belongs."""
    (tmp_path / "other.csv").write_text("id,distance\n1,2\n")
    there = how.format(tmp_path / "other.csv")
    error = refusal(workspace, f"select id, late,\n city from parcels\nsemi join {there} using (id)", ConfigError)
    assert error.startswith("config/projects/small/features.sql:3: ")
    assert "accepted: parcels" in error
    assert "add it under `sources` in project.yaml" in error


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("select id, city from parcels", ["no column 'late'", "`target`", "id, city"]),
        ("select late, city from parcels", ["no column 'id'", "`row`"]),
        ("select id, late from parcels", ["nothing to learn from"]),
        ("select id, late, distance > 9 as far from parcels", ["'far' is bool", "cast(far as bigint)"]),
        ("select id, late, sent from parcels", ["'sent' is date32", "month(sent)"]),
        ("select id, late, distance as label from parcels", ["'label'", "rename"]),
    ],
)
def test_refused_columns(workspace: Workspace, sql: str, words: list[str]) -> None:
    """A column that is not there, or that no model takes, is named with what to do."""
    error = refusal(workspace, sql, ConfigError)
    assert all(word in error for word in words), error


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("select id, late, city from parcels where id < 0", ["no rows"]),
        ("select id % 90 as id, late, city from parcels", ["'id' is not unique", "10 rows"]),
        ("select nullif(id, 7) as id, late, city from parcels", ["'id' is missing in 1 of 100"]),
        ("select id, nullif(late, 1) as late, city from parcels", ["'late' is missing"]),
        ("select id, late + 1 as late, city from parcels", ["'late' is neither 0 nor 1"]),
        ("select id, late + 0.5 as late, city from parcels", ["features.sql", "0 and 1"]),
        ("select id, late, distance / 0 as x from parcels", ["'x' is infinite in 100 rows"]),
        ("select id, 0 as late, city from parcels", ["'late' is 0 in all"]),
        ("select id, late, city from parcels where id < 1", ["leaves", "empty"]),
    ],
)
def test_refused_rows(workspace: Workspace, sql: str, words: list[str]) -> None:
    """Rows that nothing can be learned from stop the run, with the column and how many they are."""
    error = refusal(workspace, sql, GateError)
    assert all(word in error for word in words), error


@pytest.mark.parametrize(
    ("sent", "kind", "word"),
    [("cast(null as date)", GateError, "is missing in 100 rows"), ("city", ConfigError, "ISO 8601")],
)
def test_refused_time(workspace: Workspace, sent: str, kind: type[TrilhaError], word: str) -> None:
    """A split by time needs a time in every row."""
    split = TimeSplit(by="time", column="sent", valid_from="2024-02-01", test_from="2025-01-01")
    error = refusal(workspace, f"select id, late, distance, {sent} as sent from parcels", kind, split)
    assert word in error


def test_slices_that_are_not_there(workspace: Workspace) -> None:
    """Said before anything is learned, with the nearest name."""
    features = Features(sql="select * from parcels", row="id", target="late", exclude=("sent",), slices=("ctiy",))
    with pytest.raises(
        ConfigError, match=r"'ctiy' \(`evaluate.slices 'ctiy'` in .*\) \(did you mean 'city'\?\); accept"
    ):
        prepare_as(workspace, commit_tables(workspace, {"parcels": [parcels(100)]}), features=features)


def test_empty_side(workspace: Workspace) -> None:
    """A split that leaves a side without rows says which, and how many rows the others have."""
    split = SPLIT.model_copy(update={"test_from": "2030-01-01"})
    with pytest.raises(GateError, match=r"leaves test empty \(train \d+, valid \d+, test 0 rows\)"):
        prepare_as(workspace, commit_tables(workspace, {"parcels": [parcels()]}), features=FEATURES, split=split)
