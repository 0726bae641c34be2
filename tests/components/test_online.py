"""Features known by entity: which row counts, what is refused, and that the table is where the release is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from components.errors import ConfigError, GateError, NotFoundError
from components.gateway.catalogue import KEPT
from components.ledger import running_as
from components.online import ensure, key_of, known, materialize, tidy
from components.online_settings import OnlineFeatures
from components.project import Features, RandomSplit, Serve, TimeSplit
from components.records import OnlineTable, Prepared, Release
from components.releases import BRANCH, write
from components.rollout_settings import RolloutRules
from components.rollouts import begun, files_of, path_of
from components.serve_settings import Triton
from components.workspace import Workspace, open_workspace
from tests.examples import SPLIT, commit_tables, prepare_as
from tests.triton import Fitted, release_of

DAYS = (date(2024, 3, 1), date(2024, 7, 5), date(2024, 9, 9), date(2024, 10, 1))
BY_HASH = RandomSplit(by="random", key="id", valid=0.3, test=0.3)


def visits(**changes: Any) -> pa.Table:
    """Four visits each of the shops 0 to 29, on four days, in no order; `age` changes, `kind` does not."""
    numbers = [(number * 37) % 120 for number in range(120)]
    columns = {
        "id": numbers,
        "sent": [DAYS[number // 30] for number in numbers],
        "late": [number % 2 for number in numbers],
        "shop": [number % 30 for number in numbers],
        "city": [None if number % 30 == 7 else f"ã{number % 3}" for number in numbers],
        "age": [None if number % 11 == 3 else number / 7 for number in numbers],
        "kind": [f"kind {number % 30}" for number in numbers],
        "taste": [[number % 30, None if number % 30 == 4 else 0.5] for number in numbers],
    }
    return pa.table({name: pa.array(values) for name, values in (columns | changes).items()})


def prepared_with(workspace: Workspace, split: TimeSplit | RandomSplit, rows: pa.Table | None = None) -> Prepared:
    features = Features(sql="select * from visits", row="id", target="late", exclude=("sent", "shop"))
    commit = commit_tables(workspace, {"visits": [visits() if rows is None else rows]})
    return prepare_as(workspace, commit, features=features, split=split)


def table_of(
    workspace: Workspace, prepared: Prepared, split: TimeSplit | RandomSplit, **features: Any
) -> tuple[OnlineTable, dict[Any, list[Any]]]:
    """The table, and what the store says of each of its entities."""
    with running_as("c" * 64):
        table = materialize("small", workspace.name, prepared, OnlineFeatures(**features), split)
    rows = pq.read_table(workspace.artifacts.local(table.file)).select(list(table.entity)).to_pylist()
    keys = [tuple(row.values()) for row in rows]
    found = workspace.features.read("small", table.digest, [key_of(key) for key in keys])
    return table, {key: known(value or b"") for key, value in zip(keys, found, strict=True)}


def test_the_latest_row_counts(workspace: Workspace) -> None:
    """By the split's column of time, over train, valid and test, with what is missing there missing."""
    prepared = prepared_with(workspace, SPLIT)
    table, found = table_of(workspace, prepared, SPLIT, entity="shop", columns=("kind", "age"))
    last = {number - 90: number for number in range(90, 120)}
    expected = {(shop,): [f"kind {shop}", None if number % 11 == 3 else number / 7] for shop, number in last.items()}
    assert found == expected
    assert (table.rows, table.entity, table.columns) == (30, {"shop": "bigint"}, ("kind", "age"))


def test_several_columns_name_an_entity(workspace: Workspace) -> None:
    """Together; a row that lacks one of them is of no entity."""
    prepared = prepared_with(workspace, SPLIT)
    table, found = table_of(workspace, prepared, SPLIT, entity=("city", "shop"), columns=("taste",))
    assert table.rows == 29
    assert found["ã1", 1] == [[1.0, 0.5]]
    assert str(found["ã1", 4]) == "[[4.0, nan]]"


def test_an_entity_of_any_whole_number(workspace: Workspace) -> None:
    """As the engine gives it: what is excluded keeps its type."""
    shops = pa.array([number * 37 % 120 % 30 for number in range(120)], pa.int16())
    prepared = prepared_with(workspace, SPLIT, visits(shop=shops))
    table, found = table_of(workspace, prepared, SPLIT, entity="shop", columns=("kind",))
    assert (table.entity, len(found), found[3,]) == ({"shop": "bigint"}, 30, ["kind 3"])


def test_without_time_rows_have_to_agree(workspace: Workspace) -> None:
    """One value an entity is taken, arrays and gaps included; several are refused with two of them."""
    prepared = prepared_with(workspace, BY_HASH)
    table, found = table_of(workspace, prepared, BY_HASH, entity="shop", columns=("kind", "taste"))
    assert (table.rows, found[3,]) == (30, ["kind 3", [3.0, 0.5]])
    with pytest.raises(GateError, match=r"of shop 0, 'age' is .* in one row and .* in another; accepted: one value"):
        table_of(workspace, prepared, BY_HASH, entity="shop", columns=("kind", "age"))


def test_the_same_rows_are_the_same_table(workspace: Workspace) -> None:
    """Its digest does not depend on the order in which rows came."""
    digests = set()
    for rows in (visits(), visits().take(list(reversed(range(120))))):
        prepared = prepared_with(workspace, SPLIT, rows)
        digests.add(table_of(workspace, prepared, SPLIT, entity="shop", columns=("kind", "age"))[0].digest)
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("features", "words"),
    [
        ({"entity": "shop", "columns": ("kond",)}, "'kond' is no input of the model; accepted: .*kind"),
        ({"entity": "shop", "columns": ("sent",)}, "'sent' is no input of the model"),
        ({"entity": "shup", "columns": ("kind",)}, "the entity's column 'shup' is not there"),
        ({"entity": "age", "columns": ("kind",)}, "'age' is double; accepted: text or whole numbers"),
        ({"entity": "sent", "columns": ("kind",)}, r"'sent' is date32\[day\]; .*a cast to varchar"),
    ],
)
def test_refused(workspace: Workspace, features: dict[str, Any], words: str) -> None:
    """A column that is not there, or cannot be that, is named with what could be."""
    prepared = prepared_with(workspace, SPLIT)
    with pytest.raises(ConfigError, match=words):
        table_of(workspace, prepared, SPLIT, **features)


@pytest.mark.parametrize("entity", ["kind", (), ("shop", "shop")])
def test_settings(entity: Any) -> None:
    """No column twice, and at least one to name an entity."""
    with pytest.raises(ValidationError, match="each column once"):
        OnlineFeatures(entity=entity, columns=("kind",))


# --- where the release is ---------------------------------------------------------------------------------------------


def released(workspace: Workspace, first: Release, number: int) -> Release:
    """A release with a table of its own."""
    rows = visits(age=pa.array([float(number)] * 120))
    table, _ = table_of(workspace, prepared_with(workspace, SPLIT, rows), SPLIT, entity="shop", columns=("age",))
    changes = {"online": table, "digest": f"{number:064}", "key": f"{number:064}"}
    return write(
        workspace.store, "small", changes["key"], lambda made: first.model_copy(update=changes | {"number": made})
    )


def test_a_store_that_has_lost_a_table(workspace: Workspace, fitted: Fitted) -> None:
    """Gets it again from the release's file; without the file, that is said."""
    release = released(workspace, release_of(workspace, fitted, "small"), 1)
    assert release.online is not None
    workspace.features.drop("small", release.online.digest)
    ensure(workspace, release)
    assert workspace.features.read("small", release.online.digest, [key_of([3])]) != [None]
    workspace.features.drop("small", release.online.digest)
    Path(workspace.artifacts.local(release.online.file)).unlink()
    with pytest.raises(NotFoundError):
        ensure(workspace, release)


def test_tables_go_with_their_releases(workspace: Workspace, fitted: Fitted) -> None:
    """Those of releases that a gateway may be asked by number stay; a table of no release goes, too."""
    first = release_of(workspace, fitted, "small")
    tidy(workspace, first)
    made = [released(workspace, first, number) for number in range(1, KEPT + 3)]
    workspace.features.write("small", "of-nobody", [])
    workspace.features.write("other", "a", [])
    tidy(workspace, made[-1])
    assert workspace.features.tables("small") == digests_of(made[-KEPT:])
    assert workspace.features.tables("other") == {"a"}


def digests_of(made: Sequence[Release]) -> set[str]:
    return {one.online.digest for one in made if one.online}


def test_tables_of_all_that_answers_stay(small: Path, fitted: Fitted) -> None:
    """However old: of releases that the version policy, a selection or a roll-out lets answer; others go."""
    workspace = open_workspace("test")
    policy = Triton(version_policy={"specific": {"versions": [2]}})
    first = release_of(workspace, fitted, "small", serve=Serve(golden=16, triton=policy))
    made = [released(workspace, first, number) for number in range(2, KEPT + 6)]
    settings = small / "config" / "projects" / "small" / "project.yaml"
    settings.write_text(f"{settings.read_text()}selection: {{how: ab, arms: [3, {made[-1].number}]}}\n")
    tidy(workspace, made[-1])
    assert workspace.features.tables("small") == digests_of([*made[:2], *made[-KEPT:]])
    rules = RolloutRules(shares=(0.5,))
    change_to = begun("small", 1, 5, made[-1].number, rules, "test", "a test")
    with files_of({path_of(change_to): change_to}) as puts:
        workspace.store.commit(BRANCH, puts, message="a roll-out", metadata={}, key="begun")
    released_again = [one for one in made if one.number == 5]
    ensure(workspace, released_again[0])
    tidy(workspace, made[-1])
    assert workspace.features.tables("small") == digests_of([made[0], *released_again, *made[-KEPT:]])
