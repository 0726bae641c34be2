from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from components.workspace import Workspace
from tests.triton import FEATURES, Fitted, release_of

ROW = {"carrier": "UA", "origin": "JFK", "distance": 1400.5, "wind": 3, "hour": 17}


@pytest.fixture
def released(served: Workspace, fitted: Fitted) -> Path:
    """A repository whose project `flights` has a release."""
    release_of(served, fitted)
    return Path.cwd()


def trilha(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    program = "from flows.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, "predict", "flights", "--profile", "test", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
    )


def test_rows_are_answered(released: Path) -> None:
    """Each `--row` gets a probability and a label; the release and the model that answered are named."""
    done = trilha("--row", json.dumps(ROW), "--row", json.dumps({**ROW, "wind": None}), "--json", cwd=released)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["project"], result["release"], result["target"]) == ("flights", 1, "late")
    assert [set(answer) for answer in result["answers"]] == [{"probability", "label"}] * 2


def test_files_are_answered_alike(released: Path, fitted: Fitted) -> None:
    """Parquet and JSON lines of the same rows get the same answers, one line a row."""
    import pyarrow.parquet as pq

    shutil.copy(fitted.test, released / "rows.parquet")
    rows = pq.read_table(fitted.test).select(list(FEATURES)).to_pylist()
    (released / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    first, second = (trilha("--file", f"rows.{suffix}", cwd=released) for suffix in ("parquet", "jsonl"))
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    assert len(first.stdout.splitlines()) == len(rows) + 2


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "either --row JSON, once or more, or --file PATH"),
        (["--row", "{" ], 2, "--row 1: not JSON"),
        (["--row", "[1]"], 2, "--row 1: list; accepted: an object"),
        (["--row", "{}"], 2, "row 1: column 'carrier' is missing"),
        (["--file", "nothing.jsonl"], 3, "nothing.jsonl: No such file"),
        (["--file", "config/profiles/test.yaml"], 2, ".yaml suffix; accepted: JSON lines"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked(released: Path, arguments: list[str], code: int, message: str) -> None:
    """What is wrong with the question is said in one line."""
    done = trilha(*arguments, cwd=released)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.parquet", b"PAR1 and no more", "rows.parquet: Parquet magic bytes not found"),
        ("rows.parquet", b"", "rows.parquet: Parquet file size is 0 bytes"),
        ("rows.jsonl", b'{"hour": 17}\n{"carrier": "S\xe3o"}\n', "rows.jsonl:2: not UTF-8 at byte 27"),
        ("rows.jsonl", b'{"hour": 17}\n{"hour": }\n', "rows.jsonl:2: not JSON: Expecting value"),
        ("rows.jsonl", b"[" * 100_000, "rows.jsonl:1: not JSON: maximum recursion depth"),
        ("rows.jsonl", b"\n", "rows.jsonl: no rows; accepted: at least one row"),
    ],
)
def test_files_that_hold_no_rows(repository: Path, name: str, content: bytes, message: str) -> None:
    """A file that is broken, in another encoding or empty is named, before anything is asked."""
    (repository / name).write_bytes(content)
    done = trilha("--file", name, cwd=repository)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert f"error: {message}" in done.stderr
    assert "; next: " in done.stderr


def test_a_file_whose_reading_the_system_refuses(repository: Path) -> None:
    """Said as the system says it, in one line."""
    (repository / "rows.jsonl").symlink_to("/proc/self/mem")
    done = trilha("--file", "rows.jsonl", cwd=repository)
    assert (done.returncode, done.stdout) == (2, "")
    assert "rows.jsonl: Input/output error; accepted: a file that you may read" in done.stderr


def test_project_without_a_release(served: Workspace) -> None:
    """A project that was never released says how to get there; one that is none is told those that there are."""
    done = trilha("--row", "{}", cwd=Path.cwd())
    assert done.returncode == 3
    assert "no project 'flights'; accepted: none yet; next: create " in done.stderr
    (Path.cwd() / "config" / "projects" / "flights").mkdir()
    done = trilha("--row", "{}", cwd=Path.cwd())
    assert done.returncode == 3
    assert "project 'flights' has no release; next: trilha run flights" in done.stderr
