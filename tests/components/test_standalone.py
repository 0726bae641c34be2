"""Servables straight from a file: written by their framework, exported, loaded and asked in the real Triton."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from components import servables
from components.errors import ConfigError
from components.servables import Embedding, Lookup, Vocabulary
from components.standalone import TOLERANCE, standalone
from components.workspace import Workspace
from tests.components.test_frameworks import needs

DRAW = np.random.default_rng(0)
ROWS = DRAW.normal(size=(400, 3)).astype(np.float32)
CLASSES = (ROWS[:, 0] > 0).astype(int) + (ROWS[:, 1] > 0.5)
VOCABULARY = Vocabulary.of(["Ice cream", "ice pops", "Crème fraîche"], size=4, length=3)
EMBEDDING = Embedding(DRAW.normal(size=(6, 2)).astype(np.float32))
LOOKUP = Lookup.of({"JFK": (40.6, -73.8), "Zürich": (47.5, 8.5)}, default=(0, 0))
TEXTS = np.array([["ICE pops for all"], [""], ["crème CREAM"], ["  ice"]], dtype=object)

Made = tuple[Path, dict[str, Any], Any]
"""A file, what to ask, and what its framework answers."""


def vocabulary(folder: Path) -> Made:
    servables.write(VOCABULARY, folder / "it.npz")
    return folder / "it.npz", {"text": TEXTS}, VOCABULARY(TEXTS)


def embedding(folder: Path) -> Made:
    servables.write(EMBEDDING, folder / "it.npz")
    ids = np.array([[2, 3, 0], [0, 0, 0], [5, 99, -4]])
    return folder / "it.npz", {"ids": ids}, EMBEDDING(ids)


def vectors(folder: Path) -> Made:
    servables.write(Embedding(EMBEDDING.table, None), folder / "it.npz")
    ids = np.array([[2, 3, 0], [0, 0, 1]])
    return folder / "it.npz", {"ids": ids}, EMBEDDING.table[ids].reshape(2, -1)


def lookup(folder: Path) -> Made:
    servables.write(LOOKUP, folder / "it.npz")
    keys = np.array([["JFK"], ["Zürich"], ["nowhere"], [""]], dtype=object)
    return folder / "it.npz", {"key": keys}, np.array([[40.6, -73.8], [47.5, 8.5], [0, 0], [0, 0]])


def lightgbm_file(folder: Path) -> Made:
    model = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(ROWS, CLASSES > 0)
    model.booster_.save_model(folder / "it.txt")
    return folder / "it.txt", {"features": ROWS}, model.predict_proba(ROWS)


def xgboost_file(folder: Path) -> Made:
    import xgboost

    model = xgboost.XGBClassifier(n_estimators=5, n_jobs=1).fit(ROWS, CLASSES)
    model.save_model(folder / "it.json")
    return folder / "it.json", {"features": ROWS}, model.predict_proba(ROWS)


def sklearn_file(folder: Path) -> Made:
    from skops import io

    model = LogisticRegression().fit(ROWS, CLASSES)
    io.dump(model, folder / "it.skops")
    return folder / "it.skops", {"features": ROWS}, model.predict_proba(ROWS)


def keras_file(folder: Path) -> Made:
    import keras

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2, activation="softmax")])
    model.save(folder / "it.keras")
    return folder / "it.keras", {"features": ROWS}, model.predict(ROWS, verbose=0)


def keras_pictures(folder: Path) -> Made:
    """Pictures, whose pixels come side by side."""
    import keras

    keras.utils.set_random_seed(0)
    layers = [keras.layers.Input((4, 4, 1)), keras.layers.Conv2D(3, 2), keras.layers.Flatten(), keras.layers.Dense(2)]
    model = keras.Sequential(layers)
    model.save(folder / "it.keras")
    pixels = DRAW.normal(size=(5, 16)).astype(np.float32)
    return folder / "it.keras", {"features": pixels}, model.predict(pixels.reshape(-1, 4, 4, 1), verbose=0)


def keras_export(folder: Path) -> Made:
    """What Keras writes for TensorFlow Serving."""
    import keras

    keras.utils.set_random_seed(0)
    layers = [keras.layers.Input((4, 4, 1)), keras.layers.Conv2D(3, 2), keras.layers.Flatten(), keras.layers.Dense(2)]
    model = keras.Sequential(layers)
    model.export(folder / "it", verbose=False)
    pixels = DRAW.normal(size=(5, 16)).astype(np.float32)
    return folder / "it", {"features": pixels}, model.predict(pixels.reshape(-1, 4, 4, 1), verbose=0)


def saved(folder: Path, answer: Callable[..., Any], **takes: Any) -> Path:
    """A SavedModel of a function of plain TensorFlow."""
    import tensorflow as tf

    asked = [tf.TensorSpec(shape, kind, name=name) for name, (shape, kind) in takes.items()]
    tf.saved_model.save(tf.Module(), folder / "it", signatures=tf.function(answer, input_signature=asked))
    return folder / "it"


def saved_model(folder: Path) -> Made:
    """Two tensors under names of their own, one of them ids of an embedding table."""
    import tensorflow as tf

    table, weights = DRAW.normal(size=(6, 3)).astype(np.float32), DRAW.normal(size=(3, 2)).astype(np.float32)

    def answer(ids: Any, numbers: Any) -> Any:
        return {"scores": tf.nn.softmax((tf.reduce_mean(tf.gather(table, ids), axis=1) + numbers) @ weights)}

    path = saved(folder, answer, ids=([None, 4], tf.int32), numbers=([None, 3], tf.float32))
    asked = {"ids": DRAW.integers(0, 6, (400, 4)), "numbers": ROWS}
    return path, asked, answer(asked["ids"], ROWS)["scores"].numpy()


def torch_file(folder: Path) -> Made:
    import torch

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Softmax(dim=1)).eval()
    rows = torch.from_numpy(ROWS)
    torch.export.save(
        torch.export.export(model, (rows,), dynamic_shapes=[{0: torch.export.Dim("rows")}]), folder / "it.pt2"
    )
    return folder / "it.pt2", {"features": ROWS}, model(rows).detach().numpy()


def onnx_file(folder: Path) -> Made:
    from skl2onnx import to_onnx

    model = LogisticRegression().fit(ROWS, CLASSES)
    made = to_onnx(model, ROWS[:1], options={"zipmap": False}, target_opset=17)
    (folder / "it.onnx").write_bytes(made.SerializeToString())
    return folder / "it.onnx", {made.graph.input[0].name: ROWS}, model.predict_proba(ROWS)


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        vocabulary,
        embedding,
        vectors,
        lookup,
        lightgbm_file,
        pytest.param(xgboost_file, marks=needs("xgboost")),
        sklearn_file,
        pytest.param(keras_file, marks=needs("keras")),
        pytest.param(keras_pictures, marks=needs("keras")),
        pytest.param(keras_export, marks=needs("keras")),
        pytest.param(saved_model, marks=needs("tensorflow")),
        pytest.param(torch_file, marks=needs("torch")),
        onnx_file,
    ],
)
def test_from_a_file(served: Workspace, triton: Any, tmp_path: Path, make: Callable[[Path], Made]) -> None:
    """What a file holds answers in Triton as its framework does, under the names and types that are told."""
    path, asked, expected = make(tmp_path)
    name = f"alone-{make.__name__.replace('_', '-')}"
    made = standalone(path, name, triton.repository)
    served.server.load(name)
    answers = served.server.infer(name, asked)
    served.server.unload(name)
    assert list(made.inputs) == list(asked)
    assert list(made.outputs) == list(answers)
    (found,) = answers.values()
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)


def test_pickles_are_not_read(tmp_path: Path) -> None:
    """A file that would run code when it is read is refused unread, with what to do instead."""
    path = tmp_path / "model.pkl"
    path.write_bytes(b"cos\nsystem\n(S'touch gone'\ntR.")
    with pytest.raises(ConfigError, match=r"model\.pkl is a pickle.*skops"):
        standalone(path, "bad", tmp_path)
    assert not (tmp_path / "gone").exists()


@pytest.mark.slow
@needs("tensorflow")
def test_saved_models_that_are_refused(tmp_path: Path) -> None:
    """One that writes a file is refused before it runs; one of texts, or of one row, with what is accepted instead."""
    import tensorflow as tf

    def writes(x: Any) -> Any:
        tf.io.write_file(str(tmp_path / "gone"), "written")
        return {"scores": x}

    wrong = {
        r"operators WriteFile": (writes, {"x": ([None, 2], tf.float32)}),
        r"'x' as string": (lambda x: {"scores": tf.strings.length(x)}, {"x": ([None, 1], tf.string)}),
        r"'x' as float32 \(1, 2\)": (lambda x: {"scores": x}, {"x": ([1, 2], tf.float32)}),
        r"yields a, b": (lambda x: {"a": x, "b": x}, {"x": ([None, 2], tf.float32)}),
    }
    for place, (words, (answer, takes)) in enumerate(wrong.items()):
        (tmp_path / str(place)).mkdir()
        with pytest.raises(ConfigError, match=words):
            standalone(saved(tmp_path / str(place), answer, **takes), "bad", tmp_path / "models")
    assert not (tmp_path / "gone").exists()
    assert not (tmp_path / "models").exists()


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    """It is refused with the formats that are read."""
    with pytest.raises(ConfigError, match=r"format none; accepted: .*saved_model\.pb"):
        standalone(tmp_path, "bad", tmp_path / "models")


def test_what_is_there_stays(tmp_path: Path) -> None:
    """A name that a model has already is refused, and that model is as it was."""
    servables.write(LOOKUP, tmp_path / "it.npz")
    standalone(tmp_path / "it.npz", "twice", tmp_path / "models")
    before = {path: path.read_bytes() for path in (tmp_path / "models").rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match="there already"):
        standalone(tmp_path / "it.npz", "twice", tmp_path / "models")
    assert {path: path.read_bytes() for path in (tmp_path / "models").rglob("*") if path.is_file()} == before


def test_other_files(tmp_path: Path) -> None:
    """A suffix that nobody reads, and a file that is not what its suffix says, are named with what is accepted."""
    (tmp_path / "it.bin").touch()
    with pytest.raises(ConfigError, match=r"it\.bin: format \.bin; accepted: .*\.onnx"):
        standalone(tmp_path / "it.bin", "it", tmp_path)
    for suffix in (".onnx", ".npz", ".txt"):
        path = tmp_path / f"it{suffix}"
        path.write_text("nothing of the kind")
        with pytest.raises(ConfigError, match=r"it\."):
            standalone(path, "it", tmp_path / "models")
    assert not (tmp_path / "models" / "it").exists()
