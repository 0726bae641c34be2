"""`trilha export`: a servable straight from a file, or a release for a user's own device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from flows.cli.app import app
from flows.cli.output import JsonOption, ProfileOption, emit


@app.command()
def export(
    what: Annotated[
        str,
        typer.Argument(
            help="A model or a servable (.onnx, .npz, .txt, .json, .ubj, .keras, .skops, .pt2, a SavedModel's folder); "
            "for edge, a project.",
            metavar="file|project",
        ),
    ],
    name: Annotated[str | None, typer.Option("--name", help="The model's name.", metavar="<str>")] = None,
    into: Annotated[Path | None, typer.Option("--into", help="The model repository.", metavar="<path>")] = None,
    target: Annotated[
        Literal["auto", "full", "edge"],
        typer.Option("--target", help="Triton's Python backend, its ONNX Runtime backend, or a user's own device."),
    ] = "auto",
    to: Annotated[
        Path | None, typer.Option("--to", help="edge: the folder to make; default: PROJECT-RELEASE-edge.")
    ] = None,
    release: Annotated[int | None, typer.Option("--release", help="edge: default is the one that serves.")] = None,
    web: Annotated[
        Path | None, typer.Option("--web", help="edge: the npm package onnxruntime-web; default: in node_modules here.")
    ] = None,
    profile: ProfileOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Make a model that Triton can load of one file, or one file for a user's own device of a release."""
    from components.errors import ConfigError

    others = {"--name": name, "--into": into} if target == "edge" else {"--to": to, "--release": release, "--web": web}
    stray = next((option for option, value in others.items() if value is not None), None)
    if stray is not None:
        raise ConfigError(f"export: {stray} with --target {target}", accepted="see trilha export --help")
    if target == "edge":
        _edge(what, to, release, web, profile, as_json=as_json)
    elif name is None or into is None:
        raise ConfigError("export", accepted="FILE --name NAME --into FOLDER, or PROJECT --target edge")
    else:
        _standalone(Path(what), name, into, target, as_json=as_json)


def _standalone(file: Path, name: str, into: Path, target: str, *, as_json: bool) -> None:
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


def _edge(project: str, to: Path | None, number: int | None, web: Path | None, profile: str, *, as_json: bool) -> None:
    from components import config
    from components.edge import export_edge
    from components.releases import newest, release_number
    from components.workspace import open_workspace

    file, workspace = config.load_project(project).file, open_workspace(profile)
    found = release_number(workspace.store, project, number) if number else newest(workspace.store, project)
    near = Path("node_modules", "onnxruntime-web")
    folder = to or Path(f"{project}-{found.number}-edge")
    card = export_edge(workspace, found, file.title, file.edge, folder, web or (near if near.is_dir() else None))
    cost = card.costs[card.taken.weights]
    text = [
        f"{folder}: {project}/{found.number}, {card.size:,} bytes, weights {card.taken.weights}: {card.taken.why}",
        *(f"  not {one.weights} ({one.size:,} bytes): {one.why}" for one in card.weights if not one.taken),
        f"  {card.metric} {card.taken.value:.4f} on {card.rows:,} rows, {card.taken.lost:.4g} lost",
        f"  {cost.cpu_ms:.3g} ms of CPU a prediction, {cost.memory / 1e6:.1f} MB of memory, on one core",
        f"  try it: python3 -m http.server --bind 127.0.0.1 --directory {folder} 8000",
    ]
    if card.web is None:
        text.append(f"  before: npm install onnxruntime-web, in {folder}")
    emit({"folder": str(folder), "card": card}, text, as_json=as_json)
