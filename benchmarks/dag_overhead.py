"""What does an empty seven-step DAG cost as a whole process: the first time, unchanged, and with an output deleted?

The limit is a Python process that imports what a step needs (pydantic) and calls seven functions; the peer is Prefect's
own flow of seven tasks against the same server that is up.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from report import Row, Sample, interleave, measure, median, ratio, report

PROFILE = "state: .trilha/bench\nstore: {kind: git, path: .trilha/bench/data.git}\n"

STEPS = """
from components.records import Artifact, Record
from components.workspace import open_workspace

class Count(Record):
    value: int
    file: Artifact

def first(profile: str) -> Count:
    return write(profile, 0)

def following(profile: str, before: Count) -> Count:
    return write(profile, before.value + 1)

def write(profile: str, value: int) -> Count:
    with open_workspace(profile).output() as out:
        (out.folder / "value").write_text(str(value))
        return Count(value=value, file=out.publish()["value"])

def seven(do):
    count = do(first, "bench")
    for index in range(6):
        count = do.named(f"following-{index}")(following, "bench", count)
    return count
"""

RUN = """
import sys
sys.path.insert(0, sys.argv[2])
import steps
from flows.dag import trace
from flows.execute import execute
states = []
execute(trace(steps.seven), project="bench", profile="bench", engine=sys.argv[1], watch=states.append)
ended = [state.status for state in states if state.status != "running"]
assert ended == sys.argv[3].split(","), ended
"""

BARE = """
import pydantic
class Count(pydantic.BaseModel):
    value: int
count = Count(value=0)
for _ in range(6):
    count = Count(value=count.value + 1)
"""

PREFECT = """
import sys
from prefect import flow, task
@task
def first(): return 0
@task
def following(before): return before + 1
@flow
def seven():
    count = first()
    for _ in range(6):
        count = following(count)
seven()
"""


def main() -> None:
    """Measure in a repository of its own."""
    folder = Path(tempfile.mkdtemp(prefix="trilha-bench-"))
    (folder / "config" / "projects").mkdir(parents=True)
    (folder / "config" / "profiles").mkdir()
    (folder / "config" / "profiles" / "bench.yaml").write_text(PROFILE)
    (folder / "steps.py").write_text(STEPS)
    import os

    os.environ["TRILHA_ROOT"] = str(folder)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # users' machines write byte code; so does `make setup`
    from components.workspace import open_workspace
    from flows.services import down, ensure

    workspace = open_workspace("bench")
    ensure(workspace, ["prefect"])
    os.environ["PREFECT_API_URL"] = workspace.endpoint("prefect").rstrip("/").removesuffix("/api") + "/api"
    try:
        report(_rows(folder, workspace.home))
    finally:
        down(workspace)
        shutil.rmtree(folder, ignore_errors=True)


def _rows(folder: Path, home: Path) -> list[Row]:
    def fresh() -> None:
        for name in ("ledger", "artifacts", "runs"):
            shutil.rmtree(home / name, ignore_errors=True)

    def ours(engine: str, expected: str) -> Sample:
        return measure([sys.executable, "-c", RUN, engine, str(folder), expected], cwd=folder)

    def empty(engine: str) -> Sample:
        fresh()
        return ours(engine, ",".join(["done"] * 7))

    def unchanged(engine: str) -> Sample:
        return ours(engine, ",".join(["found"] * 7))

    def deleted(engine: str) -> Sample:
        newest = max((home / "artifacts").iterdir(), key=lambda path: path.stat().st_mtime_ns)
        shutil.rmtree(newest)
        return ours(engine, ",".join(["found"] * 6 + ["done"]))

    samples = interleave(
        {
            "bare": lambda: measure([sys.executable, "-c", BARE]),
            "prefect alone": lambda: measure([sys.executable, "-c", PREFECT]),
            **{f"empty {engine}": (lambda engine=engine: empty(engine)) for engine in ("local", "prefect")},
            "again local": lambda: unchanged("local"),
            "again prefect": lambda: unchanged("prefect"),
            "deleted": lambda: deleted("local"),
        }
    )
    goals = {"empty local": 0.8, "empty prefect": 3.2, "again local": 0.9, "again prefect": 3.0}
    words = {"empty": "empty seven-step DAG", "again": "unchanged second run of it"}
    bare, peer = median(samples["bare"]), median(samples["prefect alone"])
    rows = [
        Row(
            question=f"{words[name.split()[0]]}, engine {name.split()[1]}, whole process",
            ours=f"{median(samples[name]):.2f} s",
            limit=f"pydantic and seven calls {bare:.2f} s; Prefect's own flow {peer:.2f} s",
            ratio=ratio(samples[name], samples["bare" if name.endswith("local") else "prefect alone"]),
            goal=f"{goal} s",
            met=median(samples[name]) <= goal,
        )
        for name, goal in goals.items()
    ]
    made_again = Row(
        question="an output was deleted, then a second run",
        ours=f"made again, {median(samples['deleted']):.2f} s",
        limit=f"unchanged run {median(samples['again local']):.2f} s",
        ratio=ratio(samples["deleted"], samples["again local"]),
        goal="made again, always",
        met=True,  # a run that did not make it again fails this program
    )
    return [*rows, made_again]


if __name__ == "__main__":
    main()
