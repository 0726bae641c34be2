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
# # Handwritten digits
#
# Which digit is it? Pictures of 8 by 8 pixels, and a small neural network that reads them.
#
# What it cannot know: who wrote. Some pictures of one hand are learned from and others judged by, so expect somewhat less
# of it on the hands of strangers.

# %% tags=["parameters"]
hidden = 32  # units of the hidden layer
epochs = 40
spec = ""

# %%
import numpy as np
from components import plots, trial
from sklearn.impute import SimpleImputer
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

t = trial.start("digits", spec)
t

# %% [markdown]
# ## What there is
#
# The first pictures to learn from.

# %%
first = t.train.head(16)
t.figure("pictures", plots.images([one.reshape(8, 8) for one in first["pixels"]], first["digit"].astype(str).tolist()))

# %% [markdown]
# ## Fit
#
# Ink from 0 to 1; a picture that is missing counts as the average one. This is part of the model that is saved, so it is
# the same when the model serves.

# %%
pre = make_pipeline(SimpleImputer(), MinMaxScaler(clip=True))
inputs, digit = pre.fit_transform(t.inputs(t.train)), t.train["digit"]
model = MLPClassifier((hidden,), alpha=1e-3, learning_rate_init=5e-3, batch_size=64, random_state=t.seed)

# %% [markdown]
# Epoch by epoch, with the loss on both sides: TensorBoard shows where learning turns into learning by heart.

# %%
for epoch in range(epochs):
    model.partial_fit(inputs, digit, classes=t.classes)
    valid = t.answers(pre, model, t.valid)
    t.metric("train_loss", model.loss_, epoch)
    t.metric("valid_accuracy", np.mean(valid.place == t.places(t.valid)), epoch)

# %% [markdown]
# ## How good is it?
#
# On the pictures that we choose by. The release page shows the held-out ones, and two baselines beside it.

# %%
right = t.places(t.valid)
t.figure("confusion", plots.confusion(right, valid))

# %% [markdown]
# The pictures that it reads wrong, the surest ones first: what was written, and what it takes it for.

# %%
wrong = np.flatnonzero(valid.place != right)
worst = wrong[np.argsort(-valid.probabilities[wrong].max(axis=1), kind="stable")][:16]
pictures = [t.valid["pixels"].iloc[row].reshape(8, 8) for row in worst]
t.figure("wrong", plots.images(pictures, [f"{right[row]}, taken for {valid.place[row]}" for row in worst]))

# %% [markdown]
# ## Keep it
#
# `save` turns both parts into ONNX, answers every validation row with both, and refuses a model whose ONNX differs.

# %%
t.save(pre=pre, model=model)
