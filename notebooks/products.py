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
# # Products by department
#
# Which department of a supermarket sells it? We read the words of its label: a vocabulary turns words into ids, an
# embedding table turns ids into vectors, and a classifier reads their mean.
#
# The labels that it is judged by are of kinds that it has never read, and four in ten of their words are unknown to it.
# So expect a model that knows its way about the shop, and not one that knows the stock.

# %% tags=["parameters"]
width = 16  # numbers in the vector of a word
length = 8  # words of a label that are read
spec = ""

# %%
import numpy as np
from components import plots, trial
from components.servables import Embedding, Vocabulary
from sklearn.linear_model import LogisticRegression

t = trial.start("products", spec)
t

# %% [markdown]
# ## A vocabulary
#
# Words that occur once are left out: they would teach their vectors nothing but one label. They are unknown words then, as
# new ones are when the model serves, and the model learns what an unknown word means.

# %%
texts = t.train["words"]
seen = texts.str.lower().str.split().explode().value_counts()
vocabulary = Vocabulary.of(texts, size=int((seen > 1).sum()), length=length)
ids = vocabulary(texts)
print(f"{len(vocabulary.words):,} words; {np.mean(vocabulary(t.valid['words'])[:, :3] == 1):.0%} of the first words on valid are new")

# %% [markdown]
# ## An embedding table
#
# Vectors that tell departments apart: a linear model of bags of words gives each word a weight for each department, and
# the directions in which those weights differ most are the vectors.

# %%
there = ids > 0
bags = np.zeros((len(ids), len(vocabulary.words) + 2))
np.add.at(bags, (np.nonzero(there)[0], ids[there]), 1 / np.maximum(1, there.sum(axis=1))[np.nonzero(there)[0]])
weights = LogisticRegression(C=30, max_iter=500).fit(bags, t.train["department"]).coef_.T
directions, strength, _ = np.linalg.svd(weights, full_matrices=False)
embedding = Embedding((directions * strength)[:, :width].astype(np.float32))

# %% [markdown]
# ## A classifier
#
# Both are part of the model that is saved, so that they are the same when it serves.

# %%
pre = [vocabulary, embedding]
model = LogisticRegression(C=10, max_iter=500).fit(embedding(ids), t.train["department"])
valid, right = t.answers(pre, model, t.valid), t.places(t.valid)
t.metric("valid_accuracy", np.mean(valid.place == right))
t.metric("words", len(vocabulary.words))

# %% [markdown]
# ## How good is it?
#
# On the labels that we choose by. The release page shows the held-out ones, and two baselines beside it.

# %%
t.figure("confusion", plots.confusion(right, valid))

# %%
found = {name: float(np.mean(valid.place[right == place] == place)) for place, name in enumerate(t.classes)}
t.figure("found", plots.bars("share of each department that is found", dict(sorted(found.items(), key=lambda one: -one[1]))))

# %% [markdown]
# ## Keep it
#
# `save` makes one ONNX graph of vocabulary and table, one of the classifier, and compares their answers with these here.

# %%
t.save(pre=pre, model=model)
