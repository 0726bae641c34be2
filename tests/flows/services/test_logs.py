"""Reading a service's log."""

from __future__ import annotations

import threading
import time
from itertools import islice
from pathlib import Path

from flows.services.logs import follow, tail


def test_tail(tmp_path: Path) -> None:
    """The last lines, whatever bytes are in them; none where there is no log."""
    path = tmp_path / "log"
    path.write_bytes(b"one\ntwo \xff\nthree")
    assert tail(path, 2) == ["two \N{REPLACEMENT CHARACTER}", "three"]
    assert len(tail(path, 9)) == 3
    assert tail(tmp_path / "none", 9) == []


def test_follow(tmp_path: Path) -> None:
    """Only what is written from now on, in whole lines, and on through a log that is put aside."""
    path = tmp_path / "log"
    path.write_text("before\n")
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.extend(islice(follow(path, pause=0.01), 3)), daemon=True)
    reader.start()
    time.sleep(0.3)  # until it is at the end of the file
    with path.open("a") as writer:
        for text in ("fir", "st\nsec", "ond\n"):
            writer.write(text)
            writer.flush()
            time.sleep(0.05)
    path.replace(tmp_path / "log.1")
    path.write_text("third\n")
    reader.join(10)
    assert found == ["first", "second", "third"]
