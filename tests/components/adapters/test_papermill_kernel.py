from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import psutil
import pytest
from nbformat import v4

from components.adapters import papermill_kernel
from components.adapters.papermill_kernel import Executed, Order
from components.errors import ConfigError, GateError, TimeLimitError, TrilhaError

TIMEOUT = 30.0
MEMORY_MB = 1_000
EATER = "import time; held = bytearray(700_000_000); time.sleep(60)"


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Every test ends without a process that it started, the zygote apart, and the servers that tests share."""
    papermill_kernel.warm_up()
    before = set(psutil.Process().children())
    yield
    deadline = time.monotonic() + 5  # an executor answers just before it ends
    while (left := started(before)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not left


def started(before: set[psutil.Process]) -> list[psutil.Process]:
    """What this process has started since, and all that the zygote has."""
    zygote = psutil.Process(papermill_kernel.client._Zygote.running().process.pid)
    return [*(set(psutil.Process().children()) - before - {zygote}), *zygote.children(recursive=True)]


def order(folder: Path, *cells: str, timeout: float = TIMEOUT, memory_mb: int = MEMORY_MB, **parameters: int) -> Order:
    """A notebook of `cells`, and the order to execute it."""
    tagged = v4.new_code_cell("a = 1", metadata={"tags": ["parameters"]})
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = v4.new_notebook(
        cells=[v4.new_markdown_cell("# A title"), tagged, *map(v4.new_code_cell, cells)], metadata=metadata
    )
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, folder / "in.ipynb")
    return Order(folder / "in.ipynb", folder / "out.ipynb", folder / "out.html", parameters, timeout, memory_mb)


def execute(wanted: Order) -> Executed:
    with papermill_kernel.start(wanted) as running:
        return running.wait()


def printed(wanted: Order) -> str:
    """What the executed notebook printed."""
    cells = nbformat.read(wanted.output, 4).cells
    return "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))


def test_a_notebook_runs_with_its_parameters(tmp_path: Path) -> None:
    """Parameters are injected after their cell; outputs, pictures and a page that loads nothing from elsewhere."""
    wanted = order(tmp_path, "print(a + 1)", "import matplotlib.pyplot as plt\nplt.plot([1, 2]);", a=41)

    executed = execute(wanted)

    assert printed(wanted) == "42\n"
    page = wanted.page.read_text()
    assert "data:image/png" in page
    assert 'src="http' not in page
    assert 0 < executed.seconds < TIMEOUT
    assert executed.cpu_seconds > 0
    assert executed.peak_memory_mb > 50


def test_a_parameter_that_the_notebook_does_not_define_is_refused(tmp_path: Path) -> None:
    """A misspelt axis of the search would otherwise change nothing, silently."""
    with pytest.raises(ConfigError, match="no parameter 'rate'.*accepted: a"):
        execute(order(tmp_path, "print(a)", rate=1))


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """What goes wrong outside of cells, a disk for one, comes back as it is."""
    wanted = order(tmp_path, "print(a)")
    wanted.page.mkdir()

    with pytest.raises(TrilhaError, match=r"in.ipynb: IsADirectoryError.*out.html"):
        execute(wanted)


def test_a_cell_that_raises_is_named(tmp_path: Path) -> None:
    """The error says which cell and what it raised; the notebook up to there is kept, with its page."""
    wanted = order(tmp_path, "print('before')", "1 / 0", "print('after')")

    with pytest.raises(TrilhaError, match=r"in.ipynb, cell \[3\]: ZeroDivisionError: division by zero") as caught:
        execute(wanted)

    assert "1 / 0" in caught.value.details
    assert printed(wanted) == "before\n"
    assert "ZeroDivisionError" in wanted.page.read_text()


def test_trilhas_own_errors_keep_their_kind(tmp_path: Path) -> None:
    """A gate that refuses inside the notebook refuses outside."""
    with pytest.raises(GateError, match=r"cell \[2\]: parity off by 0.9"):
        execute(order(tmp_path, "from components.errors import GateError\nraise GateError('parity off by 0.9')"))


@pytest.mark.parametrize(
    "cell",
    ["import time\ntime.sleep(1000)", "while True: pass", "import ctypes\nctypes.CDLL(None).sleep(1000)"],
    ids=["sleeps", "spins", "in-c"],
)
def test_a_notebook_that_hangs_is_stopped_at_its_deadline(tmp_path: Path, cell: str) -> None:
    """Soon after the deadline it is over, and the notebook up to there is kept."""
    wanted = order(tmp_path, "print('before')", cell, timeout=1.5)
    started = time.monotonic()

    with pytest.raises(TimeLimitError, match=r"stopped at its deadline of 1.5 s"):
        execute(wanted)

    assert time.monotonic() - started < 10
    assert "before" in printed(wanted)


@pytest.mark.parametrize(
    "cell",
    [
        "import numpy as np\nheld = np.ones(10**9)",
        "held = []\nwhile True: held.append(bytearray(1000))",
        f"import subprocess\nsubprocess.run(['{sys.executable}', '-c', '{EATER}'])",
    ],
    ids=["one-array", "many-objects", "a-child"],
)
def test_a_notebook_that_eats_memory_is_stopped(tmp_path: Path, cell: str) -> None:
    """It is stopped near its limit, and said to be out of memory, whatever ate it."""
    wanted = order(tmp_path, "print('before')", cell, memory_mb=400)

    with pytest.raises(TrilhaError, match=r"cell \[3\]: out of memory: stopped at .* memory_mb is 400"):
        execute(wanted)

    assert printed(wanted) == "before\n"


def test_memory_is_counted_from_what_the_kernel_was_born_with(tmp_path: Path) -> None:
    """The libraries that the zygote imported are nobody's, so a modest notebook fits a modest limit."""
    execute(
        order(tmp_path, "import numpy as np\nheld = np.ones(5 * 10**6)", "import time\ntime.sleep(0.2)", memory_mb=150)
    )


@pytest.mark.parametrize(
    ("cell", "how"),
    [
        ("import ctypes\nctypes.string_at(0)", "by signal SIGSEGV"),
        ("import os\nos.abort()", "by signal SIGABRT"),
        ("import os\nos._exit(3)", "with exit code 3"),
    ],
    ids=["segfault", "abort", "exit"],
)
def test_a_kernel_that_dies_says_how_and_where(tmp_path: Path, cell: str, how: str) -> None:
    """A crash of the process is an error of the cell, and others are not touched by it."""
    with pytest.raises(TrilhaError, match=rf"cell \[2\]: DeadKernelError: the kernel died {how}") as caught:
        execute(order(tmp_path / "dies", cell))

    assert cell in caught.value.details
    execute(order(tmp_path / "lives", "print(1)"))


def test_what_a_notebook_starts_ends_with_it(tmp_path: Path) -> None:
    """Also a process in a session of its own, which its group's end would not reach."""
    wanted = order(
        tmp_path,
        "import subprocess\n"
        "child = subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
        "orphan = subprocess.run(['sh', '-c', 'sleep 1001 >&- & echo $!'], stdout=subprocess.PIPE, text=True)\n"
        "print(child.pid, orphan.stdout)",
    )

    execute(wanted)

    for pid in map(int, printed(wanted).split()):
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_nothing_of_one_notebook_is_seen_by_another(tmp_path: Path) -> None:
    """Variables, modules, environment, working directory and random state start the same."""
    leave = (
        "import os, sys, random, numpy, types\n"
        "sys.modules['left_behind'] = types.ModuleType('left_behind')\n"
        "os.environ['LEFT_BEHIND'] = '1'\n"
        "open('left_behind', 'w').close()\n"
        "random.seed(1); numpy.random.seed(1)\n"
        "a = 2"
    )
    look = (
        "import os, sys, random, numpy\n"
        "print(a, 'left_behind' in sys.modules, 'LEFT_BEHIND' in os.environ, os.listdir())\n"
        "print(random.random(), numpy.random.rand())"
    )
    execute(first := order(tmp_path / "first", look))
    execute(order(tmp_path / "middle", leave))
    execute(second := order(tmp_path / "second", look))

    assert printed(first).startswith("1 False False []")
    assert printed(second) == printed(first)


def test_notebooks_run_side_by_side_from_threads(tmp_path: Path) -> None:
    """Each gets its own parameters and its own files; none ends before all have begun."""
    meet = f"""
import pathlib, time
there = pathlib.Path({str(tmp_path)!r})
(there / f"{{a}}.begun").touch()
while len([*there.glob("*.begun")]) < 6:
    time.sleep(0.02)
"""
    wanted = [order(tmp_path / str(n), meet, "print(a)", a=n) for n in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(execute, wanted))
    assert [printed(one) for one in wanted] == [f"{n}\n" for n in range(6)]


def test_a_running_event_loop_is_no_hindrance(tmp_path: Path) -> None:
    """Prefect calls steps from threads that have a loop, and from ones that have none."""
    wanted = order(tmp_path, "print(a)")

    async def inside() -> None:
        execute(wanted)

    asyncio.run(inside())
    assert printed(wanted) == "1\n"


def test_leaving_the_block_ends_the_execution(tmp_path: Path) -> None:
    """A run that gives up takes its notebook with it: `nothing_left_behind` would find it."""
    with papermill_kernel.start(order(tmp_path, "import time\ntime.sleep(1000)")):
        time.sleep(1)


def test_a_notebook_imports_what_lies_beside_it(tmp_path: Path) -> None:
    """As in JupyterLab, the notebook's folder comes first on the path; its working directory is a scratch folder."""
    wanted = order(tmp_path, "import beside\nprint(beside.value)")
    (tmp_path / "beside.py").write_text("value = 7\n")

    execute(wanted)

    assert printed(wanted) == "7\n"


def test_a_killed_run_leaves_no_process(tmp_path: Path) -> None:
    """`kill -9` of the run ends zygote, executors, kernels and what they started, and frees their scratch folders."""
    order(tmp_path, "import os, subprocess, time\nsubprocess.Popen(['sleep', '1002'])\ntime.sleep(1000)")
    code = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from pathlib import Path\n"
        "from components.adapters import papermill_kernel as kernels\n"
        "place = Path(sys.argv[1])\n"
        "with kernels.start(kernels.Order(place / 'in.ipynb', place / 'o.ipynb', place / 'o.html', {}, 600, 1000)) as it:\n"
        "    it.wait()"
    )
    with tempfile.TemporaryDirectory() as scratch:  # a short path: in a long one, no Unix socket could lie
        environment = {**os.environ, "TMPDIR": scratch}
        run = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), *sys.path], env=environment)
        processes = until(lambda: _family(run.pid), 60)
        assert list(Path(scratch).glob("trilha-trial-*"))

        os.kill(run.pid, signal.SIGKILL)
        run.wait()

        until(lambda: not [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE], 10)
        until(lambda: not list(Path(scratch).glob("trilha-trial-*")), 5)


def test_a_run_that_ends_at_once_does_not_leave_the_warm_process_importing(tmp_path: Path) -> None:
    """A run which found everything in its ledger is not followed by seconds of imports."""
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "from components.adapters.papermill_kernel import client\n"
        "client.warm_up(); print(client._Zygote.running().process.pid)"
    )
    done = subprocess.run([sys.executable, "-c", code, *sys.path], stdout=subprocess.PIPE, text=True, check=True)
    until(lambda: not psutil.pid_exists(int(done.stdout)), 8)


def _family(pid: int) -> list[psutil.Process]:
    """All below `pid`, once the notebook's own child is among them."""
    below = psutil.Process(pid).children(recursive=True)
    return below if any(child.name() == "sleep" for child in below) else []


def until(condition, seconds: float):
    """What `condition` yields as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found
