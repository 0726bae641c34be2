"""A notebook and its script: the same cells as `.ipynb` and as `.py`, by jupytext."""

from __future__ import annotations

from pathlib import Path
from typing import Any

PAIRED = "ipynb,py:percent"
"""jupytext's formats of a pair; notebooks say so in their metadata, and JupyterLab's extension keeps to it."""


def script(notebook: Path) -> str:
    """The notebook as a plain Python script: text as comments, outputs left out."""
    import jupytext

    read = jupytext.read(notebook)
    read.metadata = {"jupytext": {"notebook_metadata_filter": "-all"}}  # no header about how it was made
    return str(jupytext.writes(read, fmt="py:percent"))


def sync(notebook: Path) -> Path:
    """Bring the script beside the notebook in step, or the notebook where the script is newer; returns the script.

    Outputs in the notebook stay with the cells that have not changed.
    """
    import jupytext
    from jupytext.cli import jupytext as command

    if "formats" not in jupytext.read(notebook).metadata.get("jupytext", {}):
        command(["--quiet", "--set-formats", PAIRED, str(notebook)])
    command(["--quiet", "--sync", str(notebook)])
    return notebook.with_suffix(".py")


def in_step(notebook: Path) -> bool:
    """Whether the script beside the notebook has the same cells."""
    import jupytext

    beside = notebook.with_suffix(".py")
    return beside.is_file() and _cells(jupytext.read(notebook)) == _cells(jupytext.read(beside))


def _cells(notebook: Any) -> list[tuple[str, str, list[str]]]:
    return [(cell.cell_type, cell.source.strip(), cell.metadata.get("tags", [])) for cell in notebook.cells]
