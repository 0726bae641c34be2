"""The project `small` with its parcels from a stream, and what a test asks of one."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components import config
from components.ports import DataStore
from components.stream_log import Fed, history
from components.workspace import Workspace, open_workspace

COLUMNS = "{id: BIGINT, sent: DATE, city: VARCHAR, distance: DOUBLE, weight: DOUBLE, late: BIGINT}"
TOPIC = "parcels"


def feed_small(repository: Path, url: str, **more: object) -> Workspace:
    """Have the project `small` in `repository` take its parcels from the topic `parcels` at `url`."""
    settings = {"batch": {"rows": 100, "seconds": 0.3}, **more}
    stream = f"{{connection: sensors, topic: {TOPIC}, columns: {COLUMNS}, {json.dumps(settings)[1:-1]}}}"
    project = repository / "config" / "projects" / "small" / "project.yaml"
    lines = project.read_text().splitlines()
    at = next(index for index, line in enumerate(lines) if line.strip().startswith("parcels:"))
    lines[at] = f"  parcels: {{stream: {stream}}}"
    project.write_text("\n".join(lines) + "\n")
    profile = repository / "config" / "profiles" / "test.yaml"
    text = profile.read_text().partition("connections:")[0]
    profile.write_text(f"{text}connections: {{sensors: {{url: '{url}'}}}}\n")
    open_workspace.cache_clear()
    return open_workspace("test")


def parcel(number: int, **more: object) -> bytes:
    """One message."""
    day = f"2024-{1 + number // 100 % 12:02}-01"
    row = {"id": number, "sent": day, "city": "north", "distance": 1.5, "weight": None, "late": number % 2}
    return json.dumps(row | more).encode()


def held(store: DataStore, ref: str = "main", table: str = "parcels") -> pa.Table:
    """The rows of a table at `ref`."""
    parts = [pq.read_table(store.local(ref, entry.path)) for entry in store.ls(ref, f"small/{table}")]
    return pa.concat_tables(parts)


def ids(store: DataStore, ref: str = "main") -> list[int]:
    """The parcels at `ref`, in the order in which they lie."""
    return held(store, ref)["id"].to_pylist() if store.ls(ref, "small/parcels") else []


def letters(store: DataStore, project: str = "small") -> list[dict[str, Any]]:
    """The dead letters of a project."""
    if f"dead/{project}" not in store.branches("dead/"):
        return []
    entries = store.ls(f"dead/{project}", f"{project}.dead")
    return [row for entry in entries for row in pq.read_table(store.local(f"dead/{project}", entry.path)).to_pylist()]


def commits(store: DataStore) -> list[Fed]:
    """What the commits of the table say, oldest first."""
    return [fed for _, fed in history(store, "small", "parcels", TOPIC)][::-1]


def start(repository: Path, program: str = "", environment: Mapping[str, str] = {}) -> subprocess.Popen[bytes]:
    """`python -m flows.streaming small`, with the code of `program` before it."""
    code = f"{program}\nimport sys; sys.argv = ['streaming', 'small', '--profile', 'test']\nfrom flows.streaming import main; main()"
    log = (repository / "stream.log").open("ab")
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=repository, stdout=log, stderr=log, env=environment or None
    )


def wait_for(what: Any, seconds: float = 60.0) -> None:
    """Return once `what()` holds."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)


def expectations(repository: Path) -> Sequence[Any]:
    """Those on parcels."""
    assert repository.is_dir()
    return config.load_project("small").expectations["parcels"]
