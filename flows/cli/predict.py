"""`trilha predict`: ask the model that serves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli.app import app
from flows.cli.output import JsonOption, ProfileOption, columns, emit
from flows.cli.run import ProjectArgument


@app.command()
def predict(
    project: ProjectArgument,
    row: Annotated[
        list[str] | None, typer.Option("--row", help="One row as a JSON object; give it again for more.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="Rows as JSON lines (.jsonl) or Parquet (.parquet).")
    ] = None,
    profile: ProfileOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Ask the model that serves: the newest release's bundle, on a real Triton."""
    from components import config
    from components.errors import ConfigError
    from components.predict import predict as ask
    from components.releases import newest
    from components.workspace import open_workspace

    config.check_name(project, "project")
    if bool(row) == bool(file):
        raise ConfigError("predict", accepted="either --row JSON, once or more, or --file PATH")
    rows = _read(file) if file else [_parse(text, f"--row {number}") for number, text in enumerate(row or [], start=1)]
    workspace = open_workspace(profile)
    release = newest(workspace.store, project)
    answers = ask(workspace, release, rows)
    table = [
        {"row": number, "probability": f"{answer.probability:.6f}", "label": answer.label}
        for number, answer in enumerate(answers, start=1)
    ]
    result = {
        "project": project,
        "release": release.number,
        "model": release.bundle.model,
        "target": release.prepared.target,
        "answers": answers,
    }
    text = [
        columns(table, ["row", "probability", "label"]),
        f"(of {release.prepared.target} = 1; release {release.number}, {release.bundle.model})",
    ]
    emit(result, text, as_json=as_json)


def _parse(text: str, where: str) -> dict[str, Any]:
    from components.errors import ConfigError

    accepted, next_step = (
        'an object, {"column": value, ...}',
        "see the example on the page that `trilha show PROJECT` names",
    )
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: not JSON: {error}", accepted=accepted, next_step=next_step) from error
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: {type(value).__name__}", accepted=accepted, next_step=next_step)
    return value


def _read(path: Path) -> list[dict[str, Any]]:
    from components.errors import ConfigError

    if path.suffix == ".jsonl":
        rows = _lines(path)
    elif path.suffix == ".parquet":
        rows = _parquet(path)
    else:
        raise ConfigError(
            f"{path}: {path.suffix or 'no'} suffix",
            accepted="JSON lines (.jsonl) or Parquet (.parquet)",
            next_step="name it by what is in it",
        )
    if not rows:
        raise ConfigError(f"{path}: no rows", accepted="at least one row", next_step="look at what wrote it")
    return rows


def _lines(path: Path) -> list[dict[str, Any]]:
    from components.given import read_text

    lines = read_text(path).split("\n")
    return [_parse(line, f"{path}:{number}") for number, line in enumerate(lines, start=1) if line.strip()]


def _parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from components.errors import ConfigError
    from components.given import read_bytes

    content = read_bytes(path)
    try:
        rows: list[dict[str, Any]] = pq.read_table(pa.BufferReader(content)).to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:  # whichever part of the file is not as it should be
        words = str(error).splitlines()[0].removeprefix("Could not open Parquet input source '<Buffer>': ")
        raise ConfigError(
            f"{path}: {words}", accepted="a Parquet file", next_step="write it again, or give JSON lines"
        ) from error
    return rows
