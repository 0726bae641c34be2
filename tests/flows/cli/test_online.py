"""Features known by entity, through a whole lifecycle at the command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.workspace import Workspace, open_workspace
from flows.services import down
from tests.flows.cli.test_lifecycle import trilha

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


def set_features(repository: Path, features: str) -> None:
    """Another `online` in the project `small`, which is the last section of its file."""
    path = repository / "config" / "projects" / "small" / "project.yaml"
    path.write_text(
        path.read_text().partition("online:")[0] + (f"online: {{features: {features}}}\n" if features else "")
    )


@pytest.fixture
def workspace(small: Path) -> Iterator[Workspace]:
    """The project `small`, whose parcels' weight is known by city."""
    set_features(small, "{entity: city, columns: [weight]}")
    found = open_workspace("test")
    yield found
    down(found)


def answers(*rows: dict[str, Any]) -> Any:
    options = [word for row in rows for word in ("--row", json.dumps(row))]
    return json.loads(trilha("predict", "small", *options, "--json"))["answers"]


def test_a_release_and_its_features(workspace: Workspace, small: Path) -> None:
    """A step of its own, a part of the release, a link of the trail; another choice is another release, none is none."""
    first = json.loads(trilha("run", "small", "--json"))
    assert first["steps"] == {"done": 15}
    table = json.loads(trilha("show", "small", "--json"))["online"]
    assert (table["entity"], table["columns"], table["rows"]) == ({"city": "string"}, ["weight"], 3)
    assert "features     " in trilha("trail", "small/1")
    rows = {row["id"]: row for row in parcels(small)}
    latest = max(
        (row for row in rows.values() if row["city"] == "north"), key=lambda row: (row["sent"], int(row["id"]))
    )
    weight = float(latest["weight"]) if latest["weight"] else None
    whole, completed = answers(
        {"city": "north", "distance": 310.0, "weight": weight}, {"city": "north", "distance": 310.0}
    )
    assert whole == completed
    assert "nothing is known of city" in trilha("predict", "small", "--row", '{"city": "x", "distance": 1}', code=2)

    again = json.loads(trilha("run", "small", "--json"))
    assert again["steps"] == {"done": 2, "found": 13}
    shutil.rmtree(workspace.home / "online")
    trilha("reconcile", "small")
    assert workspace.features.tables("small") == {table["file"]["sha256"]}

    set_features(small, "{entity: city, columns: [distance]}")
    run = json.loads(trilha("run", "small", "--json"))
    assert run["steps"] == {"done": 4, "found": 11}  # observe, champion, materialize, release
    assert workspace.features.tables("small") > {table["file"]["sha256"]}
    answers({"city": "north", "weight": 3.5})
    trilha("rollback", "small")
    assert answers({"city": "north", "distance": 310.0}) == [whole]
    set_features(small, "")
    trilha("run", "small")
    assert "column 'weight' is missing" in trilha("predict", "small", "--row", '{"city": "x", "distance": 1}', code=2)


def parcels(repository: Path) -> list[dict[str, str]]:
    """The rows of the source."""
    lines = [line.split(",") for line in (repository / "data" / "parcels.csv").read_text().splitlines()]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
