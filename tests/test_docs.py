"""What the pages name is there: other pages, their headings, and commands with their options."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from flows.cli import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "deploy" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@pages
def test_links(page: Path) -> None:
    """A link that is no address of the web leads to a file, and to a heading in it where it names one."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        name, _, heading = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), target
        assert not heading or heading in headings(there), target


@pages
def test_commands(page: Path) -> None:
    """Every `trilha ...` is a command that there is, and takes the options that it is shown with."""
    for words in commands(page.read_text()):
        command = get_command(app)
        while words and words[0][0] != "-" and (known := getattr(command, "commands", None)):
            name = words.pop(0)
            assert name in known, f"trilha: {name} {words}"
            command = known[name]
        options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        assert {word.partition("=")[0] for word in words if word.startswith("-")} <= options, words


def test_every_page_is_in_the_index() -> None:
    """docs/README.md leads to every page beside it."""
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / target).resolve() for target in re.findall(r"\]\(([^)\s#]+)\)", index.read_text())}
    assert {page for page in PAGES if page.is_relative_to(index.parent)} - {index} <= linked


def headings(page: Path) -> set[str]:
    """The headings of a page, as links name them."""
    titles = re.findall(r"^#+ +(.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).lower().replace(" ", "-") for title in titles}


def commands(text: str) -> Iterator[list[str]]:
    """The words behind each `trilha` in code, up to what ends a command; namespaces and folders are called so, too."""
    blocks = re.findall(r"^(?:    |\t).+$", text, re.MULTILINE)
    for code in [*blocks, *re.findall(r"`([^`]+)`", text)]:
        for found in re.finditer(r"(?<!namespace )(?<!-n )(?<![\w/:.-])trilha +([^|;&#()`\n]+)", code):
            yield found[1].split()
