"""Validate: what does not meet the expectations stops, with a page, the rows and the reasons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from components.errors import ConfigError, GateError
from components.ingest import ingest, observe
from components.ledger import running_as
from components.project import ExpectationsFile, ProjectFile
from components.publish import publish
from components.records import Commit, Validation, digest
from components.source_settings import Table
from components.strict_yaml import load
from components.validate import validate
from components.workspace import Workspace

ROOT = Path(__file__).parents[2]
HEADER = "id,shop,amount\n"
GOOD = HEADER + "".join(f"{number},{'ab'[number % 2]},{number / 10}\n" for number in range(1, 101))


def ingested(repository: Path, text: str, **settings: Any) -> Commit:
    """Ingest one table `sales` under a key of its own."""
    (repository / "sales.csv").write_text(text)
    sources = {"sales": Table.model_validate({"path": "sales.csv", **settings})}
    seen = observe("shop", "test", sources)
    with running_as(digest([text, settings])):
        return ingest("shop", "test", sources, seen)


def validated(commit: Commit, *expectations: dict[str, Any]) -> Validation:
    """Hold table `sales` to `expectations`."""
    listed = ExpectationsFile.model_validate({"tables": {"sales": expectations}} if expectations else {"tables": {}})
    with running_as(digest([commit.tree, *expectations])):
        return validate("shop", "test", commit, listed.tables)


def refused(commit: Commit, *expectations: dict[str, Any]) -> GateError:
    with pytest.raises(GateError) as caught:
        validated(commit, *expectations)
    assert "\n" not in str(caught.value)
    return caught.value


def files_of(error: GateError) -> dict[str, Path]:
    """The files that a refusal names in its details."""
    return {Path(line).name: Path(line) for line in error.details.splitlines() if line.startswith("/")}


def expect(kind: str, severity: str = "critical", **kwargs: Any) -> dict[str, Any]:
    return {"type": f"expect_{kind}", "kwargs": kwargs, "severity": severity}


def test_data_that_meets_its_expectations(repository: Path, workspace: Workspace) -> None:
    """Every expectation is in the record, the page and the report are there, and nothing is offending."""
    commit = ingested(repository, GOOD)
    done = validated(
        commit,
        expect("column_values_to_be_unique", column="id"),
        expect("column_values_to_be_between", column="amount", min_value=0, max_value=10),
        expect("table_row_count_to_be_between", min_value=100, max_value=100),
    )
    assert done.tree == commit.tree
    assert [(result.expectation, result.success) for result in done.results] == [
        ("schema_unchanged", True),
        ("expect_column_values_to_be_unique", True),
        ("expect_column_values_to_be_between", True),
        ("expect_table_row_count_to_be_between", True),
    ]
    assert done.offending is None
    report = json.loads(workspace.artifacts.local(done.report).read_text())
    assert report["tables"]["sales"]["success"] is True
    assert report["tables"]["sales"]["meta"]["great_expectations_version"]


def test_the_record_is_the_same_on_every_run(repository: Path, workspace: Workspace) -> None:
    """Run times are in the report, and the report is incidental."""
    commit = ingested(repository, GOOD)
    expectation = expect("column_values_to_be_between", "warning", column="id", min_value=0, max_value=90)
    one, two = (validated(commit, expectation) for _ in range(2))
    assert digest(one) == digest(two)
    assert one.offending is not None


def test_the_page_needs_no_network(repository: Path, workspace: Workspace) -> None:
    """It holds Great Expectations' sections, loads nothing and links nowhere."""
    done = validated(
        ingested(repository, GOOD), expect("column_values_to_be_in_set", column="shop", value_set=["a", "b"])
    )
    page = workspace.artifacts.local(done.docs).read_text()
    assert "values must belong to this set" in page
    assert "://" not in page
    assert "<script" not in page
    assert 'href="..' not in page


@pytest.mark.parametrize(
    ("text", "expectation", "says"),
    [
        (
            GOOD.replace("\n50,", "\n49,"),
            expect("column_values_to_be_unique", column="id"),
            "column 'id': expect_column_values_to_be_unique: 2 of 100 rows: 49; first: row 49 of sales.csv",
        ),
        (
            HEADER + "".join(f"{number},a,{'nan' if number > 10 else number}\n" for number in range(1, 101)),
            expect("column_values_to_not_be_null", column="amount", mostly=0.95),
            "column 'amount': expect_column_values_to_not_be_null (mostly 0.95): 90 of 100 rows; first: row 11 of sales.csv",
        ),
        (
            GOOD + "101,z,1.5\n",
            expect("column_values_to_be_in_set", column="shop", value_set=["a", "b"]),
            'expect_column_values_to_be_in_set (value_set ["a", "b"]): 1 of 101 rows: z; first: row 101 of sales.csv',
        ),
        (
            GOOD,
            expect("column_mean_to_be_between", column="amount", max_value=1),
            "expect_column_mean_to_be_between (max_value 1): 5.05",
        ),
        (
            GOOD,
            expect("column_values_to_be_between", column="price", min_value=0),
            "column 'price': expect_column_values_to_be_between (min_value 0): Error: The column \"price\"",
        ),
    ],
    ids=["duplicate keys", "NaN flood", "unknown value", "another unit", "a column gone"],
)
def test_data_that_does_not(
    repository: Path, workspace: Workspace, text: str, expectation: dict[str, Any], says: str
) -> None:
    """One line with table, column, what was expected, what was found and the first row; `main` is as it was."""
    before = workspace.store.resolve("main").id
    commit = ingested(repository, text)
    error = refused(commit, expectation)
    assert error.problem.startswith("1 critical expectation on shop failed: ")
    assert says in error.problem
    assert workspace.store.resolve("main").id == before
    assert workspace.store.resolve(commit.branch).id == commit.id
    files = files_of(error)
    assert "1 critical failed" in files["index.html"].read_text()
    assert json.loads(files["validation.json"].read_text())["tables"]["sales"]["success"] is False


def test_offending_rows_are_kept_with_their_reasons(repository: Path, workspace: Workspace) -> None:
    """File, row, what the row holds, and the expectation that it broke."""
    text = GOOD.replace("\n7,b,0.7\n", "\n7,b,-0.7\n").replace("\n50,", "\n49,")
    error = refused(
        ingested(repository, text, partition="shop"),
        expect("column_values_to_be_between", "warning", column="amount", min_value=0),
        expect("column_values_to_be_unique", column="id"),
    )
    rows = pq.read_table(files_of(error)["offending.parquet"]).to_pylist()
    negative, *twice = rows
    assert (negative["file"], negative["source"]) == ("shop/sales/shop-b.parquet", "sales.csv")
    assert negative["source_row"] is None  # which row it was there, a partition does not keep
    assert f"first: row {twice[0]['row']} of {twice[0]['file']}, read from sales.csv" in error.problem
    assert (negative["table"], negative["row"], negative["column"]) == ("sales", 4, "amount")
    assert (negative["expectation"], negative["severity"]) == ("expect_column_values_to_be_between", "warning")
    assert json.loads(negative["values"]) == {"id": 7, "shop": "b", "amount": -0.7}
    assert [(row["expectation"], json.loads(row["values"])["id"]) for row in twice] == [
        ("expect_column_values_to_be_unique", 49)
    ] * 2
    where = pq.read_table(workspace.store.local("ingest/shop/" + error_branch(error), twice[0]["file"])).to_pylist()
    assert where[twice[0]["row"] - 1]["id"] == 49


def test_an_offending_row_is_named_where_it_came_from(repository: Path, workspace: Workspace) -> None:
    """One file that became one file: the row has its number in it."""
    flaw = expect("column_values_to_be_between", "warning", column="id", max_value=98)
    done = validated(ingested(repository, GOOD), flaw)
    assert done.offending is not None
    rows = pq.read_table(workspace.artifacts.local(done.offending)).to_pylist()
    assert [(row["source"], row["source_row"]) for row in rows] == [("sales.csv", 99), ("sales.csv", 100)]


def error_branch(error: GateError) -> str:
    return error.next_step.rsplit("ingest/shop/", 1)[1]


def test_a_warning_is_reported_and_stops_nothing(repository: Path, workspace: Workspace) -> None:
    """Its rows and its notes are kept."""
    flaw = expect("column_values_to_be_between", "warning", column="id", max_value=98) | {"notes": "known since May"}
    done = validated(ingested(repository, GOOD), flaw)
    assert done.results[-1].success is False
    assert done.results[-1].notes == "known since May"
    assert done.offending is not None
    assert pq.read_table(workspace.artifacts.local(done.offending))["row"].to_pylist() == [99, 100]
    assert "known since May" in workspace.artifacts.local(done.docs).read_text()


def test_counts_are_exact_where_rows_are_capped(repository: Path, workspace: Workspace) -> None:
    """A flood of bad rows does not flood the disk."""
    text = HEADER + "".join(f"{number},a,-1\n" for number in range(5000))
    done = validated(
        ingested(repository, text), expect("column_values_to_be_between", "warning", column="amount", min_value=0)
    )
    assert done.results[-1].unexpected == 5000
    assert done.offending is not None
    assert pq.read_table(workspace.artifacts.local(done.offending)).num_rows == 1000


MISTAKEN = """\
tables:
  sales:
    - {{type: expect_column_values_to_be_unique, kwargs: {{column: id}}}}
    - type: {kind}
      kwargs:
        {kwargs}
"""


@pytest.mark.parametrize(
    ("kind", "kwargs", "says"),
    [
        (
            "expect_column_values_to_be_betwen",
            "column: id",
            ":4: tables.sales[1]: no expectation 'expect_column_values_to_be_betwen' (did you mean 'expect_column_values_",
        ),
        (
            "expect_column_values_to_be_between",
            "min_value: 0\n        colum: id",
            ":7: tables.sales[1]: expect_column_values_to_be_between: no argument 'colum' (did you mean 'column'?); accepted: column, mos",
        ),
        (
            "expect_column_values_to_be_in_set",
            "column: id",
            ":5: tables.sales[1]: expect_column_values_to_be_in_set: argument 'value_set' is missing; accepted: column, ",
        ),
        (
            "expect_column_values_to_be_in_set",
            "{column: id, value_set: [1],\n        mostly: 95}",
            ":7: tables.sales[1]: expect_column_values_to_be_in_set: mostly is 95; accepted: a number of 1 or less; next",
        ),
        (
            "expect_column_values_to_be_between",
            "{column: id, min_value: low}",
            ":6: tables.sales[1]: expect_column_values_to_be_between: min_value is low; accepted: a number or a date; next",
        ),
        (
            "expect_column_values_to_be_between",
            "column: id",
            ":5: tables.sales[1]: expect_column_values_to_be_between: min_value and max_value cannot both be None; acc",
        ),
    ],
)
def test_an_expectation_that_does_not_exist(
    repository: Path, workspace: Workspace, kind: str, kwargs: str, says: str
) -> None:
    """File, line, place, the nearest name, and what is accepted."""
    path = repository / "config" / "projects" / "shop" / "expectations.yaml"
    path.parent.mkdir()
    path.write_text(MISTAKEN.format(kind=kind, kwargs=kwargs))
    commit = ingested(repository, GOOD)
    with running_as("1" * 64), pytest.raises(ConfigError) as caught:
        validate("shop", "test", commit, load(path, ExpectationsFile).tables)
    assert f"{path}{says}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_expectation_of_another_machine(repository: Path, workspace: Workspace) -> None:
    """Where the file is not here, its place in the list is enough to find it."""
    says = (
        r"shop/expectations.yaml: tables.sales\[0\]: no expectation 'expect_column_to_exit' \(did you mean 'expect_col"
    )
    with pytest.raises(ConfigError, match=says):
        validated(ingested(repository, GOOD), expect("column_to_exit", column="id"))


def test_expectations_on_a_table_that_is_not_there(repository: Path, workspace: Workspace) -> None:
    """With the tables that are."""
    commit = ingested(repository, GOOD)
    listed = ExpectationsFile.model_validate({"tables": {"shops": []}})
    with running_as("1" * 64), pytest.raises(ConfigError, match="'shops'") as caught:
        validate("shop", "test", commit, listed.tables)
    assert caught.value.accepted == "sales"


# --- the schema -------------------------------------------------------------------------------------------------------


@pytest.fixture
def on_main(repository: Path, workspace: Workspace) -> None:
    """`main` holds good data."""
    commit = ingested(repository, GOOD)
    with running_as("f" * 64):
        publish("shop", "test", commit, validated(commit))


@pytest.mark.usefixtures("on_main")
def test_a_column_that_is_gone(repository: Path, workspace: Workspace) -> None:
    """Refused though no expectation is on it, unless the expectations state the columns."""
    commit = ingested(repository, "id,shop\n1,a\n")
    error = refused(commit)
    assert "table 'sales', column 'amount': schema_unchanged" in error.problem
    assert "DOUBLE on main, gone here" in error.problem
    done = validated(commit, expect("table_columns_to_match_set", column_set=["id", "shop"]))
    assert all(result.success for result in done.results)


@pytest.mark.usefixtures("on_main")
def test_a_column_of_another_type(repository: Path, workspace: Workspace) -> None:
    """Refused, unless project.yaml declares the new type."""
    text = HEADER + "A1,a,0.5\n"
    error = refused(ingested(repository, text))
    assert "column 'id': schema_unchanged (the columns of main, with their types): BIGINT on main, VARCHAR here" in (
        error.problem
    )
    done = validated(ingested(repository, text, columns={"id": "VARCHAR"}))
    assert all(result.success for result in done.results)


@pytest.mark.usefixtures("on_main")
def test_the_values_that_made_a_column_another_type(repository: Path, workspace: Workspace) -> None:
    """Text in a column of numbers: how many, the first, its row in the source, and all of them in a file."""
    error = refused(ingested(repository, GOOD.replace("\n40,a,4.0\n", "\n40,a,warm\n").replace(",6.0\n", ",n/a\n")))
    says = "DOUBLE on main, VARCHAR here: 2 values not DOUBLE, such as 'warm'; first: row 40 of sales.csv"
    assert says in error.problem
    rows = pq.read_table(files_of(error)["offending.parquet"]).to_pylist()
    assert [(row["source_row"], row["column"], row["expectation"]) for row in rows] == [
        (40, "amount", "schema_unchanged"),
        (60, "amount", "schema_unchanged"),
    ]
    assert json.loads(rows[0]["values"]) == {"id": 40, "shop": "a", "amount": "warm"}


@pytest.mark.usefixtures("on_main")
def test_a_new_column_is_welcome(repository: Path, workspace: Workspace) -> None:
    """Data grows."""
    done = validated(ingested(repository, "id,shop,amount,colour\n1,a,0.5,red\n"))
    assert all(result.success for result in done.results)


# --- the example project ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_flights_meets_its_expectations_but_for_its_known_flaws(workspace: Workspace) -> None:
    """The real data passes; what it breaks is known, written beside the report, and dealt with in features.sql."""
    folder = ROOT / "config" / "projects" / "flights"
    sources = load(folder / "project.yaml", ProjectFile).sources
    expectations = load(folder / "expectations.yaml", ExpectationsFile).tables
    with running_as("1" * 64):
        commit = ingest("flights", "test", sources, observe("shop", "test", sources))
    with running_as("2" * 64):
        done = validate("flights", "test", commit, expectations)
    broken = [result for result in done.results if not result.success]
    assert [(result.table, result.column, result.unexpected) for result in broken] == [
        ("weather", "wind_speed", 1),
        ("weather", "origin, year, month, day, hour", 6),
        ("planes", "seats", 40),
    ]
    assert all("features.sql" in result.notes for result in broken)
    assert done.offending is not None
    assert pq.read_table(workspace.artifacts.local(done.offending)).num_rows == 47
