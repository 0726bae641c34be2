"""`trilha stream start | status | stop | replay`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.output import JsonOption, ProfileOption, columns, emit, note
from flows.cli.run import ProjectArgument

if TYPE_CHECKING:
    from components.stream_settings import Stream
    from components.workspace import Workspace

stream_app = typer.Typer(help="Tables that topics of Kafka or Redis feed.", no_args_is_help=True)


@stream_app.command()
def start(
    project: ProjectArgument,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="In the background.")] = False,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Of loopback, for Prometheus; default: a free one.")
    ] = 0,
    profile: ProfileOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Feed the project's tables until `trilha stream stop`, from where the newest commit of each ends."""
    from components import config
    from components.workspace import open_workspace
    from flows import streaming

    workspace = open_workspace(profile)
    streams = streaming.streams_of(config.load_project(project))
    if detach:
        state = streaming.detach(workspace, project, port)
        log = streaming.log_path(workspace, project)
        words = f"process {state.pid} feeds {', '.join(streams)}; metrics: {state.metrics}; log: {log}"
        emit(state, words, as_json=as_json)
        return
    streaming.run(workspace, project, port, note)
    emit({"project": project, "ended": "stopped"}, "stopped", as_json=as_json)


@stream_app.command()
def status(project: ProjectArgument, profile: ProfileOption = "local", as_json: JsonOption = False) -> None:
    """Say whether the project's streams run here, how far each table is, and what is left."""
    from components import config
    from components.workspace import open_workspace
    from flows import streaming

    workspace = open_workspace(profile)
    streams = streaming.streams_of(config.load_project(project))
    tables = [_table(workspace, project, table, settings) for table, settings in streams.items()]
    process = streaming.read(workspace, project)
    alive = process is not None and process.alive
    words = "not running here" if process is None else "running" if alive else process.ended or "killed"
    where = f", process {process.pid}, metrics: {process.metrics}" if alive and process else ""
    lines = [f"{project}: {words}{where}"]
    names = ["table", "topic", "batches", "messages", "lag", "late", "dead", "refused", "newest event", "committed"]
    lines.append(columns(tables, names))
    lines += [f"{one['table']}: {one['trouble']}" for one in tables if one["trouble"]]
    state = {"state": "running" if alive else "stopped", "process": process if alive else None, "said": words}
    emit({"project": project, **state, "tables": tables}, lines, as_json=as_json)


@stream_app.command()
def stop(project: ProjectArgument, profile: ProfileOption = "local", as_json: JsonOption = False) -> None:
    """Have the project's process on this machine end after the batch in hand."""
    from components import config
    from components.workspace import open_workspace
    from flows import streaming

    config.load_project(project)
    stopped = streaming.stop(open_workspace(profile), project)
    emit({"stopped": stopped}, "stopped" if stopped else "it did not run here", as_json=as_json)


@stream_app.command()
def replay(
    project: ProjectArgument,
    table: Annotated[str, typer.Argument(help="A table of the project that is fed by a stream.")],
    path: Annotated[str, typer.Argument(help="CSV, JSON lines or Parquet, as a table's `path` in project.yaml.")],
    null: Annotated[str, typer.Option("--null", help="The text that stands for a missing value in CSV.")] = "",
    speed: Annotated[
        float | None,
        typer.Option("--speed", min=0, help="Seconds of event time in a second; default: as fast as it goes."),
    ] = None,
    profile: ProfileOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Write the rows of a file to a table's topic, one message each, as sensors would."""
    from components import config
    from components.errors import ConfigError, nearest
    from components.stream_replay import replay as play
    from components.workspace import open_workspace
    from flows.streaming import streams_of

    workspace = open_workspace(profile)
    streams = streams_of(config.load_project(project))
    if table not in streams:
        raise ConfigError(f"no stream feeds {table!r}{nearest(table, streams)}", accepted=", ".join(streams))
    sent = play(workspace, table, streams[table], path, null, speed)
    emit({"sent": sent}, f"{sent:,} messages to topic {streams[table].topic}", as_json=as_json)


def _table(workspace: Workspace, project: str, table: str, settings: Stream) -> dict[str, Any]:
    """How a table stands: what its commits say, and what the server has beyond them."""
    from components.errors import TrilhaError
    from components.stream import open_topic
    from components.stream_log import history

    found = list(history(workspace.store, project, table, settings.topic))
    sums = {name: sum(getattr(fed, name) for _, fed in found) for name in ("messages", "late", "dead")}
    row: dict[str, Any] = {
        "table": table,
        "topic": settings.topic,
        "batches": found[0][1].number if found else 0,
        **sums,
        "lag": None,
        "refused": sum(fed.refused is not None for _, fed in found),
        "branches": [fed.refused for _, fed in found if fed.refused],
        "newest event": (found[0][1].newest or "") if found else "",
        "offsets": found[0][1].next if found else {},
        "commit": found[0][0].id if found else "",
        "committed": found[0][0].created if found else "",
        "trouble": "",
    }
    try:
        topic = open_topic(workspace, settings)
        try:
            row["lag"] = topic.lag(row["offsets"] or topic.start(settings.begin))
        finally:
            topic.close()
    except TrilhaError as error:
        row["trouble"] = str(error)
    return row
