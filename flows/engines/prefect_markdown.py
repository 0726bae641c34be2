"""Markdown for Prefect's pages: what is in the data shows as it is, whatever it looks like."""

from __future__ import annotations

import re
from collections.abc import Sequence


class Markdown(str):
    """A cell that is Markdown already; any other is plain text, whatever is in the data."""

    __slots__ = ()


def plain(text: str) -> str:
    """Text that shows as it is."""
    return re.sub(r"([\\`*_\[\]<>~#|])", r"\\\1", text)


def unmarked(text: str) -> str:
    """A heading of ours without its marks."""
    return re.sub(r"\\(.)", r"\1", text.replace("`", ""))


def short(text: str, limit: int = 80) -> str:
    """Text that fits into a table's cell."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def block(text: str) -> str:
    """Lines to copy; Prefect's page cuts long ones off where they are not a block."""
    return f"```\n{text}\n```"


def link(text: str, url: str | None) -> Markdown:
    """A link, or its text alone where there is nothing to link to."""
    return Markdown(f"[{text}]({url})" if url else text)


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    cells = [[cell if isinstance(cell, Markdown) else plain(cell) for cell in line] for line in (heading, *rows)]
    cells.insert(1, ["---"] * len(heading))
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
