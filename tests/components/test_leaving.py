"""The quick end of a process: what a program can tell apart from Python's own is that it is quick."""

from __future__ import annotations

import subprocess
import sys

import pytest

BEGINNING = """
import atexit, sys, tempfile, threading, time
from components.leaving import run_and_leave
class Slow:
    def __del__(self):
        print("freed")
def main():
    global kept
    kept = Slow()
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", f"{BEGINNING}    {program}\nrun_and_leave(main)"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("return None", 0),
        ("return 3", 3),
        ("sys.exit()", 0),
        ("sys.exit(4)", 4),
        ("sys.exit('why')", 1),
        ("raise ValueError", 1),
    ],
)
def test_the_code(program: str, code: int) -> None:
    """Whatever `main` returns, exits with or raises, the exit code is Python's, and nothing is freed."""
    done = run(program)
    assert (done.returncode, done.stdout) == (code, "")
    assert ("ValueError" in done.stderr, "why" in done.stderr) == ("ValueError" in program, "why" in program)


def test_what_is_begun_is_ended() -> None:
    """Threads are waited for, what is registered is called, what is written is there."""
    done = run(
        "atexit.register(print, 'registered');"
        "threading.Thread(target=lambda: (time.sleep(0.2), print('thread'))).start(); sys.stdout.write('no newline ')"
    )
    assert (done.returncode, done.stdout) == (0, "no newline thread\nregistered\n")


def test_nobody_reads() -> None:
    """An output that is closed at the other end is no error at the end."""
    command = f"env -u PYTHONUNBUFFERED {sys.executable} -c '{BEGINNING}    print(1)\nrun_and_leave(main)' | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
