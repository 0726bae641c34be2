from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler, TargetEncoder

from components.adapters.onnx_graphs import run_graphs, write_graphs
from components.errors import ConfigError, GateError
from components.model_inputs import frame_to_tensors

FEATURES = {"city": "string", "distance": "double", "weight": "bigint"}
LGBM: dict[str, Any] = {"n_estimators": 20, "n_jobs": 1, "deterministic": True, "force_row_wise": True, "verbose": -1}


def rows(count: int = 3_000) -> tuple[pd.DataFrame, np.ndarray]:
    """Rows of text and numbers, one number in ten missing, and what to predict from them."""
    draw = np.random.default_rng(0)
    city = draw.choice(["north", "south", "west", ""], count)
    distance = draw.uniform(0, 900, count).astype(np.float32)
    weight = draw.integers(0, 30, count).astype(np.float32)
    odds = distance / 300 - 2 + (city == "north")
    weight[draw.random(count) < 0.1] = np.nan
    frame = pd.DataFrame({"city": city.astype(object), "distance": distance, "weight": weight})
    return frame, (draw.random(count) < 1 / (1 + np.exp(-odds))).astype(int)


def paths_in(folder: Path) -> tuple[Path, Path, Path]:
    return folder / "pre.onnx", folder / "model.onnx", folder / "post.onnx"


def encoders() -> dict[str, Any]:
    return {
        "ordinal": OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, dtype=np.float32),
        "onehot": OneHotEncoder(handle_unknown="ignore", sparse_output=False),
        "sparse": OneHotEncoder(handle_unknown="ignore"),
        "target": TargetEncoder(random_state=0),
    }


def models() -> dict[str, Any]:
    return {
        "lightgbm": lightgbm.LGBMClassifier(**LGBM),
        "forest": RandomForestClassifier(10, max_depth=8, random_state=0, n_jobs=1),
        "logistic": LogisticRegression(max_iter=500),
    }


@pytest.mark.parametrize("encoder", encoders())
@pytest.mark.parametrize("kind", models())
def test_same_function(tmp_path: Path, encoder: str, kind: str) -> None:
    """The graphs answer what scikit-learn and LightGBM answer, unheard-of and missing values included."""
    frame, target = rows()
    scale = make_pipeline(SimpleImputer(), StandardScaler()) if kind == "logistic" else SimpleImputer(fill_value=-1)
    pre = make_column_transformer((encoders()[encoder], ["city"]), (scale, ["distance", "weight"]))
    model = models()[kind].fit(pre.fit_transform(frame, target), target)
    write_graphs(pre, model, 0.4, FEATURES, paths_in(tmp_path))
    frame.loc[0, "city"], frame.loc[1, "city"] = "unheard of", ""
    frame.loc[2, ["distance", "weight"]] = np.nan
    found = run_graphs(paths_in(tmp_path), frame_to_tensors(frame, list(FEATURES)))
    expected = model.predict_proba(pre.transform(frame))[:, [1]]
    np.testing.assert_allclose(found["probability"], expected, atol=1e-6)
    np.testing.assert_array_equal(found["label"], expected.astype(np.float32) >= np.float32(0.4))


def test_types(tmp_path: Path) -> None:
    """The answer is a probability and a label for each row, `[rows, 1]`."""
    found = run_graphs(_written(tmp_path), frame_to_tensors(rows(7)[0], list(FEATURES)))
    assert {name: (value.dtype.name, value.shape) for name, value in found.items()} == {
        "probability": ("float32", (7, 1)),
        "label": ("int64", (7, 1)),
    }


@pytest.mark.parametrize("kind", ["lightgbm", "forest"])
def test_cuts_between_neighbours(tmp_path: Path, kind: str) -> None:
    """A cut that trees make between two neighbouring 32-bit floats still parts them in the graph.

    LightGBM's converter alone rounds such a cut to the upper one every other time: found on the wind of real flights.
    """
    lower = np.arange(1, 65, dtype=np.float32) / 7
    values = np.repeat(np.stack([lower, np.nextafter(lower, np.float32(np.inf))], axis=1).ravel(), 20)
    frame = pd.DataFrame({"x": values})
    target = np.repeat(np.tile([0, 1], 64), 20)
    pre = make_pipeline(SimpleImputer())
    model = {
        "lightgbm": lightgbm.LGBMClassifier(**LGBM, num_leaves=128, min_child_samples=1, max_bin=1023),
        "forest": RandomForestClassifier(10, random_state=0, n_jobs=1),
    }[kind]
    model.fit(pre.fit_transform(frame), target)
    write_graphs(pre, model, 0.5, {"x": "double"}, paths_in(tmp_path))
    found = run_graphs(paths_in(tmp_path), frame_to_tensors(frame, ["x"]))["probability"]
    np.testing.assert_allclose(found, model.predict_proba(pre.transform(frame))[:, [1]], atol=1e-6)


def _written(folder: Path) -> tuple[Path, Path, Path]:
    frame, target = rows()
    pre = make_column_transformer(
        (encoders()["onehot"], ["city"]), (make_pipeline(SimpleImputer(), StandardScaler()), ["distance", "weight"])
    )
    model = lightgbm.LGBMClassifier(**LGBM).fit(pre.fit_transform(frame), target)
    folder.mkdir(exist_ok=True)
    write_graphs(pre, model, 0.5, FEATURES, paths_in(folder))
    return paths_in(folder)


@pytest.mark.slow
def test_same_bytes_in_every_process(tmp_path: Path) -> None:
    """The same fit makes byte-identical graphs in another process with other hash seeds."""
    script = (
        "import sys; from pathlib import Path; from tests.components.adapters.test_onnx_graphs import _written; "
        "_written(Path(sys.argv[1]))"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / seed)],
            cwd=Path(__file__).parents[3],
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        for seed in ("1", "2")
    ]
    assert [process.wait() for process in running] == [0, 0]
    for one, other in zip(paths_in(tmp_path / "1"), paths_in(tmp_path / "2"), strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_no_conversion(tmp_path: Path) -> None:
    """A model that no converter here knows is refused by name, and so is one that does not answer 0 or 1."""
    frame, _ = rows(100)
    pre = make_column_transformer((SimpleImputer(), ["distance", "weight"]))
    inputs = pre.fit_transform(frame)
    three = LogisticRegression().fit(inputs, np.arange(100) % 3)
    with pytest.raises(ConfigError, match=r"knows the classes 0, 1, 2"):
        write_graphs(pre, three, 0.5, FEATURES, paths_in(tmp_path))
    own = type("Own", (), {"classes_": [0, 1], "n_features_in_": 2, "__module__": "somebody.models"})()
    with pytest.raises(ConfigError, match=r"no conversion to ONNX for somebody\.models\.Own"):
        write_graphs(pre, own, 0.5, FEATURES, paths_in(tmp_path))


def test_code_is_no_graph(tmp_path: Path) -> None:
    """A transformer made of a Python function cannot become a graph, and says so."""
    frame, target = rows(100)
    pre = make_column_transformer((FunctionTransformer(np.log1p), ["distance"]), (SimpleImputer(), ["weight"]))
    model = LogisticRegression().fit(pre.fit_transform(frame), target)
    with pytest.raises(ConfigError, match="FunctionTransformer"):
        write_graphs(pre, model, 0.5, FEATURES, paths_in(tmp_path))


def test_missing_input(tmp_path: Path) -> None:
    """An input that is not there is named, with the ones that are."""
    inputs = frame_to_tensors(rows(5)[0], ["city", "weight"])
    with pytest.raises(GateError, match=r"pre\.onnx asks for an input 'distance'; accepted: city, weight"):
        run_graphs(_written(tmp_path), inputs)


def test_wrong_type(tmp_path: Path) -> None:
    """An input of the wrong type is an error of that graph, not a wrong answer."""
    inputs = frame_to_tensors(rows(5)[0], list(FEATURES))
    inputs["weight"] = inputs["weight"].astype(np.float64)
    with pytest.raises(GateError, match=r"pre\.onnx: .*tensor\(double\)"):
        run_graphs(_written(tmp_path), inputs)
