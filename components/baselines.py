"""What a model has to be measured against: saying the same to everybody, and a linear model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from components.answers import Answers, AnyAnswers, ValueAnswers, from_scores, places
from components.model_inputs import to_tensors, width
from components.records import Prepared

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    import pyarrow as pa


def baselines(train: pa.Table, rows: pa.Table, prepared: Prepared) -> dict[str, AnyAnswers]:
    """The same answer for everybody, and a linear model, by name.

    Args:
        train: the rows to fit them on.
        rows: the rows to answer.
        prepared: which columns mean what, and what is predicted.
    """
    target = train[prepared.target].to_numpy(zero_copy_only=False)
    if prepared.task == "regression":
        return {"mean": mean(target, rows.num_rows), "linear": linear(train, rows, prepared.features, prepared.target)}
    if prepared.task == "multiclass":
        place = places(target, prepared.classes)
        scores = _shares(place, rows.num_rows, len(prepared.classes)), _multinomial(train, rows, prepared, place)
        named = zip(("majority", "logistic"), scores, strict=True)
        return {name: from_scores(one, "multiclass", prepared.classes, 0.5) for name, one in named}
    return {
        "majority": majority(target, rows.num_rows),
        "logistic": logistic(train, rows, prepared.features, prepared.target),
    }


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
    from sklearn.linear_model import LogisticRegression

    model = _fitted(LogisticRegression(max_iter=200, tol=1e-3), train, features, train[target].to_numpy())
    probability = model.predict_proba(_inputs(rows, features))[:, 1]
    return Answers(probability, (probability >= 0.5).astype("int64"))


def mean(target: npt.NDArray[np.float64], rows: int) -> ValueAnswers:
    """The training rows' mean for everybody."""
    import numpy as np

    return ValueAnswers(np.full(rows, float(target.mean())))


def linear(train: pa.Table, rows: pa.Table, features: Mapping[str, str], target: str) -> ValueAnswers:
    """Ridge regression on scaled numbers (median where missing) and one-hot texts; arguments as of `logistic`."""
    import numpy as np
    from sklearn.linear_model import Ridge

    model = _fitted(Ridge(), train, features, train[target].to_numpy())
    return ValueAnswers(model.predict(_inputs(rows, features)).astype(np.float64))


def _shares(place: npt.NDArray[np.int64], rows: int, classes: int) -> npt.NDArray[np.float64]:
    """The training rows' share of each class, for everybody."""
    import numpy as np

    return np.tile(np.bincount(place, minlength=classes) / len(place), (rows, 1))


def _multinomial(
    train: pa.Table, rows: pa.Table, prepared: Prepared, place: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    from sklearn.linear_model import LogisticRegression

    model = _fitted(LogisticRegression(max_iter=200, tol=1e-3), train, prepared.features, place)
    probabilities: npt.NDArray[np.float64] = model.predict_proba(_inputs(rows, prepared.features))
    return probabilities


def _fitted(model: Any, train: pa.Table, features: Mapping[str, str], target: npt.NDArray[Any]) -> Any:
    """A linear model behind scaling, imputation and one-hot encoding."""
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    inputs = _inputs(train, features)
    texts = [name for name, kind in features.items() if kind == "string"]
    numbers = [name for name in inputs.columns if name not in texts]
    whole = make_pipeline(
        make_column_transformer(
            (OneHotEncoder(handle_unknown="ignore"), texts),
            (make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()), numbers),
            sparse_threshold=1.0,
        ),
        model,
    )
    return whole.fit(inputs, target)


def _inputs(rows: pa.Table, features: Mapping[str, str]) -> pd.DataFrame:
    """The inputs as a frame in which each number of an array has a column of its own."""
    import pandas as pd

    columns = {
        (name if width(kind) == 1 else f"{name}[{place}]"): tensor[:, place]
        for (name, kind), tensor in zip(features.items(), to_tensors(rows, features).values(), strict=True)
        for place in range(width(kind))
    }
    return pd.DataFrame(columns)
