"""Committed and prepared examples for the tests of what comes after ingest: the parcels of the project `small`."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from components.ledger import running_as
from components.prepare import prepare
from components.project import Features, RandomSplit, TimeSplit
from components.records import Candidate, Commit, Graphs, Parameters, Prepared, Trial
from components.trial import PREDICTIONS, TrialRun, TrialSpec
from components.workspace import Workspace
from tests.conftest import write_parcels

FEATURES = Features(
    sql="select id, late, sent, city, distance, weight from parcels", row="id", target="late", exclude=("sent",)
)
SPLIT = TimeSplit(by="time", column="sent", valid_from="2024-07-01", test_from="2024-09-01")


def parcels(rows: int = 2_000) -> pa.Table:
    """The made-up parcels."""
    with tempfile.TemporaryDirectory() as folder:
        write_parcels(Path(folder) / "parcels.csv", rows)
        return pyarrow.csv.read_csv(Path(folder) / "parcels.csv")


def commit_tables(workspace: Workspace, tables: Mapping[str, Sequence[pa.Table]], project: str = "small") -> Commit:
    """A commit on `main` with each table as one Parquet file a part, in the layout that ingest writes."""
    with tempfile.TemporaryDirectory() as folder:
        puts = {}
        for name, parts in tables.items():
            for number, part in enumerate(parts):
                path = Path(folder) / f"{name}-{number}"
                pq.write_table(part, path)
                puts[f"{project}/{name}/part-{number}.parquet"] = path
        key = f"{sorted(puts)}-{[part.num_rows for parts in tables.values() for part in parts]}"
        revision = workspace.store.commit("main", puts, message="examples", metadata={}, key=key)
    rows = {name: sum(part.num_rows for part in parts) for name, parts in tables.items()}
    return Commit(id=revision.id, branch="main", tree=workspace.store.tree(revision.id), tables=rows)


def commit_parcels(workspace: Workspace, rows: int = 2_000, branch: str = "incoming", project: str = "small") -> str:
    """The parcels on a branch of others, which is made at `main` where there is none; returns the commit's id."""
    store = workspace.store
    if branch not in store.branches():
        store.branch(branch, "main")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "parcels.parquet"
        pq.write_table(parcels(rows), path)
        name, key = f"{project}/parcels/data.parquet", f"{project} {rows}"
        return store.commit(branch, {name: path}, message="New parcels", metadata={}, key=key).id


def prepare_as(
    workspace: Workspace,
    commit: Commit,
    key: str = "a",
    features: Features = FEATURES,
    split: TimeSplit | RandomSplit = SPLIT,
    seed: int = 0,
) -> Prepared:
    """`prepare` on the profile of `workspace`, as a step with a key of its own."""
    with running_as(key * 64):
        return prepare("small", workspace.name, commit, features, split, seed)


def prepare_parcels(workspace: Workspace) -> Prepared:
    """The parcels, committed and split by time."""
    return prepare_as(workspace, commit_tables(workspace, {"parcels": [parcels()]}))


def split_paths(workspace: Workspace, prepared: Prepared) -> dict[str, str]:
    """Where each split lies."""
    splits = {"train": prepared.train, "valid": prepared.valid, "test": prepared.test}
    return {side: str(workspace.artifacts.local(split.file)) for side, split in splits.items()}


def trial_as(workspace: Workspace, prepared: Prepared, key: str, model: Any, run_id: str = "") -> Trial:
    """A trial that fits `model` on the parcels, done here instead of in a notebook, without MLflow."""
    pre = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["city"]),
        (make_pipeline(SimpleImputer(), StandardScaler()), ["distance", "weight"]),
    )
    with running_as(key * 64), workspace.output() as out:
        run = TrialRun(
            TrialSpec(
                prepared=prepared,
                splits=split_paths(workspace, prepared),
                folder=str(out.folder),
                tensorboard=str(out.folder / "board"),
                parameters={},
                seed=0,
            )
        )
        model.fit(pre.fit_transform(run.train[run.features]), run.train[run.target])
        metrics = run.save(pre=pre, model=model)
        files = out.publish()
    return Trial(
        parameters=Parameters(values={"key": key}),
        metrics=metrics,
        graphs=Graphs(pre=files["pre.onnx"], model=files["model.onnx"], post=files["post.onnx"]),
        predictions=files[PREDICTIONS],
        run_id=run_id,
        notebook=files[PREDICTIONS],
        page=files[PREDICTIONS],
        plots=(),
        seconds=0.0,
    )


def candidate_of(trial: Trial) -> Candidate:
    """The trial as the winner of a search of one."""
    value = trial.metrics["auc"]
    return Candidate(trial=trial, metric="auc", value=value, trials=((trial.parameters, value),), run_id="")
