"""`trilha export`: a servable straight from a file, without a release."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from flows.cli.app import app
from flows.cli.output import JsonOption, emit


@app.command()
def export(
    file: Annotated[
        Path,
        typer.Argument(
            help="A model or a servable: .onnx, .npz, .txt, .json, .ubj, .keras, .skops, .pt2.", metavar="file"
        ),
    ],
    name: Annotated[str, typer.Option("--name", help="The model's name.", metavar="<str>")],
    into: Annotated[Path, typer.Option("--into", help="The model repository.", metavar="<path>")],
    target: Annotated[
        Literal["auto", "full"], typer.Option("--target", help="Triton's Python backend, or its ONNX Runtime backend.")
    ] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Make a model that Triton can load of one file."""
    from components import config
    from components.standalone import standalone

    made = standalone(file, config.check_name(name, "model"), into, target)
    text = [
        f"{made.folder}",
        *(f"  takes   {tensor}: {kind}" for tensor, kind in made.inputs.items()),
        *(f"  yields  {tensor}: {kind}" for tensor, kind in made.outputs.items()),
        f"  differs from its framework's own answers by at most {made.difference:.1e}",
    ]
    emit(made, text, as_json=as_json)
