"""What does ingest cost: a CSV of 1 GB to Parquet that is hashed, on the disk and committed?

The limit is DuckDB's own CSV to Parquet, nothing else, as it comes. Both are whole processes on the same disk.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from report import ROOT, Row, Sample, interleave, measure, median, ratio, report

BYTES = 1_000_000_000
RATE, PEAK = 0.70, 1000.0
"""The goal: share of DuckDB's rate, and peak memory in MB."""

PROFILE = "state: .trilha/bench\nstore: {kind: git, path: .trilha/bench/data.git}\n"

ROWS = """
SELECT i AS id, DATE '2013-01-01' + (i % 365)::INT AS day, ['EWR', 'JFK', 'LGA'][1 + i % 3] AS origin,
    'N' || (hash(i) % 4000) AS tail, (hash(i + 1) % 2400)::INT AS hour,
    CASE WHEN i % 40 THEN (hash(i + 2) % 900)::INT - 60 END AS delay,
    round((hash(i + 3) % 100000) / 7, 3) AS distance, 'flight number ' || (hash(i + 4) % 9000) AS remark
FROM range({rows}) t(i)
"""

OURS = """
from components.source_settings import Table
from components.ingest import ingest, observe
from components.ledger import running_as
sources = {"flights": Table(path="flights.csv")}
with running_as("0" * 64):
    print(ingest("bench", "bench", sources, observe("bench", "bench", sources)))
"""

BARE = """
import duckdb
duckdb.sql("COPY (FROM 'flights.csv') TO 'flights.parquet'")
"""


def main() -> None:
    """Measure in a repository of its own."""
    folder = Path(tempfile.mkdtemp(prefix="trilha-bench-"))
    try:
        (folder / "config" / "projects").mkdir(parents=True)
        (folder / "config" / "profiles").mkdir()
        (folder / "config" / "profiles" / "bench.yaml").write_text(PROFILE)
        size = _write(folder / "flights.csv")
        report([_row(folder, size)])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write(path: Path) -> int:
    """Make the CSV; returns its size in bytes."""
    import duckdb

    duckdb.sql(f"COPY ({ROWS.format(rows=100_000)}) TO '{path}' (HEADER)")
    rows = 100_000 * BYTES // path.stat().st_size
    duckdb.sql(f"COPY ({ROWS.format(rows=rows)}) TO '{path}' (HEADER)")
    return path.stat().st_size


def _row(folder: Path, size: int) -> Row:
    environment = {**os.environ, "TRILHA_ROOT": str(folder), "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def run(program: str) -> Sample:
        shutil.rmtree(folder / ".trilha", ignore_errors=True)
        (folder / "flights.parquet").unlink(missing_ok=True)
        return measure([sys.executable, "-c", program], cwd=folder, env=environment)

    samples = interleave({"ours": lambda: run(OURS), "duckdb": lambda: run(BARE)})
    ours, bare = samples["ours"], samples["duckdb"]
    slower, peak = ratio(ours, bare), max(sample.peak * 1.048576 for sample in ours)
    return Row(
        question=f"ingest of a {size / 1e9:.1f} GB CSV to hashed, committed Parquet",
        ours=f"{median(ours):.1f} s ({size / 1e6 / median(ours):.0f} MB/s), peak {peak:.0f} MB",
        limit=f"DuckDB's CSV to Parquet alone {median(bare):.1f} s, peak {median(bare, 'peak') * 1.048576:.0f} MB",
        ratio=slower,
        goal=f"{1 / RATE:.2f} ({RATE:.0%} of the rate), under {PEAK / 1000:.0f} GB",
        met=slower <= 1 / RATE and peak < PEAK,
        note=f"{1 / slower:.0%} of the rate; ours writes zstd, it hashes, syncs and commits",
    )


if __name__ == "__main__":
    main()
