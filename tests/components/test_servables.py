from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from components import servables
from components.adapters.converters import graph_of
from components.adapters.onnx_build import tensor
from components.adapters.onnx_graphs import session
from components.errors import ConfigError
from components.servables import FIRST, NOTHING, UNKNOWN, Embedding, Lookup, Vocabulary, split

WORDS = ("ice", "cream", "crème", "ß")
texts = st.lists(st.sampled_from([*WORDS, "ICE", "Crème", "CRÈME", "new", " ", "\t", "\n", "  ", "ẞ", "İ"]), max_size=9)


def ran(part: Any, kind: int, width: int, array: np.ndarray) -> np.ndarray:
    graph = graph_of(part, [tensor("given", kind, width)], "made")
    return session(graph.SerializeToString()).run(None, {"given": array})[0]


def test_most_frequent_words_first() -> None:
    """A vocabulary holds the most frequent words, the alphabet deciding between equals, whatever the case."""
    found = Vocabulary.of(["b a", "B c a", "d"], size=3, length=2)
    assert found.words == ("a", "b", "c")


def test_ids() -> None:
    """Known words have their ids, others that of the unknown word; texts are cut, or end in nothing."""
    vocabulary = Vocabulary(("ice", "cream"), 3)
    found = vocabulary(np.array([["Ice pops"], ["cream ice cream ice"], [""]], dtype=object))
    assert found.tolist() == [[FIRST, UNKNOWN, NOTHING], [FIRST + 1, FIRST, FIRST + 1], [NOTHING] * 3]


@settings(deadline=None, max_examples=40)
@given(st.lists(texts.map(" ".join), min_size=1, max_size=6))
def test_graph_splits_as_python_does(rows: list[str]) -> None:
    """Of any spaces, signs and letters, the graph makes the ids that the vocabulary itself makes."""
    vocabulary = Vocabulary(WORDS, 4)
    array = np.array(rows, dtype=object).reshape(-1, 1)
    np.testing.assert_array_equal(ran(vocabulary, TensorProto.STRING, 1, array), vocabulary(array))


def test_mean_of_words() -> None:
    """A text's vector is the mean over its words; one without words is nothing but zeros."""
    table = np.array([[9, 9], [1, 1], [2, 0], [4, 2]], dtype=np.float32)
    ids = np.array([[2, 3, 0], [0, 0, 0], [1, 77, 0]])
    assert Embedding(table)(ids).tolist() == [[3, 1], [0, 0], [1, 1]]
    np.testing.assert_allclose(ran(Embedding(table), TensorProto.INT64, 3, ids), Embedding(table)(ids))


@pytest.mark.parametrize(
    "servable",
    [
        Vocabulary(("ice", "crème"), 2),
        Embedding(np.eye(3, dtype=np.float32)),
        Embedding(np.eye(3, dtype=np.float32), None),
        Lookup.of({"a": (1, 2)}, default=(0, 0)),
    ],
)
def test_kept_in_a_file(tmp_path: Path, servable: servables.Servable) -> None:
    """What is read back from a file answers as what was written."""
    servables.write(servable, tmp_path / "it.npz")
    again = servables.read(tmp_path / "it.npz")
    asked = (
        np.array([[1, 2]]) if isinstance(servable, Embedding) else np.array([["a"], ["ice CRÈME crème"]], dtype=object)
    )
    np.testing.assert_array_equal(servable(asked), again(asked))
    assert type(again) is type(servable)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Vocabulary((), 3),
        lambda: Vocabulary(("a", "a"), 3),
        lambda: Vocabulary(("two words",), 3),
        lambda: Vocabulary(("Capital",), 3),
        lambda: Embedding(np.zeros(4, dtype=np.float32)),
        lambda: Lookup(("a", "b"), np.zeros((1, 2), np.float32), np.zeros(2, np.float32)),
    ],
)
def test_what_makes_none(wrong: Any) -> None:
    """Data that a graph could not answer by is refused when it is given."""
    with pytest.raises(ConfigError, match="accepted"):
        wrong()


def test_words_stand_between_spaces() -> None:
    """Only spaces part words, and only ASCII's capitals lose their case."""
    assert split("  ICE-cream À  la\tMode ") == ["ice-cream", "À", "la\tmode"]
