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
# # Late flights
#
# Will a flight from New York arrive more than 15 minutes late? We answer with what is known before it leaves: its
# schedule and route, its aircraft, and the weather at the hour of departure.
#
# Much of what makes a flight late is not known then: the state of the airspace, the crew, the aircraft's previous leg.
# So expect a model that ranks flights better than chance, and not one that knows.

# %% tags=["parameters"]
family = "lightgbm"  # or "forest"
trees = 100
leaves = 31
spec = ""

# %%
import numpy as np
from components import plots, trial
from lightgbm import LGBMClassifier, record_evaluation
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OrdinalEncoder

t = trial.start("flights", spec)
t

# %% [markdown]
# ## The rows
#
# We learn from January to July, choose by August and September, and hold October to December out. The split is by time
# because that is how the model will be used; with a random one, flights of the same stormy day would lie on both sides.
#
# Delays pile up over the day. This is the strongest signal there is.

# %%
late_by_hour = t.train.groupby((t.train.departs // 60).astype(int))[t.target].mean()
t.figure("late_by_hour", plots.bars("share of late flights by hour", {f"{hour}:00": share for hour, share in late_by_hour.items()}))

# %% [markdown]
# The share of late flights moves with the season, from training to validation too. A model's ranking survives that
# better than its probabilities do: mind the calibration plot below.

# %%
{"train": round(t.train[t.target].mean(), 3), "valid": round(t.valid[t.target].mean(), 3)}

# %% [markdown]
# ## The model
#
# Trees need little preparation: texts become numbers, and what is missing becomes a number far from all others, so that
# a single cut tells it apart. Aircraft and weather are missing for some flights, and will be when the model serves.

# %%
texts = [name for name in t.features if t.train[name].dtype == object]
numbers = [name for name in t.features if name not in texts]
pre = make_column_transformer(
    (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, dtype=np.float32), texts),
    (SimpleImputer(strategy="constant", fill_value=-999), numbers),
    verbose_feature_names_out=False,
)
inputs = pre.fit_transform(t.train[t.features])
late = t.train[t.target]

# %% [markdown]
# One thread and a seed: the same rows make the same model, byte by byte.

# %%
if family == "lightgbm":
    curve = {}
    model = LGBMClassifier(
        n_estimators=trees,
        num_leaves=leaves,
        random_state=t.seed,
        n_jobs=1,
        deterministic=True,
        force_row_wise=True,
        verbose=-1,
    )
    model.fit(
        inputs,
        late,
        eval_X=pre.transform(t.valid[t.features]),
        eval_y=t.valid[t.target],
        eval_names=["valid"],
        callbacks=[record_evaluation(curve)],
    )
    for step, value in enumerate(curve["valid"]["binary_logloss"], start=1):
        t.metric("valid_log_loss", value, step)
elif family == "forest":
    model = RandomForestClassifier(
        n_estimators=trees,
        max_leaf_nodes=leaves,
        min_samples_leaf=20,
        max_samples=0.3,
        random_state=t.seed,
        n_jobs=1,
    )
    model.fit(inputs, late)
else:
    raise ValueError(f"family {family!r}; accepted: lightgbm, forest")

# %% [markdown]
# ## How good is it?
#
# On the months that we choose by. The release page shows the held-out ones, and two baselines beside it.

# %%
answers = t.answers(pre, model, t.valid)
t.figure("roc", plots.roc(t.valid[t.target].to_numpy(), {family: answers}))

# %%
t.figure("calibration", plots.calibration(t.valid[t.target].to_numpy(), {family: answers}))

# %% [markdown]
# What the trees cut by. It says what the model uses, not what makes flights late.

# %%
share = model.feature_importances_ / model.feature_importances_.sum()
ranked = sorted(zip(pre.get_feature_names_out(), share, strict=True), key=lambda item: -item[1])
t.figure("importance", plots.bars("importance", dict(ranked)))

# %% [markdown]
# ## Keep it
#
# `save` turns both parts into ONNX, answers every validation row with both, and refuses a model whose ONNX differs.

# %%
t.save(pre=pre, model=model)
