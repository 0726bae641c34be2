# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What a household buys next
#
# Which products will a household buy within two weeks? Candidates are its own products of twelve weeks and the most
# popular ones; the model ranks them. A night's ranking is what `trilha recommend` and the gateway read.
#
# Most of what people buy they have bought before, so the bar is high for anything that is not a habit. Popularity, the
# same ten products for everybody, is the peer that a ranking has to beat.

# %% tags=["parameters"]
trees = 150
leaves = 31
spec = ""

# %%
import numpy as np
from components import plots, ranking, trial
from lightgbm import LGBMClassifier, record_evaluation
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OrdinalEncoder

t = trial.start("retail", spec)
t

# %% [markdown]
# ## The rows
#
# A household has about sixty candidates a day, and days are four weeks apart. We learn from June to September, choose by
# October, and hold November and December out.

# %%
again = t.train.groupby(np.minimum(t.train.times, 8).astype(int))[t.target].mean()
t.figure("bought_again", plots.bars("bought within two weeks, by baskets before", {f"{count}": share for count, share in again.items()}))

# %% [markdown]
# ## The model

# %%
texts = [name for name in t.features if t.train[name].dtype == object]
numbers = [name for name in t.features if name not in texts]
pre = make_column_transformer(
    (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, dtype=np.float32), texts),
    (SimpleImputer(strategy="constant", fill_value=-1), numbers),
    verbose_feature_names_out=False,
)
inputs = pre.fit_transform(t.train[t.features])

# %%
curve = {}
model = LGBMClassifier(
    n_estimators=trees,
    num_leaves=leaves,
    min_child_samples=200,
    random_state=t.seed,
    n_jobs=1,
    deterministic=True,
    force_row_wise=True,
    verbose=-1,
)
model.fit(
    inputs,
    t.train[t.target],
    eval_X=pre.transform(t.valid[t.features]),
    eval_y=t.valid[t.target],
    eval_names=["valid"],
    callbacks=[record_evaluation(curve)],
)
for step, value in enumerate(curve["valid"]["binary_logloss"], start=1):
    t.metric("valid_log_loss", value, step)

# %% [markdown]
# ## How good is the ranking?
#
# Of the ten that each household is shown: does it buy any (hit rate), how far up are those that it buys (NDCG), and how
# much of the shop is shown to anybody (coverage)? Measured on October, which the model has not seen.

# %%
roles = {"by": "household_id", "item": "product_id", "hit": t.target, "wanted": "wanted"}
answers = t.answers(pre, model, t.valid)
ranked = ranking.measured(t.valid, answers.probability, **roles)
popular = ranking.measured(t.valid, t.valid.buyers_lately.to_numpy(), **roles)
habit = ranking.measured(t.valid, t.valid.times.to_numpy() + t.valid.times_lately.to_numpy() / 100, **roles)
for name in ranked:
    t.metric(f"{name}_10", ranked[name])
    t.metric(f"popular_{name}_10", popular[name])
    t.metric(f"habit_{name}_10", habit[name])
t.figure("ranking", plots.bars("of ten for each household, NDCG", {"ranked": ranked["ndcg"], "most frequent": habit["ndcg"], "popular": popular["ndcg"]}))

# %%
t.figure("calibration", plots.calibration(t.valid[t.target].to_numpy(), {"lightgbm": answers}))

# %% [markdown]
# ## Keep it

# %%
t.save(pre=pre, model=model)
