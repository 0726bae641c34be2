"""What does ingest cost: a CSV of 5 GB to Parquet that is held to ten expectations, hashed, committed and in `main`?

The limit is DuckDB's own CSV to Parquet, nothing else. Peers do the work in steps, each a process: pandas by
pieces, Great Expectations on pandas, `sha256sum`, Git LFS; the same with the fastest that we know for each (DuckDB,
checks by hand in Polars); and what only keeps the CSV, and neither reads nor checks it: `dvc add` and `git commit`, and
Git LFS. Polars and DVC run where `TRILHA_PEERS` and `TRILHA_DVC` name a Python and a program.

`--rows 15000000` asks for 1 GB.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from report import ROOT, Row, Sample, in_a_folder, interleave, measure, median, ratio

ROWS, ROUNDS = 72_000_000, 1
PEAK = 1500.0
"""MB."""

PROFILE = "state: .trilha/bench\nstore: {kind: git, path: .trilha/bench/data.git}\n"

MAKE = """
COPY (SELECT i AS id, DATE '2013-01-01' + (i % 365)::INT AS day, ['EWR', 'JFK', 'LGA'][1 + i % 3] AS origin,
    'N' || (hash(i) % 4000) AS tail, (hash(i + 1) % 2400)::INT AS hour,
    CASE WHEN i % 40 > 0 THEN (hash(i + 2) % 900)::INT - 60 END AS delay,
    round((hash(i + 3) % 100000) / 7, 3) AS distance, 'flight number ' || (hash(i + 4) % 9000) AS remark
FROM range({rows}) t(i)) TO '{path}' (HEADER)
"""

EXPECTATIONS = """
from components.project import Expectation
def expect(kind, column, **kwargs):
    return Expectation(type=f"expect_{kind}", kwargs={"column": column, **kwargs})
LISTED = (
    *(expect("column_values_to_not_be_null", name) for name in ("id", "day", "origin", "tail")),
    expect("column_values_to_be_in_set", "origin", value_set=["EWR", "JFK", "LGA"]),
    expect("column_values_to_match_regex", "tail", regex="^N[0-9]+$"),
    expect("column_values_to_be_between", "hour", min_value=0, max_value=2400),
    expect("column_values_to_be_between", "delay", min_value=-60, max_value=900),
    expect("column_mean_to_be_between", "delay", min_value=300, max_value=500),
    Expectation(type="expect_table_row_count_to_be_between", kwargs={"min_value": 1}),
)
"""

OURS = (
    EXPECTATIONS
    + """
from components.ingest import ingest, observe
from components.ledger import running_as
from components.publish import publish
from components.source_settings import Table
from components.validate import validate
sources = {"flights": Table(path="flights.csv")}
with running_as("0" * 64):
    commit = ingest("bench", "bench", sources, observe("bench", "bench", sources))
with running_as("1" * 64):
    verdict = validate("bench", "bench", commit, {"flights": LISTED})
with running_as("2" * 64):
    print(publish("bench", "bench", commit, verdict))
"""
)

DUCKDB = "import duckdb; duckdb.sql(\"COPY (FROM 'flights.csv') TO 'flights.parquet'\")"

PANDAS = """
import pandas as pd, pyarrow as pa, pyarrow.parquet as pq
writer = None
for frame in pd.read_csv("flights.csv", chunksize=1_000_000, parse_dates=["day"], dtype={"delay": "float64"}):
    table = pa.Table.from_pandas(frame, preserve_index=False)
    writer = writer or pq.ParquetWriter("flights.parquet", table.schema)
    writer.write_table(table)
writer.close()
"""

ON_PANDAS = (
    EXPECTATIONS
    + """
import pyarrow.parquet as pq
from components.adapters.great_expectations import check, suites
assert check("t", suites("bench", {"t": LISTED})["t"], LISTED, pq.read_table("flights.parquet")).result.success
"""
)

POLARS = """
import polars as pl
c = pl.col
checks = [c(name).null_count() == 0 for name in ("id", "day", "origin", "tail")]
checks += [
    c("origin").is_in(["EWR", "JFK", "LGA"]).all(), c("tail").str.contains("^N[0-9]+$").all(),
    c("hour").is_between(0, 2400).all(), c("delay").is_between(-60, 900).all(), c("delay").mean().is_between(300, 500),
    pl.len() > 0,
]
asked = pl.scan_parquet("flights.parquet").select(check.alias(str(place)) for place, check in enumerate(checks))
assert all(asked.collect(engine="streaming").row(0))
"""

KEEP = """
set -e
mkdir kept && mv $1 kept/ && cd kept && git init -q && {how}
git add . && git -c user.name=x -c user.email=x commit -q -m rows
"""
GIT_LFS = KEEP.format(how="git lfs install --local && git lfs track $1")
DVC = KEEP.format(how='"$TRILHA_DVC" init -q && "$TRILHA_DVC" add -q $1')


def _rows(folder: Path, count: int, rounds: int) -> list[Row]:
    import duckdb

    (folder / "config" / "projects").mkdir(parents=True)
    (folder / "config" / "profiles").mkdir()
    (folder / "config" / "profiles" / "bench.yaml").write_text(PROFILE)
    csv = folder / "flights.csv"
    duckdb.sql(MAKE.format(rows=count, path=csv))
    environment = {**os.environ, "TRILHA_ROOT": str(folder), "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def run(*commands: list[str]) -> Sample:
        shutil.rmtree(folder / ".trilha", ignore_errors=True)
        (folder / "flights.parquet").unlink(missing_ok=True)
        steps = [measure(command, cwd=folder, env=environment) for command in commands]
        if (moved := folder / "kept" / csv.name).exists():
            moved.rename(csv)
        shutil.rmtree(folder / "kept", ignore_errors=True)
        return Sample(sum(one.wall for one in steps), sum(one.cpu for one in steps), max(one.peak for one in steps))

    def python(program: str, interpreter: str = sys.executable) -> list[str]:
        return [interpreter, "-c", program]

    def kept(script: str, name: str) -> list[str]:
        return ["sh", "-c", script, "sh", name]

    digest, lfs = ["sha256sum", "flights.parquet"], kept(GIT_LFS, "flights.parquet")
    runs = {
        "ours": lambda: run(python(OURS)),
        "DuckDB's CSV to Parquet alone": lambda: run(python(DUCKDB)),
        "pandas, Great Expectations, `sha256sum`, Git LFS": lambda: run(python(PANDAS), python(ON_PANDAS), digest, lfs),
        "Git LFS of the CSV, unread": lambda: run(kept(GIT_LFS, csv.name)),
    }
    if peers := os.environ.get("TRILHA_PEERS"):
        runs["DuckDB, Polars by hand, `sha256sum`, Git LFS"] = lambda: run(
            python(DUCKDB), python(POLARS, peers), digest, lfs
        )
    if os.environ.get("TRILHA_DVC"):
        runs["`dvc add` of the CSV, unread, and `git commit`"] = lambda: run(kept(DVC, csv.name))
    size = csv.stat().st_size
    samples = interleave(runs, rounds)
    return [_told(samples, name, size) for name in samples if name != "ours"]


def _told(samples: dict[str, list[Sample]], name: str, size: int) -> Row:
    ours, theirs = samples["ours"], samples[name]
    slower, peak = ratio(ours, theirs), max(sample.peak * 1.048576 for sample in ours)
    limit = name.startswith("DuckDB's")
    goal = 1 / 5 if "dvc" in name else 1 / 3
    return Row(
        question=f"ingest of a {size / 1e9:.1f} GB CSV: Parquet, ten expectations, hash, commit, in `main`",
        ours=f"{median(ours):.1f} s ({size / 1e6 / median(ours):.0f} MB/s), peak {peak:.0f} MB",
        limit=f"{name} {median(theirs):.1f} s, peak {median(theirs, 'peak') * 1.048576:.0f} MB",
        ratio=slower,
        goal=f"the limit, under {PEAK / 1000:.1f} GB" if limit else f"{goal:.2f}",
        met=peak < PEAK and (limit or slower <= goal),
        note="ours writes zstd, in rows that are always the same" if limit else "",
    )


if __name__ == "__main__":
    in_a_folder(_rows, ROWS, ROUNDS)
