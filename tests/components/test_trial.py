from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from components import trial
from components.adapters.onnx_graphs import run_graphs
from components.config import load_project
from components.errors import ConfigError, GateError, NotFoundError
from components.ledger import perform
from components.metrics import Answers, all_metrics
from components.model_inputs import to_tensors
from components.prepare import prepare
from components.project import Features
from components.records import Prepared
from components.trial import GRAPHS, PREDICTIONS, RESULT, TrialResult, TrialRun, TrialSpec
from components.workspace import Workspace, open_workspace
from tests.components.test_frameworks import pre_of, prepared_for, trial_on
from tests.examples import FEATURES, SPLIT, commit_tables, parcels, prepare_as, prepare_parcels, split_paths


@pytest.fixture
def run(workspace: Workspace, tmp_path: Path) -> TrialRun:
    """A trial on the parcels, as the train step starts it."""
    prepared = prepare_parcels(workspace)
    (tmp_path / "out").mkdir()
    spec = TrialSpec(
        prepared=prepared,
        splits=split_paths(workspace, prepared),
        folder=str(tmp_path / "out"),
        tensorboard=str(tmp_path / "board"),
        parameters={"strength": 1.0},
        seed=7,
    )
    (tmp_path / "spec.json").write_text(spec.model_dump_json())
    return trial.start("small", str(tmp_path / "spec.json"))


def fitted(run: TrialRun, model: Any, encoder: Any = None, number: Any = None) -> tuple[Any, Any]:
    pre = make_column_transformer(
        (encoder or OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["city"]),
        (number or make_pipeline(SimpleImputer(), StandardScaler()), ["distance", "weight"]),
    )
    return pre, model.fit(pre.fit_transform(run.train[run.features]), run.train[run.target])


def graphs(run: TrialRun) -> list[Path]:
    return [Path(run.spec.folder) / name for name in GRAPHS]


def test_splits(run: TrialRun) -> None:
    """A notebook finds its rows, its features as the model will see them, and the target."""
    assert len(run.train) == run.spec.prepared.train.rows
    assert run.features == ["city", "distance", "weight"]
    assert run.train["weight"].dtype == np.float32
    assert run.train["weight"].isna().any()
    assert set(run.train[run.target]) == {0, 1}
    assert run.seed == 7


def test_save(run: TrialRun) -> None:
    """What is saved are three graphs, the framework's own answers on test, and its metrics on valid."""
    pre, model = fitted(run, LogisticRegression())
    returned = run.save(pre=pre, model=model, threshold=0.4)
    folder = Path(run.spec.folder)
    own = run.answers(pre, model, run.valid, 0.4)
    expected = all_metrics(run.valid[run.target].to_numpy(), own)
    assert returned == TrialResult.model_validate_json((folder / RESULT).read_bytes()).metrics == expected
    answers = pq.read_table(folder / PREDICTIONS)
    assert answers.column_names == ["row", "target", "probability", "label"]
    assert answers["row"].to_pylist() == run.test["id"].tolist()
    assert answers["target"].to_pylist() == run.test["late"].tolist()
    probability = model.predict_proba(pre.transform(run.test[run.features]))[:, 1]
    np.testing.assert_array_equal(answers["probability"].to_numpy(), probability)
    np.testing.assert_array_equal(answers["label"].to_numpy(), probability >= 0.4)


def test_graphs_answer_raw_rows(run: TrialRun) -> None:
    """The saved graphs answer raw rows as the framework did."""
    run.save(**dict(zip(("pre", "model"), fitted(run, LogisticRegression()), strict=True)))
    test = pq.read_table(run.spec.splits["test"])
    served = Answers.of(run_graphs(graphs(run), to_tensors(test, run.spec.prepared.features)))
    own = Answers.of(pq.read_table(Path(run.spec.folder) / PREDICTIONS))
    np.testing.assert_allclose(served.probability, own.probability, atol=trial.TOLERANCE)
    np.testing.assert_array_equal(served.label, own.label)


def test_wrong_conversion(run: TrialRun) -> None:
    """A model that its converter turns into another function is refused, with the worst row, and not saved.

    Here: the cuts of a forest that learned from missing values, which ONNX has no place for.
    """
    pre, model = fitted(run, RandomForestClassifier(20, random_state=0), number="passthrough")
    with pytest.raises(GateError, match=r"as ONNX the model answers .* rows are off") as caught:
        run.save(pre=pre, model=model)
    assert "weight" in caught.value.details
    assert not (Path(run.spec.folder) / RESULT).exists()


@pytest.mark.parametrize(
    ("encoder", "number", "words"),
    [
        (OneHotEncoder(sparse_output=False), None, "unknown categories"),
        (None, StandardScaler(), "NaN"),
        (OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=2, sparse_output=False), None, "pre.onnx"),
    ],
)
def test_gaps(run: TrialRun, encoder: Any, number: Any, words: str) -> None:
    """A model that cannot answer a row with a missing value or an unheard-of text is refused before it serves.

    All of these answer every row of the data: it takes rows that the data does not have.
    """
    run.__dict__["train"] = run.train.dropna()
    run.__dict__["valid"] = run.valid.dropna()
    run.__dict__["test"] = run.test.dropna()
    pre, model = fitted(run, LogisticRegression(), encoder, number)
    with pytest.raises(GateError, match=words):
        run.save(pre=pre, model=model)


def test_curve_and_figure(run: TrialRun) -> None:
    """Curves and figures are kept for MLflow, and written for TensorBoard."""
    for step in range(3):
        run.metric("loss", 1 / (step + 1), step)
    figure = Figure()
    figure.subplots().plot([1, 2])
    run.figure("line", figure)
    run.save(**dict(zip(("pre", "model"), fitted(run, LogisticRegression()), strict=True)))
    folder = Path(run.spec.folder)
    curve = json.loads((folder / RESULT).read_text())["curve"]
    assert [(point["name"], point["step"]) for point in curve] == [("loss", 0), ("loss", 1), ("loss", 2)]
    assert (folder / "plots" / "line.png").read_bytes().startswith(b"\x89PNG")
    assert list(Path(run.spec.tensorboard).iterdir())


def test_save_again(run: TrialRun) -> None:
    """In JupyterLab a cell is run again: the later model replaces the earlier one."""
    first = fitted(run, LogisticRegression(C=1e-4))
    second = fitted(run, LogisticRegression())
    one = run.save(pre=first[0], model=first[1])
    run.metric("loss", 1.0)
    two = run.save(pre=second[0], model=second[1])
    result = TrialResult.model_validate_json((Path(run.spec.folder) / RESULT).read_bytes())
    assert result.metrics == two != one


def test_interactive(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a spec the notebook opens the newest prepared data of its project, and a folder to play in."""
    monkeypatch.setenv("TRILHA_PROFILE", "test")
    workspace = open_workspace("test")
    made: list[Prepared] = []
    for count in (1_500, 2_000):
        outcome = perform(
            prepare,
            {
                "project": "small",
                "profile": "test",
                "commit": commit_tables(workspace, {"parcels": [parcels(count)]}),
                "features": FEATURES,
                "split": SPLIT,
                "seed": 0,
            },
            ledger=workspace.ledger,
            lock=workspace.lock,
        )
        assert isinstance(outcome.record, Prepared)
        made.append(outcome.record)
    run = trial.start("small")
    assert run.spec.prepared == made[1]
    assert len(run.train) == made[1].train.rows
    assert run.seed == load_project("small").file.seed
    assert run.spec.folder in repr(run)
    workspace.artifacts.local(made[1].test.file).unlink()
    assert trial.start("small").spec.prepared == made[0]


def test_nothing_prepared(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without prepared data the notebook says which command makes it."""
    monkeypatch.setenv("TRILHA_PROFILE", "test")
    with pytest.raises(NotFoundError, match="trilha run small --profile test --until prepare"):
        trial.start("small")


def test_what_notebooks_call_is_part_of_train() -> None:
    """An edit to how models are saved or converted is an edit to the train step, which only hands a spec over."""
    from components.fingerprint import fingerprint
    from components.train import train

    symbols = {"components.trial:TrialRun", "components.adapters.onnx_graphs:write_graphs", "components.metrics:_auc"}
    assert symbols <= set(fingerprint(train))


# --- parts of several kinds -------------------------------------------------------------------------------------------


def test_an_array_is_a_matrix(workspace: Workspace, tmp_path: Path) -> None:
    """A model of one array is fitted on its matrix, with pre-processing or, where no number is missing, without."""
    sql = "select id, late, sent, [distance, distance * distance, 1] as numbers from parcels"
    features = Features(sql=sql, row="id", target="late")
    prepared = prepare_as(workspace, commit_tables(workspace, {"parcels": [parcels()]}), features=features)
    run = trial_on(workspace, prepared, tmp_path / "out")
    rows = run.inputs(run.train)
    assert rows.shape == (len(run.train), 3)
    pre = make_pipeline(SimpleImputer(), StandardScaler()).fit(rows)
    metrics = run.save(pre=pre, model=LogisticRegression().fit(pre.transform(rows), run.train["late"]))
    assert metrics["auc"] > 0.6
    with pytest.raises(GateError, match="missing value"):  # which a logistic regression alone does not take
        run.save(pre=None, model=LogisticRegression().fit(rows, run.train["late"]))


def test_text_needs_a_part(run: TrialRun) -> None:
    """Without pre-processing numbers go in as they are; a text cannot, and is named."""
    _, model = fitted(run, LogisticRegression())
    with pytest.raises(ConfigError, match="no `pre`, and city is text"):
        run.save(pre=None, model=model)


def test_parts_in_a_list(run: TrialRun) -> None:
    """Parts in a list follow each other and become one graph, before the model and behind it."""
    calibrated = multiplied_by([[0.9, 0.1], [0.1, 0.9]])
    pre, model = fitted(run, LogisticRegression())
    plain = run.save(pre=pre, model=model)
    softer = run.save(pre=[pre], model=model, post=[calibrated, calibrated])
    assert softer["auc"] == pytest.approx(plain["auc"], abs=1e-6)
    assert softer["log_loss"] != pytest.approx(plain["log_loss"], abs=1e-3)
    assert sorted(path.name for path in Path(run.spec.folder).glob("*.onnx")) == sorted(GRAPHS)


def multiplied_by(matrix: list[list[float]]) -> Path:
    """An ONNX file that multiplies by a matrix."""
    from onnx import TensorProto, helper

    from components.adapters.onnx_build import made, tensor

    ends = [tensor(name, TensorProto.FLOAT, 2) for name in ("in", "out")]
    constant = helper.make_tensor("by", TensorProto.FLOAT, [2, 2], np.ravel(matrix).tolist())
    path = Path(tempfile.mkdtemp()) / "by.onnx"
    path.write_bytes(
        made(
            "by", [helper.make_node("MatMul", ["in", "by"], ["out"])], ends[:1], ends[1:], [constant]
        ).SerializeToString()
    )
    return path


def test_a_classifier_is_no_regression(workspace: Workspace, tmp_path: Path) -> None:
    """A classifier where a value is asked for, and a model of other classes, are refused."""
    run = trial_on(workspace, prepared_for(workspace, "regression"), tmp_path / "out")
    with pytest.raises(ConfigError, match="LogisticRegression is a classifier; accepted: a regressor"):
        run.save(pre=pre_of(run), model=LogisticRegression().fit([[0], [1]], [0, 1]))
    run = trial_on(workspace, prepared_for(workspace, "multiclass"), tmp_path / "out")
    with pytest.raises(
        ConfigError, match="knows the classes 0, 1; accepted: a fitted classifier of far, heavy, far, light, near"
    ):
        run.save(pre=pre_of(run), model=LogisticRegression().fit([[0], [1]], [0, 1]))
