"""`trilha`, the command. Modules here import nothing heavy at the top: `trilha --help` has to be quick."""

from __future__ import annotations

from components.leaving import run_and_leave
from flows.cli import (  # noqa: F401  # importing a module registers its commands
    backfill,
    export,
    gc,
    parity,
    predict,
    recommend,
    releases,
    run,
    schema,
    score,
    serve,
    services,
    tune,
)
from flows.cli.app import app, main
from flows.cli.data import data_app
from flows.cli.kubeflow import kubeflow_app
from flows.cli.notebook import notebook_app
from flows.cli.prefect import prefect_app
from flows.cli.rollout import rollout_app
from flows.cli.serve import keys_app
from flows.cli.stream import stream_app
from flows.cli.triggers import triggers_app

app.add_typer(data_app, name="data")
app.add_typer(keys_app, name="keys")
app.add_typer(kubeflow_app, name="kubeflow")
app.add_typer(notebook_app, name="notebook")
app.add_typer(prefect_app, name="prefect")
app.add_typer(rollout_app, name="rollout")
app.add_typer(stream_app, name="stream")
app.add_typer(triggers_app, name="triggers")

__all__ = ["main", "program"]


def program() -> None:
    """The command as it is installed."""
    run_and_leave(main)
