# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Late parcels: a logistic regression

# %% tags=["parameters"]
strength = 1.0
spec = ""

# %%
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from components import trial

t = trial.start("small", spec)
t

# %%
pre = make_column_transformer(
    (OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["city"]),
    (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), ["distance", "weight"]),
)
inputs = pre.fit_transform(t.train[t.features])
model = LogisticRegression(C=strength).fit(inputs, t.train[t.target])
t.metric("train_accuracy", model.score(inputs, t.train[t.target]))

# %%
t.save(pre=pre, model=model)
