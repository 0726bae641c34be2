"""What every benchmark has in common: interleaved runs, ratios pair by pair, one row a question.

A benchmark is a program in this folder that ends with `report([...])`. `python benchmarks/NAME.py` prints its rows;
`python benchmarks/report.py` runs every program and writes the table into `docs/reference/benchmarks.md`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reference" / "benchmarks.md"


@dataclass(frozen=True, slots=True)
class Row:
    """One question and its answer. `ratio` is ours to the limit's or the peer's, the median over interleaved pairs."""

    question: str
    ours: str
    limit: str
    """What is physically possible, or the bare thing without Trilha, measured in the same rounds."""
    ratio: float
    """NaN where the peer came to no end."""
    goal: str
    met: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of a program: seconds by the wall, seconds of CPU, peak memory in MiB (the largest process)."""

    wall: float
    cpu: float
    peak: float
    held: bool = False
    """The kernel held it to the memory that it may take."""
    ended: str = ""
    """How it ended, where that was not well."""


def measure(command: Sequence[str], **options: object) -> Sample:
    """Run a program to its end, output dropped.

    Raises:
        subprocess.CalledProcessError: it failed; its output is in the error.
    """
    program = (
        "import resource, subprocess, sys, time\n"
        "clock = time.perf_counter()\n"
        "done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)\n"
        "wall, used = time.perf_counter() - clock, resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "sys.stderr.buffer.write(done.stdout)\n"
        "print(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)\n"
        "sys.exit(done.returncode)\n"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", program, *command], capture_output=True, text=True, check=False, **options
    )  # type: ignore[call-overload]  # options are subprocess.run's own
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, list(command), done.stdout, done.stderr)
    return Sample(*map(float, done.stdout.split()))


def measure_within(mebibytes: int, command: Sequence[str], **options: object) -> Sample:
    """Run a program that may take so much memory: it, all processes that it starts, and the files that they have in
    the page cache, of which the kernel takes back what it needs. There is no swap. The peak is of what cannot be taken
    back, all processes together, looked at 20 times a second.

    Where no control group can be made (another system than Linux, no right to), nothing holds it.
    """
    with _memory_group(mebibytes) as group:
        if group is None:
            return measure(command, **options)
        inside = ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(group), *command]
        seen, over, clock = [0.0], threading.Event(), time.perf_counter()
        looking = threading.Thread(target=_look, args=(group, seen, over))
        looking.start()
        try:
            found = measure(inside, **options)
            return Sample(found.wall, found.cpu, max(seen), held=True)
        except subprocess.CalledProcessError as error:
            wall = time.perf_counter() - clock
            last = (error.stderr.strip().splitlines() or [""])[-1][:160]
            ended = f"killed at {mebibytes} MiB" if _killed(group) else f"failed: {last}"
            return Sample(wall, math.nan, max(seen), held=True, ended=f"{ended} after {wall:.0f} s")
        finally:
            over.set()
            looking.join()


@contextmanager
def _memory_group(mebibytes: int) -> Iterator[Path | None]:
    """A control group of its own, of the kernel's first kind or the second; None where none can be made."""
    told, root, most = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"), str(mebibytes << 20)
    mine = dict(line.split(":", 2)[1:] for line in told.read_text().splitlines()) if told.exists() else {}
    if "memory" in mine:
        parent = root / "memory" / mine["memory"].lstrip("/")
        limits = {"memory.limit_in_bytes": most, "memory.memsw.limit_in_bytes": most}
    else:
        parent, limits = root, {"memory.max": most, "memory.swap.max": "0"}
    group = parent / f"trilha-bench-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        yield None
        return
    try:
        for name, limit in limits.items():
            (group / name).write_text(limit)
    except OSError:  # memory is not accounted here, or swap is not
        group.rmdir()
        yield None
        return
    try:
        yield group
    finally:
        while _end(group):  # a server that its client left behind
            time.sleep(0.05)
        group.rmdir()


def _end(group: Path) -> int:
    """Kill what there is in it; returns how many processes that were."""
    left = (group / "cgroup.procs").read_text().split()
    for process in left:
        with suppress(ProcessLookupError):
            os.kill(int(process), signal.SIGKILL)
    return len(left)


def _look(group: Path, seen: list[float], over: threading.Event) -> None:
    """Note what its processes hold in MiB, without the page cache, until it is over; one killed is the end of all."""
    while not over.wait(0.05):
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        seen.append(int(stat.get("total_rss") or stat["anon"]) / 2**20)
        if _killed(group):
            _end(group)


def _killed(group: Path) -> bool:
    """Whether the kernel killed one of its processes because there was no memory left."""
    told = next(path for name in ("memory.oom_control", "memory.events") if (path := group / name).exists())
    return int(dict(line.split() for line in told.read_text().splitlines()).get("oom_kill", 0)) > 0


def interleave(runs: Mapping[str, Callable[[], Sample]], rounds: int = 5) -> dict[str, list[Sample]]:
    """Every candidate in turn, round after round, after one round that does not count (it does where it is alone)."""
    samples: dict[str, list[Sample]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            sample = run()
            if number or not rounds:
                samples[name].append(sample)
    return samples


def median(samples: Sequence[Sample], what: str = "wall") -> float:
    """The median of one figure."""
    return statistics.median(getattr(sample, what) for sample in samples)


def ratio(ours: Sequence[Sample], theirs: Sequence[Sample], what: str = "wall") -> float:
    """The median of ours to theirs, pair by pair."""
    pairs = zip(ours, theirs, strict=True)
    return statistics.median(getattr(left, what) / getattr(right, what) for left, right in pairs)


def in_a_folder(rows_in: Callable[[Path, int, int], Sequence[Row]], rows: int, rounds: int) -> None:
    """Report what is measured in a folder of its own; `--rows` and `--rounds` ask for others than these."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=rows)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="trilha-bench-"))
    try:
        report(rows_in(folder, options.rows, options.rounds))
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error}\n{error.stderr}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def report(rows: Sequence[Row]) -> None:
    """Print rows: as a table, or as JSON with `--json`."""
    if "--json" in sys.argv:
        print(json.dumps([asdict(row) for row in rows]))
    else:
        print("\n".join(_table([asdict(row) for row in rows])))


def _table(rows: Sequence[Mapping[str, object]]) -> list[str]:
    lines = ["| question | Trilha | limit or peer | ratio | goal | met | note |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        times = "-" if math.isnan(ratio := float(str(row["ratio"]))) else f"{ratio:.2f}"
        cells = (row["question"], row["ours"], row["limit"], times, row["goal"])
        lines.append(f"| {' | '.join(map(str, cells))} | {'yes' if row['met'] else '**no**'} | {row['note']} |")
    return lines


def main() -> None:
    """Run every benchmark, or those named, and write the page."""
    programs = sorted(path for path in Path(__file__).parent.glob("*.py") if path != Path(__file__))
    wanted = [path for path in programs if not sys.argv[1:] or path.stem in sys.argv[1:]]
    rows: list[Mapping[str, object]] = []
    for path in wanted:
        clock = time.perf_counter()
        print(f"{path.stem} ...", file=sys.stderr, flush=True)
        command = [sys.executable, path, "--json"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, cwd=ROOT)
        if done.returncode:
            sys.exit(f"{path} failed with {done.returncode}")
        rows += json.loads(done.stdout.strip().splitlines()[-1])
        print(f"{path.stem} took {time.perf_counter() - clock:.0f} s", file=sys.stderr, flush=True)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.machine()}, Python {platform.python_version()}"
    lines = [
        "# Benchmarks",
        "",
        f"Made by `make bench` on {datetime.now(UTC):%Y-%m-%d}: {machine}. Medians of interleaved runs after one more;",
        "a ratio is taken pair by pair, so that a drift of the machine's speed does not count. The limit is the bare",
        "thing without Trilha, measured in the same rounds.",
        "",
        *_table(rows),
        "",
    ]
    if len(wanted) == len(programs):
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
