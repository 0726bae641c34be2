"""Every task and an array, asked in every way: the framework's own answers, under the names that `trilha predict` gives."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tritonclient.http
import yaml
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from components.answers import ClassAnswers, ValueAnswers
from components.gateway.problems import Problem
from components.gateway.signature import Signature
from components.model_inputs import to_tensors
from components.predict import predict
from components.project import Features, Serve
from components.records import Release
from components.releases import write
from components.serving import serve
from components.workspace import Workspace
from tests.components.gateway.conftest import PROJECT, Running, Start
from tests.components.gateway.test_limits import set_online
from tests.components.gateway.test_log import counted, rows
from tests.components.test_frameworks import TARGETS, bundle_of, sklearn_linear, trial_on
from tests.examples import SPLIT, commit_tables, parcels, prepare_as

pytestmark = pytest.mark.xdist_group("gateway")

MODEL = f"/v1/models/{PROJECT}"
INFER = f"/v2/models/{PROJECT}/infer"
CLASSES = ["far, heavy", "far, light", "near"]
GOALS = {"numbered": ("multiclass", "cast(distance / 200 as integer)"), "multiclass": ("multiclass", TARGETS["multiclass"]), "regression": ("regression", TARGETS["regression"])}  # fmt: skip
"""Texts as classes, whole numbers as classes, and a number."""


@dataclass(frozen=True)
class Made:
    """A release, some rows of its test split, and the framework's own answers to them."""

    release: Release
    table: pa.Table
    own: ClassAnswers | ValueAnswers

    @property
    def rows(self) -> list[dict[str, Any]]:
        return self.table.to_pylist()

    @property
    def said(self) -> list[dict[str, Any]]:
        """The answers, as `trilha predict` words them."""
        if isinstance(self.own, ValueAnswers):
            return [{"value": pytest.approx(value, rel=1e-5)} for value in self.own.value.tolist()]
        names = [str(one) for one in self.own.classes]
        return [
            {"label": label, "probabilities": pytest.approx(dict(zip(names, row, strict=True)), abs=1e-5)}
            for label, row in zip(self.own.columns()["label"], self.own.probabilities.tolist(), strict=True)
        ]


@pytest.fixture(params=GOALS)
def made(request: pytest.FixtureRequest, served: Workspace, behind: Release, tmp_path: Path) -> Made:
    """The second release of the project, of another task than the first; its one feature is an array. Tests ask for it
    before the gateway, which then never answers for the first.
    """
    return make(served, behind, tmp_path, request.param)


@pytest.fixture
def texts(served: Workspace, behind: Release, tmp_path: Path) -> Made:
    """The one whose classes are texts."""
    return make(served, behind, tmp_path, "multiclass")


@pytest.fixture
def values(served: Workspace, behind: Release, tmp_path: Path) -> Made:
    """The one without classes."""
    return make(served, behind, tmp_path, "regression")


def make(workspace: Workspace, first: Release, folder: Path, kind: str) -> Made:
    task, goal = GOALS[kind]
    sql = f"select id, sent, {goal} as goal, [distance, weight, distance * weight] as numbers from parcels"
    features = Features(sql=sql, row="id", target="goal", task=task)
    prepared = prepare_as(workspace, commit_tables(workspace, {"parcels": [parcels()]}), features=features, split=SPLIT)
    run = trial_on(workspace, prepared, folder / "out")
    pre = make_pipeline(SimpleImputer(), StandardScaler()).fit(run.inputs(run.train))
    model = sklearn_linear(run, pre.transform(run.inputs(run.train)), task)
    run.save(pre=pre, model=model)
    bundle = bundle_of(workspace, run, Serve(golden=16, p99_ms=5000))

    def manifest(number: int) -> Release:
        changes = {"number": number, "prepared": prepared, "bundle": bundle, "digest": bundle.digest, "key": "d" * 64}
        return first.model_copy(update=changes)

    release = write(workspace.store, PROJECT, "d" * 64, manifest)
    serve(workspace, bundle, PROJECT)
    table = pq.read_table(run.spec.splits["test"], columns=run.features).slice(0, 9)
    own = run.answers(pre, model, run.test.head(9))
    assert isinstance(own, ClassAnswers | ValueAnswers)
    return Made(release, table, own)


def post(gateway: Running, path: str, body: Any, status: int = 200) -> Any:
    answer = gateway.client.post(path, json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_typed(made: Made, gateway: Running) -> None:
    """The framework's own answers, and what `trilha predict` says, name for name."""
    told = gateway.predict(*made.rows).json()
    assert told["answers"] == made.said
    assert told["release"] == made.release.number == 2
    asked = predict(gateway.workspace, made.release, made.rows)
    assert told["answers"] == [one.model_dump() for one in asked]


def test_v2(made: Made, gateway: Running) -> None:
    """Triton's own client gets the tensors that the metadata tells of; an array of another width is refused."""
    client = tritonclient.http.InferenceServerClient(gateway.client.base_url.netloc.decode())
    told = client.get_model_metadata(PROJECT)
    (tensor,) = told["inputs"]
    assert tensor == {"name": "numbers", "datatype": "FP32", "shape": [-1, 3]}
    array = to_tensors(made.table, made.release.prepared.features)["numbers"]
    asked = tritonclient.http.InferInput("numbers", list(array.shape), "FP32")
    asked.set_data_from_numpy(array)
    answer = client.infer(PROJECT, [asked])
    numbers = answer.as_numpy(told["outputs"][0]["name"])
    np.testing.assert_allclose(numbers, made.own.numbers(), rtol=1e-5, atol=1e-5)
    for output in told["outputs"]:
        found = answer.get_output(output["name"])
        assert (found["datatype"], found["shape"]) == (output["datatype"], [9, output["shape"][1]])
    client.close()
    tensor |= {"shape": [1, 2], "data": [1, 2]}
    assert "numbers FP32 [rows, 3]" in post(gateway, INFER, {"inputs": [tensor]}, 400)["accepted"]


def test_tensorflow_predict(made: Made, gateway: Running) -> None:
    """Rows and columns; the name of a single input, and that of a single output, may be left out, and is."""
    arrays = [row["numbers"] for row in made.rows]
    by_row = post(gateway, f"{MODEL}:predict", {"instances": made.rows})["predictions"]
    assert post(gateway, f"{MODEL}:predict", {"instances": arrays})["predictions"] == by_row
    columns = post(gateway, f"{MODEL}:predict", {"inputs": {"numbers": arrays}})["outputs"]
    assert post(gateway, f"{MODEL}:predict", {"inputs": arrays})["outputs"] == columns
    if isinstance(made.own, ValueAnswers):
        assert by_row == columns == pytest.approx(made.own.value.tolist(), rel=1e-5)
        return
    names = ("probabilities", "label")
    assert by_row == [dict(zip(names, row, strict=True)) for row in zip(*map(columns.get, names), strict=True)]
    assert columns["label"] == made.own.columns()["label"]
    np.testing.assert_allclose(columns["probabilities"], made.own.probabilities, atol=1e-5)


def test_tensorflow_s_other_verbs(made: Made, gateway: Running) -> None:
    """Classes are classified and values regressed; the other verb is refused, and those that are accepted are named."""
    asked, typed = {"examples": made.rows}, gateway.predict(*made.rows).json()["answers"]
    if isinstance(made.own, ValueAnswers):
        assert post(gateway, f"{MODEL}:regress", asked)["results"] == [one["value"] for one in typed]
        assert post(gateway, f"{MODEL}:classify", asked, 400)["accepted"] == "predict, regress"
        return
    pairs = post(gateway, f"{MODEL}:classify", asked)["results"]
    assert [dict(row) for row in pairs] == [one["probabilities"] for one in typed]
    assert post(gateway, f"{MODEL}:regress", asked, 400)["accepted"] == "predict, classify"


def test_tensorflow_metadata(texts: Made, gateway: Running) -> None:
    """Types and shapes of arrays, probabilities and labels that are texts."""
    told = gateway.client.get(f"{MODEL}/metadata").json()
    signature = told["metadata"]["signature_def"]["signature_def"]["serving_default"]
    tensors = signature["inputs"] | signature["outputs"]
    found = {name: (one["dtype"], [dim["size"] for dim in one["tensor_shape"]["dim"]]) for name, one in tensors.items()}
    assert found == {
        "numbers": ("DT_FLOAT", ["-1", "3"]), "probabilities": ("DT_FLOAT", ["-1", "3"]), "label": ("DT_STRING", ["-1"])
    }  # fmt: skip


def test_missing_values(texts: Made, gateway: Running) -> None:
    """Null stands for a number of an array, and for all of it, in every way of asking."""
    arrays: list[Any] = [[None, 1.5, 2], [None] * 3, None]
    typed = gateway.predict(*({"numbers": array} for array in arrays)).json()["answers"]
    assert typed[1] == typed[2] != typed[0]
    rows = [{"numbers": array} for array in arrays]
    told = post(gateway, f"{MODEL}:predict", {"instances": rows})["predictions"]
    assert told[1] == told[2] != told[0]


MISFITS = [
    ([1, 2], "rows[1].numbers", "length >= 3"),
    ([1, 2, 3, 4], "rows[1].numbers", "length <= 3"),
    (7, "rows[1].numbers", "got int"),
    ([1, "2", 3], "rows[1].numbers[1]", "expected float | null, got str"),
    ([1, 2, [3]], "rows[1].numbers[2]", "got array"),
    ([1, 2, True], "rows[1].numbers[2]", "got bool"),
]


def test_arrays_that_do_not_fit(texts: Made, gateway: Running) -> None:
    """422 with the row, the column and the place in the array; TensorFlow Serving's clients get 400."""
    for array, field, words in MISFITS:
        answer = gateway.predict({"numbers": [1, 2, 3]}, {"numbers": array})
        told = answer.json()
        assert (answer.status_code, told["field"], told["accepted"]) == (422, field, "a list of 3 numbers, or null")
        assert "'numbers'" in told["detail"]
        assert words in told["detail"]
    for array in ([1, 2], 7, ["1", 2, 3], [float("inf"), 1, 2], [[1, 2], 2, 3]):
        answer = gateway.client.post(f"{MODEL}:predict", content=json.dumps({"instances": [{"numbers": array}]}))
        assert answer.status_code == 400, answer.text


def test_columns_beside_an_array(texts: Made) -> None:
    """An array and other columns make the tensors' bytes in their order; a column's own brackets are no place in it."""
    features = {"a[0]": "double", "b": "double[2]", "c": "string", "d[0]": "double[1]"}
    prepared = texts.release.prepared.model_copy(update={"features": features})
    signature = Signature(texts.release.model_copy(update={"prepared": prepared}))
    row = {"a[0]": 1, "b": [2, None], "c": None, "d[0]": [4]}
    columns = signature.transposed(signature.rows_of(msgspec.json.encode({"rows": [row, row | {"b": None}]})))
    length, body = signature.writer.write(columns)
    tensors = np.frombuffer(body[length : length + 6 * 4], np.float32)
    np.testing.assert_array_equal(tensors, [1, 1, 2, np.nan, np.nan, np.nan])
    assert body[length + 24 :] == bytes(8) + np.array([4, 4], np.float32).tobytes()
    for wrong, field in ({"a[0]": "x"}, "rows[0].a[0]"), ({"d[0]": ["x"]}, "rows[0].d[0][0]"):
        with pytest.raises(Problem, match="'a\\[0\\]'|'d\\[0\\]'") as caught:
            signature.transposed(signature.rows_of(msgspec.json.encode({"rows": [row | wrong]})))
        assert caught.value.field == field


def test_the_description(made: Made, gateway: Running) -> None:
    """Says the array's width and the answer's members, and its example is accepted; the project's page says the task."""
    operation = gateway.client.get("/openapi.json").json()["paths"][f"/v1/projects/{PROJECT}/predict"]["post"]
    body = operation["requestBody"]["content"]["application/json"]
    column = body["schema"]["properties"]["rows"]["items"]["properties"]["numbers"]
    assert (column["minItems"], column["maxItems"]) == (3, 3)
    (one,) = post(gateway, f"/v1/projects/{PROJECT}/predict", body["example"])["answers"]
    answers = operation["responses"]["200"]["content"]["application/json"]["schema"]["properties"]["answers"]
    assert set(answers["items"]["properties"]) == set(one)
    told = gateway.client.get(f"/v1/projects/{PROJECT}").json()
    assert (told["task"], told["classes"]) == (made.own.task, list(made.release.prepared.classes))


def test_requests_that_wait_together(start: Start, made: Made) -> None:
    """Answers of several requests that went to Triton as one are those of each by itself."""
    running = start(gather={"seconds": 0.5, "lanes": 1})
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(12) as pool:
        told = list(pool.map(lambda row: running.predict(row).json()["answers"][0], made.rows * 4))
    assert told == made.said * 4


def test_what_is_written_down(start: Start, repository: Path, made: Made) -> None:
    """Arrays and answers of every kind, beside those of a release with other columns and another answer."""
    set_online(repository, log=1.0)
    running = start()
    told = running.predict({"numbers": [1, None, 3]}).json()
    before = running.client.post(
        f"{MODEL}/versions/1:predict",
        json={"instances": [{"carrier": "UA", "origin": "JFK", "distance": 1, "wind": 3, "hour": 1}]},
    )
    assert before.status_code == 200, before.text
    running.app._log.close()
    found = {row["release"]: row for row in rows(running)}
    assert counted(running)["written"] == 2
    assert found[2]["input.numbers"] == [1, None, 3]
    (one,) = told["answers"]
    for name, value in one.items():
        wanted = list(value.values()) if isinstance(value, dict) else value
        assert found[2][name] == (wanted if isinstance(wanted, str) else pytest.approx(wanted, rel=1e-6))
    assert found[1]["probability"] is not None


def set_default(repository: Path, task: str, metric: str, default: dict[str, Any]) -> None:
    """A project of this task, whose model is always late."""
    set_online(repository, seconds=0.000001, default=default)
    path = repository / "config" / "projects" / PROJECT / "project.yaml"
    project = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(project | {"task": task, "evaluate": {"metric": metric}}))


def test_a_default_class(start: Start, repository: Path, texts: Made) -> None:
    """In every form, the probabilities in the order of the release's classes."""
    chances = {"near": 0.5, "far, heavy": 0.2, "far, light": 0.3}
    default = {"label": "near", "probabilities": chances}
    set_default(repository, "multiclass", "accuracy", default)
    running, row = start(), texts.rows[0]
    told = running.predict(row, row).json()
    assert (told["answers"], told["default"]) == ([default] * 2, True)
    in_order = [chances[name] for name in CLASSES]
    predictions = post(running, f"{MODEL}:predict", {"instances": [row]})["predictions"]
    assert predictions == [{"probabilities": in_order, "label": "near"}]
    (pairs,) = post(running, f"{MODEL}:classify", {"examples": [row]})["results"]
    assert pairs == [[name, chances[name]] for name in CLASSES]


def test_a_default_of_other_classes(start: Start, repository: Path, texts: Made) -> None:
    """504, as where there is none: the release's classes are not those that the project's file names."""
    set_default(repository, "multiclass", "accuracy", {"label": "near", "probabilities": {"near": 0.5, "far": 0.5}})
    assert start().predict(texts.rows[0]).status_code == 504


def test_a_default_value(start: Start, repository: Path, values: Made) -> None:
    """Likewise, one a row."""
    set_default(repository, "regression", "rmse", {"value": 12.5})
    running, row = start(), values.rows[0]
    assert running.predict(row, row).json()["answers"] == [{"value": 12.5}] * 2
    assert post(running, f"{MODEL}:predict", {"instances": [row, row]})["predictions"] == [12.5] * 2
