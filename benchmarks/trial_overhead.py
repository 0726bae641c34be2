"""What does one trial's notebook cost beyond its cells' own time?

The cells' own time is that of the same code in a fresh process, after its imports. The peer is stock papermill, which
starts a kernel for each notebook, and makes no page of it as ours does.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
import papermill
from nbformat import v4
from report import Row, Sample, interleave, median, report

from components.adapters import papermill_kernel

CELLS = (
    "import lightgbm, numpy, pandas",
    "draw = numpy.random.default_rng(0)\nrows = pandas.DataFrame(draw.normal(size=(20_000, 10)))\nlate = rows[0] > 0",
    "model = lightgbm.LGBMClassifier(n_estimators=trees, n_jobs=1, verbose=-1).fit(rows.to_numpy(), late)",
    "rows.describe()",
    "print(model.predict_proba(rows.to_numpy())[:3])",
)
PARAMETERS = {"trees": 50}


def write_notebook(path: Path) -> Path:
    """The cells, as a notebook with a cell for parameters."""
    tagged = v4.new_code_cell("trees = 10", metadata={"tags": ["parameters"]})
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    cells = [v4.new_markdown_cell("# A trial"), tagged, *map(v4.new_code_cell, CELLS)]
    nbformat.write(v4.new_notebook(cells=cells, metadata=metadata), path)
    return path


def timed(call: Callable[[], object]) -> Sample:
    """The wall clock of one call."""
    clock = time.perf_counter()
    call()
    return Sample(time.perf_counter() - clock, 0.0, 0.0)


def bare() -> Sample:
    """The cells as plain code in a fresh process; the first one, which imports, is not counted."""
    script = "\n".join(["trees = 50", CELLS[0], "import time", "clock = time.perf_counter()", *CELLS[1:]])
    command = [sys.executable, "-c", f"{script}\nprint(time.perf_counter() - clock)"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Sample(float(done.stdout.split()[-1]), 0.0, 0.0)


def ours(notebook: Path, folder: Path) -> None:
    """The cells in a kernel forked from the warm process, with the page."""
    order = papermill_kernel.Order(notebook, folder / "ours.ipynb", folder / "ours.html", PARAMETERS, 60.0, 4_096)
    with papermill_kernel.start(order) as running:
        running.wait()


def stock(notebook: Path, folder: Path) -> None:
    """The cells by papermill as it comes."""
    papermill.execute_notebook(notebook, folder / "stock.ipynb", PARAMETERS, progress_bar=False)


with tempfile.TemporaryDirectory() as place:
    folder = Path(place)
    notebook = write_notebook(folder / "trial.ipynb")
    samples = interleave(
        {
            "ours": lambda: timed(lambda: ours(notebook, folder)),
            "bare": bare,
            "stock": lambda: timed(lambda: stock(notebook, folder)),
        },
        rounds=9,
    )

beyond = {
    name: [sample.wall - own.wall for sample, own in zip(samples[name], samples["bare"], strict=True)]
    for name in ("ours", "stock")
}
overhead = {name: statistics.median(values) for name, values in beyond.items()}
report(
    [
        Row(
            question="one trial's notebook, beyond its cells' own time",
            ours=f"{overhead['ours']:.2f} s",
            limit=f"stock papermill {overhead['stock']:.2f} s; the cells alone take {median(samples['bare']):.2f} s",
            ratio=statistics.median(x / y for x, y in zip(beyond["ours"], beyond["stock"], strict=True)),
            goal="0.3 s",
            met=overhead["ours"] <= 0.3,
            note="forked kernel, parameters, outputs, HTML page",
        )
    ]
)
