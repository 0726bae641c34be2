"""The project that a page builds works as the page has it."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from textwrap import dedent

import nbformat
import pytest

from components.config import load_project
from components.errors import ConfigError
from components.predict import predict
from components.records import Release
from components.workspace import open_workspace
from flows.execute import execute, lifecycle_of
from flows.services import down, ensure

PAGE = (Path(__file__).parents[1] / "docs" / "how-to" / "bring-your-own-project.md").read_text()
BLOCKS = [dedent(block) for block in re.findall(r"(?:(?:^    .*)?\n)+", PAGE, re.MULTILINE) if block.strip()]


def block(part: str) -> str:
    """The page's one block of code that has `part` in it."""
    (found,) = (block for block in BLOCKS if part in block)
    return found.strip() + "\n"


@pytest.fixture
def bikes(repository: Path) -> Iterator[Path]:
    """A repository with the page's files, and a CSV file with the page's header."""
    folder = repository / "config" / "projects" / "bikes"
    for path in (folder, repository / "notebooks", repository / "data"):
        path.mkdir()
    (folder / "project.yaml").write_text(block("sources:"))
    (folder / "expectations.yaml").write_text(block("expect_column_values_to_be_unique"))
    (folder / "features.sql").write_text(block("from rentals"))
    cells = [nbformat.v4.new_code_cell(block('spec = ""'), metadata={"tags": ["parameters"]})]
    cells.append(nbformat.v4.new_code_cell(block("trial.start")))
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), repository / "notebooks" / "bikes.ipynb")
    write_rentals(repository / "data" / "rentals.csv", block("id,started").splitlines()[0])
    yield repository
    down(open_workspace("test"))


def write_rentals(path: Path, header: str, rows: int = 1_500) -> None:
    """Rentals from May to September 2024: members and warm days are late more often."""
    draw, lines = random.Random(7), [header]
    for number in range(rows):
        started = datetime(2024, 5, 1) + timedelta(minutes=number * 150 * 24 * 60 // rows)  # noqa: DTZ001  # local time
        member, temperature = draw.choice(["yes", "no"]), draw.uniform(-5, 35)
        late = draw.random() < 1 / (1 + math.exp(3 - temperature / 8 - 2 * (member == "yes")))
        lines.append(f"{number},{started},{draw.choice(['north', 'west'])},{member},{temperature:.1f},{int(late)}")
    path.write_text("\n".join(lines) + "\n")


def test_its_mistake_is_told_as_the_page_says(bikes: Path) -> None:
    """With the same file, line and key."""
    path = bikes / "config" / "projects" / "bikes" / "project.yaml"
    path.write_text(path.read_text().replace("target:", "targt:"))
    with pytest.raises(ConfigError) as caught:
        load_project("bikes")
    said = block("unknown key 'targt'").splitlines()[1].removeprefix("error: ").removesuffix(", ...")
    assert said in str(caught.value)


@pytest.mark.slow
def test_it_runs_and_answers_the_pages_row(bikes: Path) -> None:
    """From the CSV file to a release, and an answer for the row that the page asks with."""
    ensure(open_workspace("test"), ["mlflow", "triton"])
    made = execute(lifecycle_of("bikes", "test"), project="bikes", profile="test")
    assert isinstance(made, Release)
    kinds = {"station": "string", "member": "string", "temperature": "double", "hour": "bigint"}
    assert made.prepared.features == kinds
    row = json.loads(re.findall(r"--row '(.*)'", PAGE)[0])
    assert predict(open_workspace("test"), made, [row])[0].label in (0, 1)
