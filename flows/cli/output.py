"""What every command has in common: `--profile`, `--json`, how results and errors are printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer

ProfileOption = Annotated[
    str, typer.Option("--profile", "-p", envvar="TRILHA_PROFILE", help="Where to run: config/profiles/NAME.yaml.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def emit(result: object, text: str | Iterable[str], *, as_json: bool) -> None:
    """Print `result` as JSON, or `text` (a string or lines) for people."""
    if as_json:
        from components.records import to_json

        print(json.dumps(to_json(result), indent=2, ensure_ascii=False))
    else:
        print(text if isinstance(text, str) else "\n".join(text))


def columns(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    """Rows as aligned columns with a heading."""
    cells = [list(names), *([str(row.get(name, "")) for name in names] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells)
    return "\n".join(lines)


def note(text: str) -> None:
    """Say what is going on, on standard error, so that standard output stays clean."""
    print(text, file=sys.stderr, flush=True)
