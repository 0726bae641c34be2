"""Lines by a pattern: what matches is a row, what does not is counted, and refused beyond the share that is accepted."""

from __future__ import annotations

import gzip
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from components.errors import ConfigError, GateError, TrilhaError
from components.ingest import ingest, observe
from components.ledger import running_as
from components.records import Commit
from components.source_settings import LogTable
from components.tables import sources_of
from components.workspace import Workspace, open_workspace

PATTERN = r"(?P<ip>\S+) \[(?P<at>[^\]]+)\] \"(?P<asked>[^\"]*)\" (?P<status>\d{3}) ?(?P<size>\d+)?"
LINE = '10.0.0.1 [2024-01-01 00:00:0%d] "GET /%d" 200 12\n'


def write(repository: Path, text: str | bytes, name: str = "a.log") -> None:
    (repository / "logs").mkdir(exist_ok=True)
    (repository / "logs" / name).write_bytes(text.encode() if isinstance(text, str) else text)


def run(path: str = "logs/*", pattern: str = PATTERN, **settings: Any) -> Commit:
    sources = {"hits": LogTable.model_validate({"path": path, "pattern": pattern, **settings})}
    with running_as("1" * 64):
        return ingest("shop", "test", sources, observe("shop", "test", sources))


def read(commit: Commit) -> list[dict[str, Any]]:
    return pq.read_table(open_workspace("test").store.local(commit.id, "shop/hits/data.parquet")).to_pylist()


def refused(error: type[TrilhaError], **settings: Any) -> str:
    with pytest.raises(error) as caught:
        run(**settings)
    assert "table 'hits'" in str(caught.value)
    return str(caught.value)


def test_groups_are_columns(workspace: Workspace, repository: Path) -> None:
    """In the order of files and lines; a group that took no part is a missing value; declared types are made."""
    write(repository, gzip.compress((LINE % (2, 2)).encode()), "b.log.gz")
    write(repository, LINE % (1, 1) + '\n10.0.0.2 [2024-01-01 00:00:00] "" 404\r\n')
    rows = read(run(columns={"status": "SMALLINT", "size": "BIGINT", "at": "TIMESTAMP"}))
    assert [(row["asked"], row["status"], row["size"]) for row in rows] == [
        ("GET /1", 200, 12), (None, 404, None), ("GET /2", 200, 12),
    ]  # fmt: skip
    assert str(rows[0]["at"]) == "2024-01-01 00:00:01"


def test_lines_that_do_not_match(workspace: Workspace, repository: Path) -> None:
    """None is accepted unless said; beyond the share that is, the first one is named; within, the commit has the count."""
    write(repository, (LINE % (1, 1)) * 98 + "what is this\n" + b"\xff\xfe\n".decode("latin-1") + LINE % (1, 1))
    assert "logs/a.log, line 99: 'what is this' does not match" in refused(GateError)
    assert "nor do 1 more of 101 lines" in refused(GateError, unmatched=0.01)
    commit = run(unmatched=0.02)
    assert commit.tables == {"hits": 99}
    (stamp,) = sources_of(workspace.store, commit.id, "shop")["hits"]
    assert stamp.stamp.endswith("; 2 of 101 lines do not match `pattern` and are left out")


@pytest.mark.parametrize("pattern", ["(?P<a>x", "(?P<a>x)(y)", "(?P<a>(?=x))"])
def test_a_pattern_that_is_none(workspace: Workspace, repository: Path, pattern: str) -> None:
    write(repository, "x\n")
    assert "`pattern`" in refused(ConfigError, pattern=pattern)


def test_a_pattern_without_names() -> None:
    with pytest.raises(ValueError, match="named groups"):
        LogTable(path="x", pattern=r"(\S+)")


def test_files_that_are_no_lines(workspace: Workspace, repository: Path) -> None:
    """No end of line in a megabyte, and nothing but empty lines."""
    write(repository, "x" * 3_000_000)
    assert "line 1: longer than 1,048,576 bytes" in refused(GateError)
    write(repository, "\n\n")
    assert "no lines" in refused(GateError)


def test_a_pattern_that_others_never_come_back_from(workspace: Workspace, repository: Path) -> None:
    """Time grows with the line, not with its powers."""
    write(repository, "a" * 100_000 + "!\n")
    start = time.perf_counter()
    assert "does not match" in refused(GateError, pattern="(?P<x>(?:a+)+)")
    assert time.perf_counter() - start < 5
