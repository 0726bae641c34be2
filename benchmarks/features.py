"""What do features of more rows than memory cost: a join and an aggregate over 20 million rows, sorted and split?

The kernel holds each to 2 GiB, page cache included; where it cannot, the row says so. Tables are read from the disk.
The limit is DuckDB, which writes the same query's rows, sorted, to one file: no checks, no split, no profile of the
training rows. Peers do as it does, told by their settings to stay below the 2 GiB: Spark on this machine (`local[*]`),
and Polars' streaming engine where `TRILHA_PEERS` names a Python that has it; that once more with nothing to hold it.

`--rows 100000000` asks for more.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
from pathlib import Path

from report import ROOT, Row, Sample, in_a_folder, interleave, measure, measure_within, median, ratio

ROWS, ROUNDS = 20_000_000, 2
MEMORY = 2048
"""MiB that each may take."""

SQL = """
with busy as (select station, count(*) as readings, max(level) as highest from readings group by station)
select r.id, r.late, r.day, r.level, r.grade, s.height, s.kind, b.readings, b.highest
from readings r join stations s on r.station = s.station join busy b on r.station = b.station
where r.level <> 7
"""

OURS = """
import sys
from components.ledger import running_as
from components.prepare import prepare
from components.project import Features, TimeSplit
from components.records import Commit
features = Features(sql=sys.argv[1], row="id", target="late")
split = TimeSplit(by="time", column="day", valid_from="2026-08-01", test_from="2026-10-01")
with running_as("0" * 64):
    prepare("bench", "bench", Commit(id=sys.argv[2], branch="main", tree="", tables={}), features, split, 0)
"""

DUCKDB = """
import duckdb, sys
connection = duckdb.connect()
connection.execute(f"set memory_limit = '1GB'; set temp_directory = '{sys.argv[2]}/spilled'")
for table in ("readings", "stations"):
    connection.execute(f"create view {table} as from '{sys.argv[2]}/{table}.parquet'")
connection.execute(f"copy ({sys.argv[1]} order by id) to '{sys.argv[2]}/out.parquet'")
"""

SPARK = """
import sys
from pyspark.sql import SparkSession
session = (SparkSession.builder.master("local[*]").config("spark.driver.memory", "1200m")
           .config("spark.ui.enabled", "false").config("spark.driver.bindAddress", "127.0.0.1")
           .config("spark.local.dir", sys.argv[2]).getOrCreate())
for table in ("readings", "stations"):
    session.read.parquet(f"{sys.argv[2]}/{table}.parquet").createOrReplaceTempView(table)
session.sql(sys.argv[1]).orderBy("id").write.mode("overwrite").parquet(f"{sys.argv[2]}/out.parquet")
"""

POLARS = """
import sys
import polars as pl
readings, stations = (pl.scan_parquet(f"{sys.argv[2]}/{table}.parquet") for table in ("readings", "stations"))
busy = readings.group_by("station").agg(readings=pl.len(), highest=pl.col("level").max())
found = readings.filter(pl.col("level") != 7).join(stations, on="station").join(busy, on="station")
found = found.select("id", "late", "day", "level", "grade", "height", "kind", "readings", "highest")
found.sort("id").sink_parquet(f"{sys.argv[2]}/out.parquet", engine="streaming")
"""

MAKE = """
copy (select (hash(i) >> 1)::bigint as id, (hash(i + 1) % 5 = 0)::int as late,
             date '2026-01-01' + (hash(i + 2) % 365)::int as day, (hash(i + 3) % 1000)::int as level,
             ['a', 'b', 'c', 'd'][(1 + hash(i + 4) % 4)::int] as grade,
             (hash(i + 5) % 20000)::int as station from range({rows}) t(i)) to '{folder}/readings.parquet';
copy (select i::int as station, (hash(i) % 3000) / 7 as height, 'kind ' || hash(i) % 40 as kind from range(20000) t(i))
to '{folder}/stations.parquet'
"""


FREE = "Polars, all memory allowed,"
BUDGET = {"POLARS_OOC_MEMORY_BUDGET_MB": "1000"}
"""Its streaming engine spills beyond it."""
SETTINGS = {"DuckDB": "memory_limit 1 GB, as ours", "Spark": "heap 1200 MiB", "Polars": "memory budget 1000 MB"}


def _rows(folder: Path, count: int, rounds: int) -> list[Row]:
    import duckdb

    duckdb.sql(MAKE.format(rows=count, folder=folder))
    commit = _committed(folder)
    environment = {**os.environ, "TRILHA_ROOT": str(folder), "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def run(program: str, python: str = sys.executable, argument: str = str(folder), most: int = MEMORY) -> Sample:
        shutil.rmtree(folder / "state" / "artifacts", ignore_errors=True)
        shutil.rmtree(folder / "out.parquet", ignore_errors=True)
        _leave_cache(folder)
        command = [python, "-c", program, SQL, argument]
        if not most:
            return measure(command, cwd=folder, env=environment)
        return measure_within(most, command, cwd=folder, env=environment | BUDGET)

    runs = {
        "ours": lambda: run(OURS, argument=commit),
        "DuckDB": lambda: run(DUCKDB),
        "Spark": lambda: run(SPARK),
    }
    if peers := os.environ.get("TRILHA_PEERS"):
        runs["Polars"] = lambda: run(POLARS, peers)
        runs[FREE] = lambda: run(POLARS, peers, most=0)
    samples = interleave(runs, rounds)
    return [_told(samples, name, count) for name in samples if name != "ours"]


def _leave_cache(folder: Path) -> None:
    """What lies in the page cache is accounted to whoever read it first: let that be each by itself."""
    os.sync()
    for path in folder.rglob("*.parquet"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _committed(folder: Path) -> str:
    """The tables in a data store; returns the commit."""
    from components.workspace import open_workspace

    (folder / "config" / "projects").mkdir(parents=True)
    (folder / "config" / "profiles").mkdir()
    (folder / "config" / "profiles" / "bench.yaml").write_text(
        "state: state\nstore: {kind: git, path: state/data.git}\nsql: duckdb://?memory_limit=1GB\n"
    )
    os.environ["TRILHA_ROOT"] = str(folder)
    files = {f"bench/{table}/all.parquet": folder / f"{table}.parquet" for table in ("readings", "stations")}
    return open_workspace("bench").store.commit("main", files, message="rows", metadata={}, key="rows").id


def _told(samples: dict[str, list[Sample]], name: str, count: int) -> Row:
    ours, theirs = samples["ours"], samples[name]
    limit, ended = name == "DuckDB", next((sample.ended for sample in theirs if sample.ended), "")
    slower = math.nan if ended else ratio(ours, theirs)
    took = ended or f"{median(theirs):.1f} s"
    holds = "the kernel holds ours to it, and nothing the peer" if name == FREE else "the kernel holds both to it"
    return Row(
        question=f"features of {count:,} rows: join, aggregate, sort, split, in 2 GiB",
        ours=f"{median(ours):.1f} s, peak {max(sample.peak for sample in ours):.0f} MiB",
        limit=f"{name} {'alone, sorted to one file' if limit else 'to sorted files'} {took}"
        f", peak {median(theirs, 'peak'):.0f} MiB",
        ratio=slower,
        goal="the limit" if limit else "1.00",
        met=limit or bool(ended) or slower <= 1,
        note=f"{holds if ours[0].held else 'nothing held them to it'}"
        f"{f'; {SETTINGS[name]}' if name in SETTINGS else ''}; ours also checks every row, splits and profiles",
    )


if __name__ == "__main__":
    in_a_folder(_rows, ROWS, ROUNDS)
