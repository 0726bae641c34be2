"""A night: every row once, in one commit, with the answers of the server that serves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.collect import collect
from components.errors import ConfigError, GateError, NotFoundError
from components.ledger import running_as
from components.model_inputs import to_tensors
from components.pick import pick
from components.records import Release
from components.score import score
from components.scores import BRANCH, Picked, Predictions, Scored, found, night_of, nights, parse, path_of
from components.serving import stand_by
from components.workspace import Workspace
from flows.trail import trail
from tests.flights import QUERY, ROWS, flights, place_flights, released
from tests.triton import FEATURES, Fitted

PART = 1_000


@pytest.fixture
def release(repository: Path, workspace: Workspace, fitted: Fitted) -> Release:
    """A release, and the data on `main`."""
    place_flights(repository)
    return released(workspace, fitted)


def picked_in(query: str = QUERY, keep: tuple[str, ...] = ("origin",), release: int | None = None) -> Picked:
    return pick("flights", "test", release, None, query, keep)


def scored_in(
    picked: Picked, key: str = "a", *, query: str = QUERY, shard: int = 0, shards: int = 1, **other: Any
) -> Scored:
    options = {"keep": ("origin",), "part": PART, "through": "onnxruntime", **other}
    with running_as(key * 64):
        return score("flights", "test", picked, query, shard=shard, shards=shards, **options)


def collected(picked: Picked, scored: list[Scored], key: str = "c") -> Predictions:
    with running_as(key * 64):
        return collect("flights", "test", picked, scored)


def read(workspace: Workspace, made: Predictions) -> pa.Table:
    """The predictions as a reader finds them."""
    entries = workspace.store.ls(made.id, "flights")
    return pa.concat_tables([pq.read_table(workspace.store.local(made.id, entry.path)) for entry in entries])


def test_every_row_once_in_one_commit(workspace: Workspace, release: Release) -> None:
    """In the query's order, with what is kept, and a receipt of its own for each."""
    picked = picked_in()
    made = collected(picked, [scored_in(picked)])
    table = read(workspace, made)
    assert table.column_names == ["flight", "origin", "probability", "label", "receipt"]
    assert table["flight"].to_pylist() == flights()["flight"].to_pylist()
    assert table["origin"].to_pylist() == flights()["origin"].to_pylist()
    assert len(set(table["receipt"].to_pylist())) == made.rows == ROWS
    assert [entry.path for entry in workspace.store.ls(BRANCH, "flights")] == [path_of("flights", i) for i in range(6)]


@pytest.mark.slow
@pytest.mark.xdist_group("triton")
def test_answers_are_those_of_the_server(served: Workspace, release: Release) -> None:
    """Of the real Triton, bit for bit, whether it is asked in its place or not."""
    stand_by(served, release.bundle, "flights")
    picked = picked_in()
    own = read(served, collected(picked, [scored_in(picked)]))
    asked = read(served, collected(picked, [scored_in(picked, "b", through="triton")], "d"))
    answers = served.server.infer(release.bundle.model, to_tensors(flights(), FEATURES))
    assert own.equals(asked)
    assert np.array_equal(own["probability"].to_numpy(), answers["probability"].ravel())
    assert np.array_equal(own["label"].to_numpy(), answers["label"].ravel())


def test_shards_are_one_night(workspace: Workspace, release: Release) -> None:
    """Three shards make the very commit that one makes, and a missing one is noticed."""
    picked = picked_in()
    whole = collected(picked, [scored_in(picked)])
    shards = [scored_in(picked, "d", shard=shard, shards=3) for shard in range(3)]
    assert collected(picked, shards, "e") == whole
    with pytest.raises(GateError, match="missing"):
        collected(picked, [shards[0], shards[2]], "f")


def test_nights_follow_each_other(workspace: Workspace, release: Release, fitted: Fitted) -> None:
    """A night made again is there once; one that was replaced comes back as a whole, in a commit of its own."""
    picked = picked_in()
    first = collected(picked, [scored_in(picked)])
    assert collected(picked, [scored_in(picked)]) == first
    fewer = f"{QUERY} where hour < 12"
    other = picked_in(fewer)
    second = collected(other, [scored_in(other, "b", query=fewer)], "d")
    assert 0 < second.rows < first.rows
    assert {entry.path for entry in workspace.store.ls(BRANCH, "flights")} < {path_of("flights", i) for i in range(6)}
    again = collected(picked, [scored_in(picked)])
    assert (again.tree, again.night) == (first.tree, first.night)
    assert [one.id for one in nights(workspace.store, "flights")] == [again.id, second.id, first.id]


def test_the_way_back_from_a_row(workspace: Workspace, release: Release) -> None:
    """A receipt leads to the row, its release, and the data that was scored."""
    picked = picked_in()
    made = collected(picked, [scored_in(picked)])
    row = read(workspace, made).slice(4_321, 1).to_pylist()[0]
    receipt = parse(row["receipt"])
    assert receipt is not None
    assert found(workspace.store, receipt)[1] == row
    links = trail(workspace, row["receipt"])
    assert [link.what for link in links][:2] == ["prediction", "release"]
    assert f"flight={row['flight']}" in " ".join(links[0].lines)
    assert links[1].name == "flights/1"
    assert any(link.what == "commit" and link.name == picked.commit.id for link in links)
    assert trail(workspace, made.id)[0].what == "predictions"


@pytest.mark.parametrize(
    ("query", "error", "words"),
    [
        ("select flight, late, carrier, origin, distance, wind from flights", ConfigError, "no column 'hour'"),
        (QUERY.replace("hour from", "'noon' as hour from"), ConfigError, "input 'hour' is string"),
        (f"{QUERY} where hour > 30", GateError, "yields none"),
        (f"{QUERY} order by nothing", ConfigError, "nothing"),
    ],
)
def test_rows_that_cannot_be_answered(
    workspace: Workspace, release: Release, query: str, error: type[Exception], words: str
) -> None:
    """The column, or the query, is named."""
    with pytest.raises(error, match=words):
        scored_in(picked_in(query), query=query)


def test_what_is_not_there(workspace: Workspace, release: Release) -> None:
    """A release, a commit, or the data in it."""
    with pytest.raises(NotFoundError, match="no release 7"):
        picked_in(release=7)
    with pytest.raises(NotFoundError, match="no tables of flights"):
        pick("flights", "test", None, "releases", QUERY, ())
    with pytest.raises(NotFoundError, match="called"):
        trail(workspace, f"flights-1-{release.digest[:12]}-{night_of('0' * 64)}.0")
