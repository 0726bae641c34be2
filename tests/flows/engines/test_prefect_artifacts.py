"""What a person finds in Prefect's pages, read back from a real server."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from components.ledger import effect_key
from components.records import (
    Artifact,
    Bundle,
    Candidate,
    Champion,
    Commit,
    Decision,
    ExpectationResult,
    Graphs,
    ModelVersion,
    Parameters,
    Prepared,
    Qualification,
    Release,
    Slice,
    Split,
    Trial,
    Validation,
)
from components.runs import Run, new_header
from components.workspace import Workspace, open_workspace
from flows.dag import Do, trace
from flows.engines import prefect
from tests.prefect_api import api

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("prefect")]

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def files(*names: str) -> dict[str, Artifact]:
    """Artifacts in the store of profile `test`, under the key of the step that runs."""
    workspace = open_workspace("test")
    with workspace.output() as out:
        for name in names:
            (out.folder / name).write_bytes(PNG if name.endswith(".png") else name.encode())
        return out.publish()


def commit() -> Commit:
    return Commit(id="c0ffee", branch="main", tree="t" * 64, tables={"flights": 336776, "planes": 3322})


def validate(data: Commit) -> Validation:
    made = files("report.json", "docs.html", "offending.parquet")
    held = ExpectationResult(
        table="flights", expectation="expect_column_to_exist", column="day", severity="critical", success=True,
        unexpected=0, observed="it exists",
    )  # fmt: skip
    broken = held.model_copy(
        update={
            "expectation": "expect_column_values_to_not_be_null", "column": "tail|num", "severity": "warning",
            "success": False, "unexpected": 2512, "observed": "2512 nulls",
        }
    )  # fmt: skip
    return Validation(
        tree=data.tree, results=(held, broken), report=made["report.json"], docs=made["docs.html"],
        offending=made["offending.parquet"],
    )  # fmt: skip


def prepare(data: Commit) -> Prepared:
    made = files("train", "valid", "test", "reference")
    train, valid, test = (Split(file=made[name], rows=1000, positives=0.25) for name in ("train", "valid", "test"))
    return Prepared(
        tree=data.tree, commit=data.id, row="flight", target="late", features={"carrier": "string", "hour": "bigint"},
        train=train, valid=valid, test=test, reference=made["reference"],
    )  # fmt: skip


def train(prepared: Prepared, leaves: int, rate: float | None) -> Trial:
    made = files("pre.onnx", "model.onnx", "post.onnx", "predictions", "run.ipynb", "run.html", "roc.png")
    return Trial(
        parameters=Parameters(values={"leaves": leaves, "rate": rate}),
        metrics={"auc": 0.7 + leaves / 1000},
        graphs=Graphs(pre=made["pre.onnx"], model=made["model.onnx"], post=made["post.onnx"]),
        predictions=made["predictions"],
        run_id=f"{leaves:032}",
        notebook=made["run.ipynb"],
        page=made["run.html"],
        plots=(made["roc.png"],),
        seconds=1.5,
    )


def select(trials: list[Trial]) -> Candidate:
    best = max(trials, key=lambda trial: trial.metrics["auc"])
    table = tuple((trial.parameters, trial.metrics["auc"]) for trial in trials)
    return Candidate(trial=best, metric="auc", value=best.metrics["auc"], trials=table, run_id="9" * 32)


def champion(candidate: Candidate) -> Champion:
    assert candidate.trials
    return Champion(release=0, digest="", graphs=None)


def evaluate(candidate: Candidate, champion: Champion) -> Decision:
    assert champion.release == 0
    return Decision(
        passed=True,
        reasons=("auc 0.731 is above 0.65", "no champion yet"),
        metrics={"auc": 0.731},
        baselines={"majority": {"auc": 0.5}, "logistic": {"auc": 0.66, "brier": 0.1}},
        difference=(-0.001, 0.01, 0.02),
        slices=(Slice(column="carrier", value="__AA__", rows=501, metric=0.7),),
        plots=(files("calibration.png")["calibration.png"],),
    )


def register(candidate: Candidate) -> ModelVersion:
    return ModelVersion(name="flights", version="3", digest="d" * 64, run_id=candidate.run_id)


def export(candidate: Candidate) -> Bundle:
    made = files("config.pbtxt", "golden")
    model = "flights-dddd"
    return Bundle(
        example={"distance": 1.0},
        model=model, digest="b" * 64, target="auto", files={f"{model}/config.pbtxt": made["config.pbtxt"]},
        golden=made["golden"],
    )  # fmt: skip


def qualify(bundle: Bundle) -> Qualification:
    return Qualification(
        digest=bundle.digest, rows=256, tolerance=1e-5, difference=2.5e-7, budget_ms=50, p50_ms=1.3, p99_ms=4.2,
        server="127.0.0.1:8001",
    )  # fmt: skip


def release(
    data: Commit,
    validation: Validation,
    prepared: Prepared,
    candidate: Candidate,
    decision: Decision,
    version: ModelVersion,
    bundle: Bundle,
    qualification: Qualification,
) -> Release:
    return Release(
        project="flights", number=7, digest="r" * 64, commit=data, validation=validation, prepared=prepared,
        candidate=candidate, decision=decision, version=version, bundle=bundle, qualification=qualification,
        key=effect_key(), revision="abc123", created="2026-01-01T00:00:00+00:00",
    )  # fmt: skip


def whole(do: Do) -> Release:
    data = do(commit)
    validation, prepared = do(validate, data), do(prepare, data)
    trials = [do.named(f"train-{number:02}")(train, prepared, number, 0.1 * number or None) for number in (0, 31)]
    best = do(select, trials)
    decision = do(evaluate, best, do(champion, best))
    with do.when(decision):
        version, bundle = do(register, best), do(export, best)
        return do(release, data, validation, prepared, best, decision, version, bundle, do(qualify, bundle))


@pytest.fixture
def pages(on_prefect: Workspace, prefect_url: str) -> dict[str, Any]:
    """The artifacts of a run of `whole`, by key; MLflow is said to be where nothing is."""
    path = Path("config/profiles/test.yaml")
    path.write_text(path.read_text().replace("services: {", "services: {mlflow: {url: 'http://mlflow.invalid'}, "))
    open_workspace.cache_clear()
    dag, header = trace(whole), new_header("whole", "flights", "test", "prefect")
    prefect.run(dag, Run(open_workspace("test"), header))
    body = {"flow_runs": {"name": {"any_": [header.id]}}}
    found = api(prefect_url).post("/artifacts/filter", json=body).json()
    assert all(artifact["task_run_id"] for artifact in found)
    return {artifact["key"]: artifact["data"] for artifact in found}


def test_pages(pages: dict[str, Any]) -> None:
    """Every kind of record of the lifecycle has a page, and each says what a person would look for."""
    table = pages["flights-validate-table"]
    rows = json.loads(table) if isinstance(table, str) else table
    assert [(row["result"], row["column"], row["unexpected rows"]) for row in rows] == [
        ("warning", "tail|num", 2512),
        ("held", "day", 0),
    ]
    assert pages["flights-commit"].startswith("## 340,098 rows in 2 tables on branch `main`\n")
    assert "| flights | 336,776 |" in pages["flights-commit"]
    assert "## 1 of 2 expectations held" in pages["flights-validate"]
    assert r"| warning | flights | tail\|num | expect\_column\_values" in pages["flights-validate"]
    assert "offending.parquet\n```" in pages["flights-validate"]
    assert "| train | 1,000 | 0.250 |" in pages["flights-prepare"]

    trial = pages["flights-train-31"]
    assert trial.startswith("## leaves 31, rate 3.1: auc 0.7310\n")
    assert f"[MLflow run {'0' * 8}](http://mlflow.invalid/#/runs/{31:032})" in trial
    assert f"![roc.png](data:image/png;base64,{base64.b64encode(PNG).decode()})" in trial

    trials = pages["flights-select"]
    assert "| trial | leaves | rate | auc | MLflow |" in trials
    link = "[MLflow run 00000000](http://mlflow.invalid/#/runs/"
    assert f"| **best** | 31 | 3.1 | 0.73100 | {link}{31:032}) |" in trials
    assert f"|  | 0 |  | 0.70000 | {link}{0:032}) |" in trials

    assert pages["flights-champion"] == "## No champion to beat yet"

    decision = pages["flights-evaluate"]
    assert "## The candidate may serve" in decision
    assert "- no champion yet" in decision
    assert "| metric | candidate | majority | logistic |" in decision
    assert "| brier |  |  | 0.10000 |" in decision
    assert "+0.01000, between -0.00100 and +0.02000" in decision
    assert "| slice | value | rows | auc |" in decision
    assert "| carrier | \\_\\_AA\\_\\_ | 501 | 0.70000 |" in decision
    assert "![calibration.png](data:image/png;base64," in decision

    assert "(http://mlflow.invalid/#/models/flights/versions/3" in pages["flights-register"]
    assert "| flights-dddd/config.pbtxt | 12 |" in pages["flights-export"]
    assert "| p99 of one-row requests | 4.20 ms | 50 ms |" in pages["flights-qualify"]
    assert "## Release flights/7" in pages["flights-release"]
    assert "pages/flights/7.html\n```" in pages["flights-release"]
    assert """trilha predict flights --row '{"distance": 1.0}' --profile test""" in pages["flights-release"]
