"""What Kubeflow's pages show of a node: its record as typed artifacts, written as plain files without Kubeflow's SDK.

The places that artifacts name have schemes of ours and MLflow's: Kubeflow would take `s3://...` for a file of its own
bucket and fail the node.
"""

from __future__ import annotations

import json
import shutil
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from components.records import (
    Artifact,
    Bundle,
    Commit,
    Decision,
    ModelVersion,
    Prepared,
    Qualification,
    Record,
    Skipped,
    Trial,
    Validation,
)
from components.workspace import Workspace

Kind = typing.Literal["Dataset", "Model", "Metrics", "HTML"]
"""Types of artifacts, by their names in Kubeflow's SDK."""

KINDS: Mapping[type[Record], Mapping[str, Kind]] = {
    Commit: {"data": "Dataset"},
    Prepared: {"data": "Dataset"},
    Trial: {"metrics": "Metrics", "page": "HTML"},
    Validation: {"metrics": "Metrics", "page": "HTML"},
    Decision: {"metrics": "Metrics"},
    ModelVersion: {"model": "Model"},
    Bundle: {"model": "Model"},
    Qualification: {"metrics": "Metrics"},
}
"""Record -> its artifacts."""


def kinds(step: Callable[..., Any]) -> Mapping[str, Kind]:
    """The artifacts of a step, by the record that it returns."""
    returned = typing.get_type_hints(step)["return"]
    return next((KINDS[base] for base in returned.__mro__ if base in KINDS), {})


def write(workspace: Workspace, record: Record, paths: Mapping[str, Path], summary: Path) -> None:
    """Write the artifacts of `record`.

    Args:
        workspace: where its files are.
        record: what the step returned.
        paths: artifact -> the file that Kubeflow keeps for it; pages go there.
        summary: the file that tells Kubeflow the places and the numbers of the others.
    """
    if isinstance(record, Skipped):
        return
    said = {}
    for name, path in paths.items():
        if name == "page":
            page = _page(record)
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(workspace.artifacts.local(page), path)
        elif name == "metrics":
            said[name] = {"metadata": _metrics(record)}
        else:
            said[name] = _place(workspace, record)
    artifacts = {name: {"artifacts": [{"name": name, **facts}]} for name, facts in said.items()}
    summary.parent.mkdir(parents=True, exist_ok=True)
    summary.write_text(json.dumps({"artifacts": artifacts}))


def _page(record: Record) -> Artifact:
    if isinstance(record, Trial):
        return record.page
    assert isinstance(record, Validation)
    return record.docs


def _metrics(record: Record) -> dict[str, float]:
    """Numbers, as Kubeflow shows them in a table and compares them between runs."""
    if isinstance(record, Trial):
        return record.metrics | {"seconds": record.seconds}
    if isinstance(record, Validation):
        broken = [result for result in record.results if not result.success]
        return {"expectations": len(record.results), "warnings": len(broken)}
    if isinstance(record, Decision):
        return record.metrics | {"promoted": int(record.passed)}
    assert isinstance(record, Qualification)
    return {"rows": record.rows, "difference": record.difference, "p50_ms": record.p50_ms, "p99_ms": record.p99_ms}


def _place(workspace: Workspace, record: Record) -> dict[str, Any]:
    """Where data or a model is, and what it is."""
    ours = f"trilha://{workspace.name}"
    if isinstance(record, Commit):
        facts = {"tree": record.tree, "branch": record.branch, "rows": sum(record.tables.values())}
        return {"uri": f"{ours}/data/{record.id}", "metadata": facts}
    if isinstance(record, Prepared):
        rows = {side: getattr(record, side).rows for side in ("train", "valid", "test")}
        return {"uri": f"{ours}/artifacts/{record.train.file.path}", "metadata": {"commit": record.commit, **rows}}
    if isinstance(record, ModelVersion):
        facts = {"digest": record.digest, "run": record.run_id}
        return {"uri": f"models:/{record.name}/{record.version}", "metadata": facts}
    assert isinstance(record, Bundle)
    return {"uri": f"{ours}/bundles/{record.digest}", "metadata": {"model": record.model, "target": record.target}}
