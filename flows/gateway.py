"""`python -m flows.gateway --profile NAME`: the gateway. `trilha up gateway` starts it; a container may as well."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from components.workspace import Workspace


def run(workspace: Workspace, host: str, port: int, projects: Sequence[str] = ()) -> None:
    """Serve until told to stop; a Triton of ours that dies is started again, and gets what the manifests say.

    What derives from a release that the gateway promoted is moved by a process of its own: MLflow's client takes
    seconds to import, and requests would wait for them.
    """
    from components.errors import UnavailableError
    from components.gateway.serve import serve
    from flows.readiness import make_ready

    def revive() -> None:
        make_ready(workspace, ["triton"], _say)

    def settle(project: str) -> None:
        program = "from flows.cli import main; main()"
        command = [sys.executable, "-c", program, "reconcile", project, "--profile", workspace.name]
        done = subprocess.run(command, stdout=sys.stderr, check=False)
        if done.returncode:
            raise UnavailableError("not all that follows from it is done", next_step=f"trilha reconcile {project}")

    serve(workspace, host, port, projects, revive, settle)


def main() -> None:
    """Serve until told to stop."""
    from components.errors import TrilhaError
    from components.workspace import open_workspace

    parser = argparse.ArgumentParser(prog="python -m flows.gateway")
    parser.add_argument("--profile", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("projects", nargs="*")
    given = parser.parse_args()
    try:
        run(open_workspace(given.profile), given.host, given.port, given.projects)
    except TrilhaError as error:
        sys.exit(f"error: {error}")


def _say(text: str) -> None:
    """A line for `trilha logs gateway`."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201  # standard error is the service's log


if __name__ == "__main__":
    main()
