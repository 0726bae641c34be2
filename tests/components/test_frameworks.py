"""Each framework from fit to prediction: fitted on prepared rows, saved, exported, and asked in the real Triton."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from components.answers import NUMBERS, answer_names
from components.export import export
from components.ledger import running_as
from components.model_inputs import to_tensors
from components.project import Features, Serve
from components.qualify import qualify
from components.records import Bundle, Candidate, Parameters, Prepared, Trial
from components.serving import take_down
from components.train import graphs_in
from components.trial import PREDICTIONS, TrialRun, TrialSpec
from components.workspace import Workspace
from tests.examples import SPLIT, commit_tables, parcels, prepare_as, split_paths

TOLERANCE = {"binary": 1e-5, "multiclass": 1e-5, "regression": 1e-5}
"""Of a probability, or as a share of a value: what each framework is held to here, and a project by default."""
TARGETS = {
    "binary": "late",
    "multiclass": "case when distance < 200 then 'near' when weight > 15 then 'far, heavy' else 'far, light' end",
    "regression": "3000 + distance * 2.5 + coalesce(weight, 0)",
}


def needs(package: str) -> Any:
    """Marks what is run where a framework that is an extra is installed."""
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is an extra")


def prepared_for(workspace: Workspace, task: str) -> Prepared:
    """The parcels with another target, and their numbers once as columns and once more as an array."""
    columns = "city, distance, weight"
    features = Features(sql=f"select id, sent, {TARGETS[task]} as goal, {columns} from parcels", row="id", target="goal", task=task)  # fmt: skip
    return prepare_as(workspace, commit_tables(workspace, {"parcels": [parcels()]}), features=features, split=SPLIT)


def trial_on(workspace: Workspace, prepared: Prepared, folder: Path) -> TrialRun:
    folder.mkdir(exist_ok=True)
    return TrialRun(
        TrialSpec(
            prepared=prepared,
            splits=split_paths(workspace, prepared),
            folder=str(folder),
            tensorboard=str(folder.with_name("board")),
            parameters={},
            seed=0,
        )
    )


def candidate_from(workspace: Workspace, run: TrialRun, metric: str = "", key: str = "f") -> Candidate:
    """What the trial saved, as the winner of a search of one."""
    names = [path.name for path in Path(run.spec.folder).iterdir() if path.suffix in {".onnx", ".zip"}]
    with running_as(key * 64), workspace.output() as out:
        for name in (*names, PREDICTIONS):
            (out.folder / name).write_bytes((Path(run.spec.folder) / name).read_bytes())
        files = out.publish()
    page = files[PREDICTIONS]
    trial = Trial(
        parameters=Parameters(values={}), metrics={}, graphs=graphs_in(files), predictions=page, run_id="", notebook=page,
        page=page, plots=(), seconds=0.0,
    )  # fmt: skip
    return Candidate(trial=trial, metric=metric, value=0.0, trials=(), run_id="")


def bundle_of(workspace: Workspace, run: TrialRun, serve: Serve) -> Bundle:
    """What the trial saved, as a bundle that qualified in the real Triton."""
    with running_as("e" * 64):
        bundle = export("small", workspace.name, candidate_from(workspace, run), run.spec.prepared, serve)
    qualify(workspace.name, bundle, serve)
    return bundle


def in_triton(workspace: Workspace, run: TrialRun, tolerance: float) -> tuple[dict[str, Any], Bundle]:
    """The answers of the real Triton to every row of the test split."""
    bundle = bundle_of(workspace, run, Serve(golden=48, tolerance=tolerance, p99_ms=5000))
    test = pq.read_table(run.spec.splits["test"])
    answers = workspace.server.infer(bundle.model, to_tensors(test, run.spec.prepared.features))
    take_down(workspace.server, bundle.model)
    return answers, bundle


def pre_of(run: TrialRun, *, scale: bool = True) -> Any:
    """One-hot texts and imputed numbers; scaled where they are not cut by trees, which a rounding might send elsewhere."""
    return make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["city"]),
        (make_pipeline(SimpleImputer(), *([StandardScaler()] if scale else [])), ["distance", "weight"]),
    ).fit(run.inputs(run.train))


# --- what is fitted ---------------------------------------------------------------------------------------------------

TREES: dict[str, Any] = {"n_estimators": 30, "n_jobs": 1}


def sklearn_linear(run: TrialRun, rows: Any, task: str) -> Any:
    return (Ridge() if task == "regression" else LogisticRegression(max_iter=500)).fit(rows, run.train["goal"])


def sklearn_forest(run: TrialRun, rows: Any, task: str) -> Any:
    kind = RandomForestRegressor if task == "regression" else RandomForestClassifier
    return kind(**TREES, max_depth=8, random_state=0).fit(rows, run.train["goal"])


def sklearn_network(run: TrialRun, rows: Any, task: str) -> Any:
    kind = MLPRegressor if task == "regression" else MLPClassifier
    return kind(hidden_layer_sizes=(8,), max_iter=60, random_state=0).fit(rows, run.train["goal"])


def lightgbm_trees(run: TrialRun, rows: Any, task: str) -> Any:
    kind = lightgbm.LGBMRegressor if task == "regression" else lightgbm.LGBMClassifier
    return kind(**TREES, deterministic=True, force_row_wise=True, verbose=-1).fit(rows, run.train["goal"])


def xgboost_trees(run: TrialRun, rows: Any, task: str) -> Any:
    import xgboost

    kind = xgboost.XGBRegressor if task == "regression" else xgboost.XGBClassifier
    return kind(**TREES, max_depth=5).fit(rows, run.places(run.train))


def torch_network(run: TrialRun, rows: Any, task: str) -> Any:
    import torch

    torch.manual_seed(0)
    inputs = torch.from_numpy(np.asarray(rows, dtype=np.float32))
    target = torch.from_numpy(run.places(run.train).astype(np.float32 if task == "regression" else np.int64))
    net = torch.nn.Sequential(
        torch.nn.Linear(inputs.shape[1], 8), torch.nn.ReLU(), torch.nn.Linear(8, max(1, len(run.classes)))
    )
    loss = torch.nn.MSELoss() if task == "regression" else torch.nn.CrossEntropyLoss()
    steps = torch.optim.Adam(net.parameters(), 0.05)
    for _ in range(60):
        steps.zero_grad()
        scores = net(inputs)
        loss(scores[:, 0] / 1000 if task == "regression" else scores, target / 1000 if task == "regression" else target).backward()  # fmt: skip
        steps.step()
    return net if task == "regression" else torch.nn.Sequential(net, torch.nn.Softmax(dim=1))


def keras_network(run: TrialRun, rows: Any, task: str) -> Any:
    import keras

    keras.utils.set_random_seed(0)
    inputs, target = np.asarray(rows, dtype=np.float32), run.places(run.train)
    last = keras.layers.Dense(max(1, len(run.classes)), activation=None if task == "regression" else "softmax")
    net = keras.Sequential([keras.layers.Input((inputs.shape[1],)), keras.layers.Dense(8, activation="relu"), last])
    net.compile("adam", "mse" if task == "regression" else "sparse_categorical_crossentropy")
    net.fit(inputs, target, epochs=3, verbose=0)
    return net


def saved_model(run: TrialRun, rows: Any, task: str) -> Any:
    """A SavedModel of plain TensorFlow, as a folder: with a label beside the probabilities."""
    import tensorflow as tf

    tf.random.set_seed(0)
    inputs, places = np.asarray(rows, dtype=np.float32), run.places(run.train)
    width, classes = inputs.shape[1], max(1, len(run.classes))
    inner, outer = tf.Variable(tf.random.normal([width, 8]) / 3), tf.Variable(tf.random.normal([8, classes]) / 3)

    def scores(given: Any) -> Any:
        return tf.nn.relu(given @ inner) @ outer

    def loss() -> Any:
        found = scores(inputs)
        if task == "regression":
            return tf.reduce_mean((found[:, 0] / 1000 - places.astype(np.float32) / 1000) ** 2)
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(places.astype(np.int64), found))

    for _ in range(60):
        with tf.GradientTape() as tape:
            value = loss()
        for variable, slope in zip((inner, outer), tape.gradient(value, (inner, outer)), strict=True):
            variable.assign_sub(0.1 * slope)

    def answer(given: Any) -> Any:
        found = scores(given)
        if task == "regression":
            return {"value": found}
        return {"probabilities": tf.nn.softmax(found), "label": tf.argmax(found, axis=1)}

    module = tf.Module()
    module.variables_of_it = [inner, outer]
    asked = tf.TensorSpec([None, width], tf.float32, name="given")
    folder = Path(run.spec.folder).with_name("saved")
    tf.saved_model.save(module, folder, signatures=tf.function(answer, input_signature=[asked]))
    return folder


def onnx_file(run: TrialRun, rows: Any, task: str) -> Any:
    """A file that somebody else's converter wrote, with names of its own and a label beside the probabilities."""
    from skl2onnx import to_onnx

    model = sklearn_linear(run, rows, task)
    path = Path(run.spec.folder).with_name("theirs.onnx")
    options = None if task == "regression" else {"zipmap": False}
    made = to_onnx(model, np.asarray(rows[:1], dtype=np.float32), options=options, target_opset=17)
    path.write_bytes(made.SerializeToString())
    return path


FRAMEWORKS = [
    sklearn_linear,
    sklearn_forest,
    sklearn_network,
    lightgbm_trees,
    pytest.param(xgboost_trees, marks=needs("xgboost")),
    pytest.param(torch_network, marks=needs("torch")),
    pytest.param(keras_network, marks=needs("keras")),
    pytest.param(saved_model, marks=needs("tensorflow")),
    onnx_file,
]


@pytest.mark.slow
@pytest.mark.parametrize("task", TARGETS)
@pytest.mark.parametrize("fit", FRAMEWORKS)
def test_from_fit_to_prediction(served: Workspace, tmp_path: Path, fit: Callable[..., Any], task: str) -> None:
    """What Triton answers is what the framework itself answers, within the tolerance, on every row of the test split."""
    prepared = prepared_for(served, task)
    run = trial_on(served, prepared, tmp_path / "out")
    pre = pre_of(run, scale=fit not in {sklearn_forest, lightgbm_trees, xgboost_trees})
    model = fit(run, np.asarray(pre.transform(run.inputs(run.train)), dtype=np.float32), task)
    run.save(pre=pre, model=model)
    answers, _ = in_triton(served, run, TOLERANCE[task])
    own = run.answers(pre, model, run.test)
    assert set(answers) == set(answer_names(task))
    scale = np.maximum(1, np.abs(own.numbers())) if task == "regression" else 1
    assert np.max(np.abs(answers[NUMBERS[task]] - own.numbers()) / scale) <= TOLERANCE[task]
    if task != "regression":
        labels = own.columns()["label"]
        assert np.mean(answers["label"].ravel() == np.asarray(labels)) >= 0.99
        assert len(set(np.asarray(labels).tolist())) > 1


@pytest.mark.slow
@needs("keras")
def test_a_file_of_keras(served: Workspace, tmp_path: Path) -> None:
    """A `.keras` file in a model's place is the model in it."""
    run = trial_on(served, prepared_for(served, "multiclass"), tmp_path / "out")
    pre = pre_of(run)
    net = keras_network(run, pre.transform(run.inputs(run.train)), "multiclass")
    net.save(tmp_path / "net.keras")
    run.save(pre=pre, model=tmp_path / "net.keras")
    answers, _ = in_triton(served, run, TOLERANCE["multiclass"])
    own = run.answers(pre, net, run.test).numbers()
    np.testing.assert_allclose(answers[NUMBERS["multiclass"]], own, atol=TOLERANCE["multiclass"])


# --- joined in one graph ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("task", TARGETS)
def test_fused_is_the_ensemble(served: Workspace, tmp_path: Path, task: str) -> None:
    """One graph in place of three answers the same, is one model behind the ensemble's name, and costs less."""
    run = trial_on(served, prepared_for(served, task), tmp_path / "out")
    pre = pre_of(run, scale=False)
    run.save(pre=pre, model=lightgbm_trees(run, pre.transform(run.inputs(run.train)), task))
    test = to_tensors(pq.read_table(run.spec.splits["test"]), run.spec.prepared.features)
    row = {name: array[:1] for name, array in test.items()}
    found: dict[str, Any] = {}
    for join in ("ensemble", "fused"):
        bundle = bundle_of(served, run, Serve(golden=48, join=join, p99_ms=5000))
        found[join] = (served.server.infer(bundle.model, test), bundle, served.server.parts(bundle.model))
    assert len(found["fused"][2]) == 1
    assert len(found["ensemble"][2]) == 3
    for name in answer_names(task):
        np.testing.assert_array_equal(found["fused"][0][name], found["ensemble"][0][name])
    times = medians(served, {join: bundle.model for join, (_, bundle, _) in found.items()}, row)
    assert times["fused"] < times["ensemble"]
    for _, bundle, _ in found.values():
        take_down(served.server, bundle.model)


def medians(workspace: Workspace, models: dict[str, str], row: dict[str, Any]) -> dict[str, float]:
    """The median time of one row by each model, in seconds; asked in turns, so that a busy machine slows down all."""
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(100):
        for name, model in models.items():
            begun = time.perf_counter()
            workspace.server.infer(model, row)
            times[name].append(time.perf_counter() - begun)
    return {name: float(np.median(taken)) for name, taken in times.items()}
