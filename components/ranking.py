"""How good a ranking is: a list a household, against what it bought afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd


def measured(
    rows: pd.DataFrame, scores: npt.NDArray[Any], *, by: str, item: str, hit: str, wanted: str, best: int = 10
) -> dict[str, float]:
    """What the `best` rows of each `by`, by their scores, are worth.

    Args:
        rows: one a candidate.
        scores: of each row; the larger, the better. Of equal ones the smaller `item` comes first.
        by: the column that says whose candidates they are.
        item: the column that says what is recommended.
        hit: the column that is 1 where it was right.
        wanted: the column that says how many there were to be found, candidates or not.
        best: how many are recommended.

    Returns:
        `hit_rate`: the share of `by` with a hit at all. `ndcg`: discounted cumulative gain over the best there could be
        (Järvelin and Kekäläinen, 2002). `coverage`: the share of all items among the candidates that anybody is shown.
    """
    import numpy as np

    frame = rows[[by, item, hit, wanted]].assign(score=np.asarray(scores))
    frame = frame.sort_values([by, "score", item], ascending=[True, False, True], kind="stable")
    place = frame.groupby(by, sort=False).cumcount().to_numpy()
    shown = frame[place < best].assign(gain=1 / np.log2(place[place < best] + 2))
    gained = (shown[hit] * shown["gain"]).groupby(shown[by], sort=False).sum()
    there = frame.groupby(by, sort=False)[wanted].first().clip(upper=best).astype(int)
    ideal = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(best) + 2))])
    hits = shown.groupby(by, sort=False)[hit].max()
    return {
        "hit_rate": float(hits.mean()),
        "ndcg": float((gained / ideal[there.loc[gained.index]]).mean()),
        "coverage": shown[item].nunique() / frame[item].nunique(),
    }
