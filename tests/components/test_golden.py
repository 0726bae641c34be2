from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.errors import GateError
from components.golden import choose, example_of, features_of, golden_table
from components.records import Artifact, Prepared, Split
from tests.triton import FEATURES, Fitted


def prepared() -> Prepared:
    file = Artifact(path="", sha256="", size=0)
    split = Split(file=file, rows=1, positives=0.5)
    return Prepared(
        tree="", commit="", row="flight", target="late", features=FEATURES,
        train=split, valid=split, test=split, reference=file,
    )  # fmt: skip


def test_odd_rows_are_in(fitted: Fitted) -> None:
    """Missing values, the rarest category and the ends of every number are among few golden rows."""
    rows = pq.read_table(fitted.test)
    golden = golden_table(prepared(), fitted.test, fitted.predictions, 40)
    assert golden.num_rows == 40
    assert golden["carrier"].null_count
    assert golden["wind"].null_count
    assert "Ã" in golden["carrier"].to_pylist()
    for name in ("distance", "hour"):
        assert max(golden[name].to_pylist()) == max(rows[name].to_pylist())
        assert min(golden[name].to_pylist()) == min(rows[name].to_pylist())


def test_rows_are_drawn_the_same_way_again(fitted: Fitted) -> None:
    """The same split gives the same golden rows, spread over all of it, each once."""
    rows = pq.read_table(fitted.test, columns=list(FEATURES))
    chosen = choose(rows, 64)
    assert chosen == choose(rows, 64) == sorted(set(chosen))
    assert len(chosen) == 64
    assert chosen[0] == 0
    assert chosen[-1] == rows.num_rows - 1


@pytest.mark.parametrize("count", [1, 3, 10_000])
def test_any_count(fitted: Fitted, count: int) -> None:
    """As many rows as asked for, or all there are."""
    rows = pq.read_table(fitted.test, columns=list(FEATURES))
    assert len(choose(rows, count)) == min(count, rows.num_rows)


def test_answers_are_joined_by_key(fitted: Fitted, tmp_path: Path) -> None:
    """The notebook may write its answers in any order."""
    answers = pq.read_table(fitted.predictions)
    pq.write_table(answers.sort_by([("row", "descending")]), tmp_path / "predictions.parquet")
    assert golden_table(prepared(), fitted.test, tmp_path / "predictions.parquet", 50) == golden_table(
        prepared(), fitted.test, fitted.predictions, 50
    )


def test_missing_answer_is_named(fitted: Fitted, tmp_path: Path) -> None:
    """A row of the test split that the notebook left out stops the export."""
    pq.write_table(pq.read_table(fitted.predictions).slice(1), tmp_path / "predictions.parquet")
    with pytest.raises(GateError, match="no answer for row 'f0000'"):
        golden_table(prepared(), fitted.test, tmp_path / "predictions.parquet", 400)


@pytest.mark.parametrize("wrong", [float("nan"), 1.5])
def test_answers_that_are_no_probabilities(fitted: Fitted, tmp_path: Path, wrong: float) -> None:
    """A notebook that predicts NaN, or a score for a probability, stops the export; the row is named."""
    answers = pq.read_table(fitted.predictions)
    values = answers["probability"].to_pylist()
    values[3] = wrong
    broken = answers.set_column(answers.column_names.index("probability"), "probability", pa.array(values))
    pq.write_table(broken, tmp_path / "predictions.parquet")
    with pytest.raises(GateError, match=rf"own answer is {wrong} for row 'f0003'; 1 of 400"):
        golden_table(prepared(), fitted.test, tmp_path / "predictions.parquet", 400)


def test_types_are_read_back(fitted: Fitted) -> None:
    """A table of golden rows knows the features' types without the records that made it."""
    assert features_of(golden_table(prepared(), fitted.test, fitted.predictions, 10), "binary") == FEATURES


def test_example_is_whole() -> None:
    """The request to try a bundle with names every input, and is a row that misses least."""
    golden = pa.table({"text": ["a", None, "c"], "number": [1.0, 2.0, float("nan")], "label": [0, 1, 0]})
    assert example_of(golden, ["text", "number"]) == {"text": "a", "number": 1.0}
    assert example_of(golden.slice(1), ["text", "number"]) in (
        {"text": None, "number": 2.0},
        {"text": "c", "number": None},
    )
