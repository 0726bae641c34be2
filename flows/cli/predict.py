"""`trilha predict`: ask the model that serves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.app import app
from flows.cli.output import JsonOption, ProfileOption, columns, emit
from flows.cli.run import ProjectArgument

if TYPE_CHECKING:
    from components.predict import AnyAnswer


LIKELIEST = 3
"""Classes whose probabilities a line shows; `--json` has them all."""


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
    table = [{"row": number, **_columns(answer)} for number, answer in enumerate(answers, start=1)]
    result = {
        "project": project,
        "release": release.number,
        "model": release.bundle.model,
        "target": release.prepared.target,
        "answers": answers,
    }
    what = f"{release.prepared.target} = 1" if release.prepared.task == "binary" else release.prepared.target
    text = [
        columns(table, list(table[0]) if table else ["row"]),
        f"(of {what}; release {release.number}, {release.bundle.model})",
    ]
    emit(result, text, as_json=as_json)


def _columns(answer: AnyAnswer) -> dict[str, Any]:
    """An answer as a line of a table: of many classes, the likeliest ones."""
    from components.predict import Answer, ClassAnswer

    if isinstance(answer, Answer):
        return {"probability": f"{answer.probability:.6f}", "label": answer.label}
    if isinstance(answer, ClassAnswer):
        ranked = sorted(answer.probabilities.items(), key=lambda item: -item[1])[:LIKELIEST]
        return {"label": answer.label, "probabilities": ", ".join(f"{name} {value:.4f}" for name, value in ranked)}
    return {"value": f"{answer.value:.6g}"}


def _parse(text: str, where: str) -> dict[str, Any]:
    from components.errors import ConfigError

    try:
        value = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{where}: not JSON: {error}", accepted='an object, {"column": value, ...}') from error
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: {type(value).__name__}", accepted='an object, {"column": value, ...}')
    return value


def _read(path: Path) -> list[dict[str, Any]]:
    from components.errors import ConfigError, NotFoundError

    if not path.is_file():
        raise NotFoundError(f"no file {path}", accepted="JSON lines (.jsonl) or Parquet (.parquet)")
    if path.suffix == ".jsonl":
        lines = path.read_text().splitlines()
        return [_parse(line, f"{path}:{number}") for number, line in enumerate(lines, start=1) if line.strip()]
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return rows
    raise ConfigError(f"{path}: {path.suffix or 'no'} suffix", accepted="JSON lines (.jsonl) or Parquet (.parquet)")
