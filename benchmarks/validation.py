"""What does validation cost: 10 million rows held to 20 expectations, all of which hold?

The limit is the same checks written by hand for Polars' streaming engine, in one pass: counts, and nothing else. Peers
are Great Expectations on pandas, and pandera on Polars. Polars and pandera run where `TRILHA_PEERS` names a Python that
has them. Ours yields Great Expectations' own result.

`--rows 1000000` asks for fewer.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from report import ROOT, Row, Sample, in_a_folder, interleave, measure, median, ratio

ROWS, ROUNDS = 10_000_000, 1
GOAL = 5.0
"""Times as fast as Great Expectations on pandas."""

MAKE = """
copy (select i as id, ['EWR', 'JFK', 'LGA'][(1 + hash(i) % 3)::int] as origin,
             ['AA', 'UA', 'DL', 'WN'][(1 + hash(i + 1) % 4)::int] as carrier,
             'N' || (10000 + hash(i + 2) % 90000) as tail,
             (hash(i + 3) % 24)::int as hour, (hash(i + 4) % 5000)::int as distance, (hash(i + 5) % 1000) / 7 as wind,
             case when i % 40 > 0 then (hash(i + 6) % 900)::int end as delay
      from range({rows}) t(i)) to '{path}'
"""

EXPECTATIONS = """
from components.project import Expectation
def expect(kind, column, **kwargs):
    return Expectation(type=f"expect_{kind}", kwargs={"column": column, **kwargs})
LISTED = [
    *(expect("column_values_to_not_be_null", name) for name in ("id", "origin", "carrier", "tail", "hour", "distance")),
    expect("column_values_to_be_unique", "id"),
    expect("column_values_to_be_in_set", "origin", value_set=["EWR", "JFK", "LGA"]),
    expect("column_values_to_be_in_set", "carrier", value_set=["AA", "UA", "DL", "WN"]),
    expect("column_values_to_match_regex", "tail", regex="^N[0-9]{5}$"),
    expect("column_value_lengths_to_be_between", "tail", min_value=6, max_value=6),
    expect("column_values_to_be_between", "hour", min_value=0, max_value=23),
    expect("column_values_to_be_between", "distance", min_value=0, max_value=5000),
    expect("column_values_to_be_between", "wind", min_value=0, max_value=200),
    expect("column_values_to_be_between", "delay", min_value=0, max_value=900),
    expect("column_mean_to_be_between", "delay", min_value=400, max_value=500),
    expect("column_max_to_be_between", "wind", max_value=200),
    expect("column_min_to_be_between", "distance", min_value=0),
    expect("column_distinct_values_to_equal_set", "origin", value_set=["EWR", "JFK", "LGA"]),
    Expectation(type="expect_table_row_count_to_be_between", kwargs={"min_value": 1}),
]
"""

OURS = (
    EXPECTATIONS
    + """
import sys, tempfile
from pathlib import Path
from components.adapters.great_expectations import check_files, suites
with tempfile.TemporaryDirectory() as scratch:
    suite = suites("bench", {"t": LISTED})["t"]
    assert check_files("t", suite, LISTED, [Path(sys.argv[1])], Path(scratch)).result.success
"""
)

PANDAS = (
    EXPECTATIONS
    + """
import sys
import pyarrow.parquet as pq
from components.adapters.great_expectations import check, suites
assert check("t", suites("bench", {"t": LISTED})["t"], LISTED, pq.read_table(sys.argv[1])).result.success
"""
)

POLARS = """
import sys
import polars as pl
c = pl.col
rows = pl.scan_parquet(sys.argv[1])
checks = [c(name).null_count() == 0 for name in ("id", "origin", "carrier", "tail", "hour", "distance")]
checks += [
    c("id").n_unique() == pl.len(), c("origin").is_in(["EWR", "JFK", "LGA"]).all(),
    c("carrier").is_in(["AA", "UA", "DL", "WN"]).all(), c("tail").str.contains("^N[0-9]{5}$").all(),
    (c("tail").str.len_chars() == 6).all(), c("hour").is_between(0, 23).all(), c("distance").is_between(0, 5000).all(),
    c("wind").is_between(0, 200).all(), c("delay").is_between(0, 900).all(), c("delay").mean().is_between(400, 500),
    c("wind").max() <= 200, c("distance").min() >= 0, c("origin").n_unique() == 3, pl.len() > 0,
]
asked = rows.select(check.alias(str(place)) for place, check in enumerate(checks))
assert all(asked.collect(engine="streaming").row(0))
"""

PANDERA = """
import sys
import pandera.polars as pa
import polars as pl
def column(*checks, **kwargs):
    return pa.Column(checks=list(checks), **kwargs)
schema = pa.DataFrameSchema({
    "id": column(unique=True), "origin": column(pa.Check.isin(["EWR", "JFK", "LGA"])),
    "carrier": column(pa.Check.isin(["AA", "UA", "DL", "WN"])),
    "tail": column(pa.Check.str_matches("^N[0-9]{5}$"), pa.Check.str_length(6, 6)),
    "hour": column(pa.Check.in_range(0, 23)), "distance": column(pa.Check.in_range(0, 5000)),
    "wind": column(pa.Check.in_range(0, 200)), "delay": column(pa.Check.in_range(0, 900), nullable=True),
})
schema.validate(pl.read_parquet(sys.argv[1]), lazy=True)
"""


def _rows(folder: Path, count: int, rounds: int) -> list[Row]:
    import duckdb

    path = folder / "rows.parquet"
    duckdb.sql(MAKE.format(rows=count, path=path))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TRILHA_ROOT": str(ROOT)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def run(program: str, python: str = sys.executable) -> Sample:
        return measure([python, "-c", program, str(path)], cwd=folder, env=environment)

    runs = {"ours": lambda: run(OURS), "Great Expectations on pandas": lambda: run(PANDAS)}
    if peers := os.environ.get("TRILHA_PEERS"):
        runs |= {"Polars by hand": lambda: run(POLARS, peers), "pandera on Polars": lambda: run(PANDERA, peers)}
    samples = interleave(runs, rounds)
    return [_told(samples, name, count) for name in samples if name != "ours"]


def _told(samples: dict[str, list[Sample]], name: str, count: int) -> Row:
    ours, theirs = samples["ours"], samples[name]
    slower = ratio(ours, theirs)
    share = {"Polars by hand": 1 / 0.9, "Great Expectations on pandas": 1 / GOAL}.get(name, 1.0)
    return Row(
        question=f"validation of {count:,} rows by 20 expectations, whole process",
        ours=f"{median(ours):.1f} s, {median(ours, 'cpu'):.1f} s of CPU, peak {median(ours, 'peak'):.0f} MiB",
        limit=f"{name} {median(theirs):.1f} s, {median(theirs, 'cpu'):.1f} s of CPU, "
        f"peak {median(theirs, 'peak'):.0f} MiB",
        ratio=slower,
        goal=f"{share:.2f}",
        met=slower <= share,
        note="ours yields Great Expectations' own result",
    )


if __name__ == "__main__":
    in_a_folder(_rows, ROWS, ROUNDS)
