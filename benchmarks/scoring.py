"""What does a prediction for every row cost: 10 million rows from the data store to one commit of answers?

The limit is the same query, the same graph in ONNX Runtime on as many threads, and Parquet, and nothing else: no
receipts, no digests, no notes of what is done, no commit. It is fed as well as we know how: texts by their place. The
model: 200 trees of LightGBM behind imputation, scaling and one-hot encoding, 12 numbers and 4 texts in. Peers are what
people write first: pandas batch by batch, Spark's `mapInArrow` on this machine (`local[2]`, a session a process), and
one HTTP request a row (of the embedded Triton, on fewer rows).

`--rows 100000000` asks for more.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

from gateway import PROJECT, release_in, repository_in
from report import ROOT, Row, Sample, in_a_folder, interleave, measure, median, ratio
from triton import FEATURES, graphs_in, made_up, triton

from components.adapters.onnx_graphs import fuse
from components.adapters.onnx_scorer import by_places
from components.model_inputs import frame_to_tensors
from components.project import Serve
from components.serving import stand_by
from components.workspace import Workspace, open_workspace

ROWS, FEW = 10_000_000, 1_000_000
GOAL, FLAT = 0.9, 1.25
"""Of the limit's rate; and how much more memory ten times the rows may take."""
ROUNDS = 3
SINGLE = 2_000
"""Rows that are asked one by one."""

QUERY = f"select id, {', '.join(FEATURES)} from rows"

MAKE = """
SELECT i AS id, {texts}, {numbers} FROM range({first}, {last}) t(i)
"""

OURS = """
import sys
from flows.execute import execute, scoring_of
execute(scoring_of("bench", "bench", commit=sys.argv[1]), project="bench", profile="bench", engine="local")
"""

READ = """
import glob, sys
import duckdb
from components.adapters.onnx_scorer import AT_ONCE
def batches():
    connection = duckdb.connect()
    connection.execute("set threads = 1")
    files = sorted(glob.glob(sys.argv[1] + "/*.parquet"))
    query = sys.argv[2].replace("rows", f"read_parquet({files})")
    yield from connection.execute(query).fetch_record_batch(rows_per_batch=250_000)
"""

LIMIT = (
    READ
    + """
import numpy as np, onnxruntime as ort, pyarrow as pa, pyarrow.compute as pc, pyarrow.parquet as pq
from concurrent.futures import ThreadPoolExecutor
options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = ort.InferenceSession(sys.argv[3], options)
def one(work):
    number, batch = work
    given, words = {}, {}
    for name in batch.schema.names[1:]:
        column = batch[name]
        if name.startswith("text"):
            coded = column.dictionary_encode()
            words[name + ".words"] = coded.dictionary.to_numpy(zero_copy_only=False).reshape(-1, 1)
            given[name + ".places"] = coded.indices.to_numpy().astype(np.int64)
        else:
            given[name] = column.to_numpy(zero_copy_only=False).astype(np.float32).reshape(-1, 1)
    said = []
    for begin in range(0, len(batch), AT_ONCE):
        some = {name: array[begin:begin + AT_ONCE] for name, array in given.items()}
        said.append(session.run(["probability", "label"], words | some))
    probability, label = (np.concatenate(part).ravel() for part in zip(*said))
    made = pa.table({"id": batch["id"], "probability": probability, "label": label})
    pq.write_table(made, f"{sys.argv[4]}/{number}.parquet", compression="zstd", use_dictionary=["label"])
with ThreadPoolExecutor(2) as pool:
    waiting = []
    for work in enumerate(batches()):
        waiting.append(pool.submit(one, work))
        if len(waiting) > 2:
            waiting.pop(0).result()
    for rest in waiting:
        rest.result()
"""
)

PANDAS = (
    READ
    + """
import numpy as np, onnxruntime as ort, pandas as pd
session = ort.InferenceSession(sys.argv[3])
for number, batch in enumerate(batches()):
    frame = batch.to_pandas()
    given = {one.name: frame[one.name].to_numpy().reshape(-1, 1) for one in session.get_inputs()}
    given = {name: one if one.dtype == object else one.astype(np.float32) for name, one in given.items()}
    probability, label = session.run(["probability", "label"], given)
    frame[["id"]].assign(probability=probability, label=label).to_parquet(f"{sys.argv[4]}/{number}.parquet")
"""
)

SPARK = """
import os, sys
os.environ["PYSPARK_PYTHON"] = sys.executable
import numpy as np, pyarrow as pa
from pyspark.sql import SparkSession
session = (SparkSession.builder.master("local[2]").config("spark.driver.memory", "2g")
           .config("spark.ui.enabled", "false").config("spark.driver.bindAddress", "127.0.0.1")
           .config("spark.sql.execution.arrow.maxRecordsPerBatch", "131072")
           .config("spark.local.dir", sys.argv[4] + "/spark").getOrCreate())
path, opened = sys.argv[3], {}
def answer(batches):
    import onnxruntime as ort
    if path not in opened:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        opened[path] = ort.InferenceSession(path, options)
    for batch in batches:
        given = {}
        for one in opened[path].get_inputs():
            column = batch[one.name].to_numpy(zero_copy_only=False).reshape(-1, 1)
            given[one.name] = column if column.dtype == object else column.astype(np.float32)
        probability, label = opened[path].run(["probability", "label"], given)
        yield pa.RecordBatch.from_pydict(
            {"id": batch["id"], "probability": probability.ravel(), "label": label.ravel()})
session.read.parquet(sys.argv[1]).createOrReplaceTempView("rows")
made = session.sql(sys.argv[2]).mapInArrow(answer, "id long, probability float, label long")
made.write.parquet(sys.argv[4] + "/parquet")
session.stop()
"""


def _rows(folder: Path, count: int, rounds: int) -> list[Row]:
    graphs = graphs_in(folder)
    (folder / "fused.onnx").write_bytes(fuse(list(graphs.values())))
    import onnx

    onnx.save(by_places(onnx.load(folder / "fused.onnx")), folder / "places.onnx")
    with triton(folder):
        address, http = (f"127.0.0.1:{port}" for port in (folder / "ports").read_text().split()[:2])
        settings = {
            "triton": {"url": address, "http": http, "repository": str(folder / "models")},
            "gateway": {},
        }
        workspace = repository_in(folder, settings)
        (folder / "config" / "projects" / PROJECT / "features.sql").write_text(
            QUERY.replace("select id", "select id, 0 as late")
        )
        project = folder / "config" / "projects" / PROJECT / "project.yaml"
        project.write_text(project.read_text().replace("path: t.csv", "path: rows.parquet").replace("  t:", "  rows:"))
        open_workspace.cache_clear()
        release = release_in(workspace, graphs, Serve(golden=16))
        stand_by(workspace, release.bundle, PROJECT)
        single = _one_by_one(http, release.bundle.model)
    few, many = _table(workspace, folder / "few", FEW, "few"), _table(workspace, folder / "many", count, "many")
    environment = {**os.environ, "TRILHA_ROOT": str(folder), "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def run(program: str, *arguments: str) -> Sample:
        for left in ("ledger", "scoring"):
            shutil.rmtree(folder / "state" / left, ignore_errors=True)
        shutil.rmtree(folder / "out", ignore_errors=True)
        (folder / "out").mkdir()
        return measure([sys.executable, "-c", program, *arguments], cwd=folder, env=environment)

    paths = {name: str(folder / f"{name}.onnx") for name in ("places", "fused")}
    out = str(folder / "out")
    samples = interleave(
        {
            "ours": lambda: run(OURS, many),
            "limit": lambda: run(LIMIT, str(folder / "many"), QUERY, paths["places"], out),
            "few": lambda: run(OURS, few),
            "pandas": lambda: run(PANDAS, str(folder / "many"), QUERY, paths["fused"], out),
            "spark": lambda: run(SPARK, str(folder / "many"), QUERY, paths["fused"], out),
        },
        rounds,
    )
    return _told(samples, count, single)


def _told(samples: dict[str, list[Sample]], count: int, single: float) -> list[Row]:
    ours, limit, few, pandas, spark = (samples[name] for name in ("ours", "limit", "few", "pandas", "spark"))
    rate = 1 / ratio(ours, limit)
    peak, small = median(ours, "peak"), median(few, "peak")
    per_second = count / median(ours)
    return [
        Row(
            f"a prediction for each of {count:,} rows, whole process",
            f"{median(ours):.1f} s, {per_second:,.0f} rows/s, {median(ours, 'cpu'):.1f} s of CPU",
            f"query, ONNX Runtime and Parquet alone {median(limit):.1f} s, {median(limit, 'cpu'):.1f} s of CPU",
            rate,
            "90% of its rate",
            rate >= GOAL,
            f"{1 / ratio(ours, limit, 'cpu'):.0%} by CPU; receipts, digests, notes and the commit are ours alone",
        ),
        Row(
            f"its memory at {count:,} rows against {FEW:,}",
            f"{peak:.0f} MiB",
            f"{small:.0f} MiB; the limit's {median(limit, 'peak'):.0f} MiB",
            peak / small,
            "flat: 1.25 times",
            peak / small <= FLAT,
        ),
        _against("pandas, batch by batch", ours, pandas, count),
        _against("Spark's mapInArrow, `local[2]`, its JVM's start included", ours, spark, count),
        Row(
            "scoring against one HTTP request a row",
            f"{per_second:,.0f} rows/s",
            f"Triton, one client {single:,.0f} rows/s",
            per_second / single,
            "faster",
            per_second > single,
            f"measured on {SINGLE:,} rows",
        ),
    ]


def _against(peer: str, ours: list[Sample], theirs: list[Sample], count: int) -> Row:
    faster = ratio(theirs, ours)
    rates = [f"{count / median(one):,.0f} rows/s" for one in (ours, theirs)]
    return Row(f"{count:,} rows against {peer}", *rates, faster, "faster", faster > 1)


def _table(workspace: Workspace, folder: Path, count: int, tag: str) -> str:
    """The rows as Parquet files in a folder, and on a branch of the data store; returns its name."""
    import duckdb

    folder.mkdir()
    texts = ", ".join(f"'value' || (hash(i + {place}) % 12) AS text{place}" for place in range(4))
    numbers = ", ".join(f"(hash(i + {place}) % 4096 / 512.0 - 4)::DOUBLE AS number{place}" for place in range(10, 22))
    numbers = ", ".join(
        one.replace(f"number{10 + place}", f"number{place}") for place, one in enumerate(numbers.split(", "))
    )
    step = 2_000_000
    for first in range(0, count, step):
        query = MAKE.format(texts=texts, numbers=numbers, first=first, last=min(count, first + step))
        duckdb.sql(f"COPY ({query}) TO '{folder}/{first // step:04}.parquet' (COMPRESSION zstd)")
    workspace.store.branch(tag, "main")
    puts = {f"{PROJECT}/rows/{path.name}": path for path in sorted(folder.glob("*.parquet"))}
    workspace.store.commit(tag, puts, message="rows", metadata={}, key=tag)
    return tag


def _one_by_one(address: str, model: str) -> float:
    """Rows a second, by a request for each."""
    from tritonclient.http import InferenceServerClient, InferInput

    client = InferenceServerClient(address)
    tensors = frame_to_tensors(made_up(SINGLE), list(FEATURES))
    clock = time.perf_counter()
    for row in range(SINGLE):
        inputs = []
        for name, array in tensors.items():
            one = InferInput(name, [1, 1], "BYTES" if array.dtype == object else "FP32")
            one.set_data_from_numpy(array[row : row + 1])
            inputs.append(one)
        client.infer(model, inputs)
    return SINGLE / (time.perf_counter() - clock)


if __name__ == "__main__":
    in_a_folder(_rows, ROWS, ROUNDS)
