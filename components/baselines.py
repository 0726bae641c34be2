"""What a model has to be measured against: saying the same to everybody, and a logistic regression."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from components.metrics import Answers
from components.model_inputs import to_frame

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa


def majority(target: npt.NDArray[np.int64], rows: int) -> Answers:
    """The training rows' share of 1 as everybody's probability.

    Args:
        target: of the training rows.
        rows: how many rows to answer.
    """
    import numpy as np

    share = float(target.mean())
    return Answers(np.full(rows, share), np.full(rows, int(share >= 0.5), dtype=np.int64))


def logistic(train: pa.Table, rows: pa.Table, features: Mapping[str, str], target: str) -> Answers:
    """Logistic regression on scaled numbers (median where missing) and one-hot texts.

    Args:
        train: the rows to fit it on.
        rows: the rows to answer.
        features: input column -> type.
        target: the column to predict.
    """
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    texts = [name for name, kind in features.items() if kind == "string"]
    numbers = [name for name, kind in features.items() if kind != "string"]
    model = make_pipeline(
        make_column_transformer(
            (OneHotEncoder(handle_unknown="ignore"), texts),
            (make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()), numbers),
            sparse_threshold=1.0,
        ),
        LogisticRegression(max_iter=200, tol=1e-3),
    )
    model.fit(to_frame(train, features)[list(features)], train[target].to_numpy())
    probability = model.predict_proba(to_frame(rows, features)[list(features)])[:, 1]
    return Answers(probability, (probability >= 0.5).astype("int64"))
