from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from typer.testing import CliRunner

from components.adapters.jupytext_pair import in_step
from components.errors import ConflictError
from flows.cli.notebook import notebook_app

ROOT = Path(__file__).parents[3]


def trilha(*arguments: str) -> str:
    return CliRunner().invoke(notebook_app, arguments, catch_exceptions=False).stdout


def change(path: Path, old: str, new: str) -> None:
    """Edit a file, so that it is newer than its pair."""
    path.write_text(path.read_text().replace(old, new))
    later = time.time() + 10
    os.utime(path, (later, later))


@pytest.mark.parametrize(
    "notebook", [*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("tests/*/notebooks/*.ipynb")], ids=lambda path: path.name
)
def test_every_notebook_and_its_script_are_in_step(notebook: Path) -> None:
    """Whoever changes one changes the other: `trilha notebook sync PROJECT`."""
    assert in_step(notebook)


def test_an_exported_notebook_is_a_plain_script(small: Path, tmp_path: Path) -> None:
    """It says nothing of notebooks beyond comments, compiles, and holds every code cell."""
    trilha("export", "small", "--to", str(tmp_path / "small_export.py"))

    text = (tmp_path / "small_export.py").read_text()
    assert text.startswith("# %% [markdown]\n# # Late parcels")
    compile(text, "small_export.py", "exec")
    for cell in nbformat.read(small / "notebooks" / "small.ipynb", 4).cells:
        assert cell.cell_type != "code" or cell.source in text
    assert trilha("export", "small").strip() == text.strip()


def test_an_exported_script_runs(tmp_path: Path, repository: Path, small: Path) -> None:
    """What does not need prepared data runs as any script does."""
    path = small / "notebooks" / "small.ipynb"
    notebook = nbformat.read(path, 4)
    notebook.cells = [*notebook.cells[:2], nbformat.v4.new_code_cell("print(strength + 1)")]
    nbformat.write(notebook, path)

    trilha("export", "small", "--to", str(tmp_path / "run.py"))

    done = subprocess.run([sys.executable, tmp_path / "run.py"], capture_output=True, text=True, check=True)
    assert done.stdout == "2.0\n"


def test_the_newer_of_a_pair_wins(small: Path) -> None:
    """An edit of the script reaches the notebook, and an edit of the notebook the script."""
    notebook, script = small / "notebooks" / "small.ipynb", small / "notebooks" / "small.py"

    change(script, "strength = 1.0", "strength = 2.0")
    trilha("sync", "small")
    assert "strength = 2.0" in notebook.read_text()

    time.sleep(0.01)
    change(notebook, "strength = 2.0", "strength = 3.0")
    os.utime(script, (1, 1))
    trilha("sync", "small")
    assert "strength = 3.0" in script.read_text()
    assert in_step(notebook)


def test_a_notebook_without_a_pair_gets_one(small: Path) -> None:
    """A new project needs no jupytext settings of its own."""
    notebook, script = small / "notebooks" / "small.ipynb", small / "notebooks" / "small.py"
    script.unlink()
    plain = nbformat.read(notebook, 4)
    del plain.metadata["jupytext"]
    nbformat.write(plain, notebook)

    trilha("sync", "small")

    assert script.is_file()
    assert in_step(notebook)


def test_check_changes_nothing_and_says_what_to_do(small: Path) -> None:
    """For continuous integration: a pair that differs is an error."""
    script = small / "notebooks" / "small.py"
    change(script, "strength = 1.0", "strength = 2.0")
    before = script.read_text()

    with pytest.raises(ConflictError, match="differ.*trilha notebook sync small"):
        trilha("sync", "small", "--check")

    assert script.read_text() == before
