"""What every command has in common: `--profile`, `--json`, how results and errors are printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
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


def save(path: Path, content: str | Path, option: str) -> None:
    """Write `content`, a text or a copy of a file, to the file that a user named with `option`.

    Raises:
        ConfigError: it cannot be written there.
    """
    import shutil

    from components.disk import is_full
    from components.errors import ConfigError

    try:
        if isinstance(content, Path):
            shutil.copyfile(content, path)
        else:
            path.write_text(content)
    except OSError as error:
        if is_full(error):  # which is said in one place for all that writes
            raise
        raise ConfigError(
            f"{path}: {error.strerror or error}",
            accepted="a file in a folder that is there and that you may write to",
            next_step=f"name another one with {option}",
        ) from error


def columns(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    """Rows as aligned columns with a heading."""
    cells = [list(names), *([str(row.get(name, "")) for name in names] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells)
    return "\n".join(lines)


def note(text: str) -> None:
    """Say what is going on, on standard error, so that standard output stays clean."""
    print(text, file=sys.stderr, flush=True)
