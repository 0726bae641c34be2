from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from components.adapters.onnx_graphs import run_graphs, write_graphs
from components.answers import NUMBERS, answer_names, from_scores, numbered, read_answers
from components.errors import GateError

CLASSES: dict[str, tuple[Any, ...]] = {"binary": (0, 1), "multiclass": ("far", "near", "Ünter"), "regression": ()}
SCORES = {
    "binary": np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]], dtype=np.float32),
    "multiclass": np.array([[0.1, 0.2, 0.7], [0.4, 0.4, 0.2], [0.6, 0.3, 0.1]], dtype=np.float32),
    "regression": np.array([[1.5], [-2e6], [0.0]], dtype=np.float32),
}


@pytest.mark.parametrize("task", CLASSES)
def test_graph_answers_as_python_does(tmp_path: Path, task: str) -> None:
    """The graph `post` makes of scores what is made of them here, the first of equals and a threshold included."""
    scores = SCORES[task]
    features = {f"x{place}": "double" for place in range(scores.shape[1])}
    paths = tmp_path / "pre.onnx", tmp_path / "model.onnx", tmp_path / "post.onnx"
    same = tmp_path / "same.onnx"
    same.write_bytes(_identity(scores.shape[1]))
    write_graphs(None, same, 0.5, features, paths, task, CLASSES[task])
    found = run_graphs(paths, {f"x{place}": scores[:, [place]] for place in range(scores.shape[1])})
    own = from_scores(scores, task, CLASSES[task], 0.5)
    assert tuple(found) == answer_names(task)
    np.testing.assert_array_equal(found[NUMBERS[task]], own.numbers().astype(np.float32))
    assert read_answers(found, task, CLASSES[task]).columns().keys() == own.columns().keys()
    if task != "regression":
        assert found["label"].ravel().tolist() == np.asarray(own.columns()["label"]).tolist()


def _identity(width: int) -> bytes:
    from onnx import TensorProto, helper

    from components.adapters.onnx_build import made, tensor

    ends = [tensor(name, TensorProto.FLOAT, width) for name in ("in", "out")]
    return made("same", [helper.make_node("Identity", ["in"], ["out"])], ends[:1], ends[1:]).SerializeToString()


@pytest.mark.parametrize("task", CLASSES)
def test_kept_in_a_table(task: str) -> None:
    """Answers come back from a table as they went in, and some of them are taken by rows."""
    own = from_scores(SCORES[task], task, CLASSES[task], 0.5)
    again = read_answers(pa.table(own.columns()), task, CLASSES[task])
    np.testing.assert_array_equal(again.numbers(), own.numbers())
    np.testing.assert_array_equal(again.take(np.array([2, 0])).numbers(), own.numbers()[[2, 0]])


@pytest.mark.parametrize(
    ("task", "table", "words"),
    [
        ("binary", {"probability": [0.5, 1.5], "label": [0, 1]}, "1 of 2 answers are no probabilities"),
        ("multiclass", {"probabilities": [[0.5, 0.4, 0.2]], "label": ["far"]}, "1 of 1 answers are no probabilities"),
        ("multiclass", {"probabilities": [[0.5, 0.5]], "label": ["far"]}, "2 probabilities a row; accepted: 3"),
        (
            "multiclass",
            {"probabilities": [[0.5, 0.3, 0.2]], "label": ["fur"]},
            "'fur' is no class; accepted: far, near",
        ),
        ("regression", {"value": [1.0, float("inf")]}, "1 of 2 answers are no numbers; accepted: finite numbers"),
        ("regression", {"probability": [1.0], "label": [1]}, "answers are probability, label; accepted: value"),
    ],
)
def test_what_is_no_answer(task: str, table: dict[str, Any], words: str) -> None:
    """Probabilities that are none, labels that are no class, and the answers of another task are refused by name."""
    with pytest.raises(GateError, match=words):
        read_answers(table, task, CLASSES[task])


def test_target_as_numbers() -> None:
    """Metrics take a class by its place, and a class that nobody learned is refused."""
    assert numbered(["near", "far"], "multiclass", CLASSES["multiclass"]).tolist() == [1, 0]
    assert numbered([1, 0], "binary", (0, 1)).tolist() == [1, 0]
    with pytest.raises(GateError, match="'else' is no class"):
        numbered(["else"], "multiclass", CLASSES["multiclass"])
