"""`python -m flows.triggers --profile NAME`: the trigger service. `trilha up` starts it; a container may as well."""

from __future__ import annotations

import argparse
import sys


def main() -> None:
    """Serve until told to stop."""
    import uvicorn

    from components.errors import TrilhaError
    from components.workspace import open_workspace
    from flows.triggers.app import Service

    parser = argparse.ArgumentParser(prog="python -m flows.triggers")
    parser.add_argument("--profile", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=4300)
    given = parser.parse_args()
    try:
        app = Service(open_workspace(given.profile)).app()
    except TrilhaError as error:
        sys.exit(f"error: {error}")
    uvicorn.run(
        app,
        host=given.host,
        port=given.port,
        log_level="warning",
        access_log=False,  # `Authorization` is not in it, but neither is anything of use
        server_header=False,
        limit_concurrency=64,
        timeout_graceful_shutdown=5,
    )


if __name__ == "__main__":
    main()
