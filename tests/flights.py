"""The project `flights` in a test's repository: made-up rows, and a release of a small fitted model for them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa

from components.records import Release
from components.workspace import Workspace
from tests.examples import commit_tables
from tests.triton import Fitted, release_of

QUERY = "select flight, late, carrier, origin, distance, wind, hour from flights"
ROWS = 5_300

PROJECT = """
title: Late flights
sources:
  flights: {path: data/flights.parquet}
row: flight
target: late
split: {by: random, key: flight, valid: 0.2, test: 0.2}
notebook: notebooks/small.ipynb
search:
  spaces:
    - {strength: {values: [1.0]}}
scoring:
  part: 1000
  keep: [origin]
"""


def flights(rows: int = ROWS) -> pa.Table:
    """Made-up flights, with texts and numbers missing here and there, and a carrier that nobody has learned of."""
    draw = np.random.default_rng(5)
    carrier = draw.choice(["AA", "UA", "DL", "Ã", "ZZ"], rows).tolist()
    wind = draw.gamma(2, 5, rows)
    return pa.table(
        {
            "flight": [f"g{number:06}" for number in range(rows)],
            "late": draw.integers(0, 2, rows),
            "carrier": pa.array([None if number % 50 == 7 else one for number, one in enumerate(carrier)], pa.string()),
            "origin": draw.choice(["JFK", "LGA", "EWR"], rows).tolist(),
            "distance": draw.normal(1000, 300, rows),
            "wind": pa.array([None if number % 40 == 3 else one for number, one in enumerate(wind)], pa.float64()),
            "hour": draw.integers(0, 24, rows),
        }
    )


def place_flights(repository: Path, more: str = "") -> None:
    """Put the project into a repository; `more` goes to the end of its project.yaml."""
    folder = repository / "config" / "projects" / "flights"
    folder.mkdir(parents=True)
    (folder / "project.yaml").write_text(PROJECT + more)
    (folder / "features.sql").write_text(QUERY)
    (folder / "expectations.yaml").write_text("tables: {}\n")
    shutil.copytree(Path(__file__).parent / "small" / "notebooks", repository / "notebooks", dirs_exist_ok=True)


def released(workspace: Workspace, fitted: Fitted) -> Release:
    """The data on `main`, in two files, and a release; the server has not seen it."""
    table = flights()
    commit_tables(workspace, {"flights": [table.slice(0, 3_000), table.slice(3_000)]}, project="flights")
    return release_of(workspace, fitted)
