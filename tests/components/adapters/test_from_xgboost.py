"""XGBoost's trees as ONNX: the same function, bit by bit where rows meet cuts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from components.adapters.converters import answer_of, dense, graph_of
from components.adapters.onnx_build import tensor
from components.adapters.onnx_graphs import session
from components.errors import ConfigError

xgboost = pytest.importorskip("xgboost", reason="xgboost is an extra")
DRAW = np.random.default_rng(0)
ROWS = DRAW.normal(size=(2_000, 4)).astype(np.float32)
ROWS[DRAW.random(ROWS.shape) < 0.1] = np.nan
SUM = np.nan_to_num(ROWS).sum(axis=1) + DRAW.normal(size=len(ROWS))
TREES: dict[str, Any] = {"n_estimators": 30, "n_jobs": 1}


def ran(model: Any, rows: np.ndarray) -> np.ndarray:
    graph = graph_of(model, [tensor("features", 1, rows.shape[1])], "scores")
    return session(graph.SerializeToString()).run(None, {"features": rows})[0]


@pytest.mark.parametrize(
    "model",
    [
        xgboost.XGBClassifier(**TREES).fit(ROWS, SUM > 1),
        xgboost.XGBClassifier(**TREES, base_score=0.2).fit(ROWS, SUM > 1),
        xgboost.XGBClassifier(**TREES, missing=np.nan, num_parallel_tree=2, subsample=0.5).fit(ROWS, SUM > 1),
        xgboost.XGBClassifier(**TREES).fit(ROWS, (SUM > 0).astype(int) + (SUM > 1)),
        xgboost.XGBRegressor(**TREES).fit(ROWS, SUM * 3),
        xgboost.XGBRegressor(**TREES, objective="reg:absoluteerror").fit(ROWS, SUM),
        xgboost.XGBClassifier(**TREES, early_stopping_rounds=2).fit(
            ROWS, SUM > 1, eval_set=[(ROWS[:200], DRAW.random(200) > 0.5)], verbose=False
        ),
    ],
    ids=["binary", "start", "forest", "multiclass", "regression", "absolute", "early"],
)
def test_same_function(model: Any) -> None:
    """Probabilities and values are XGBoost's own, of missing values too, and after early stopping."""
    own = dense(answer_of(model, {"features": ROWS}))
    np.testing.assert_allclose(ran(model, ROWS), own, rtol=2e-6, atol=2e-6)


def test_cuts_between_neighbours() -> None:
    """Two neighbouring 32-bit floats stay on their sides of a cut between them."""
    lower = np.arange(1, 65, dtype=np.float32) / 7
    values = np.repeat(np.stack([lower, np.nextafter(lower, np.float32(np.inf))], axis=1).ravel(), 20).reshape(-1, 1)
    model = xgboost.XGBClassifier(n_estimators=5, max_depth=8, tree_method="exact").fit(
        values, np.tile(np.repeat([0, 1], 20), 64)
    )
    np.testing.assert_allclose(ran(model, values), model.predict_proba(values), atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"booster": "dart"}, "dart with binary:logistic"), ({"objective": "binary:hinge"}, "gbtree with binary:hinge")],
)
def test_what_is_not_converted(settings: dict[str, Any], words: str) -> None:
    """A booster or an objective of another kind is refused by name, and never converted to something like it."""
    model = xgboost.XGBClassifier(n_estimators=2, **settings).fit(ROWS, SUM > 1)
    with pytest.raises(ConfigError, match=words):
        ran(model, ROWS)


def test_splits_by_category() -> None:
    """A split by category, which a cut does not say, is refused."""
    import pandas as pd

    frame = pd.DataFrame({"city": pd.Categorical(DRAW.choice(["a", "b", "c"], 500))})
    model = xgboost.XGBClassifier(n_estimators=2, enable_categorical=True).fit(frame, frame["city"] == "b")
    with pytest.raises(ConfigError, match="splits by category"):
        ran(model, ROWS[:, :1])
