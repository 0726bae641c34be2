"""`python -m flows.engines.prefect_server`: Prefect's server, and beside it an eye on runs whose process was killed.

The eye is a thread of the server: whoever has a server on this machine has it, and it costs no process of its own.
"""

from __future__ import annotations

import argparse
import runpy
import sys
import threading
import time

from components.endpoints import spare_proxies

EVERY = 5.0
"""Seconds between two looks."""


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m flows.engines.prefect_server")
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    spare_proxies()
    api = f"http://{options.host}:{options.port}/api"
    threading.Thread(target=_watch, args=(api,), name="reaper", daemon=True).start()
    sys.argv = ["prefect", "server", "start", "--host", options.host, "--port", str(options.port)]
    runpy.run_module("prefect", run_name="__main__", alter_sys=True)


def _watch(api: str) -> None:
    """Mark, again and again, what says that it runs and does not."""
    time.sleep(EVERY)  # the server's own imports come first
    from prefect.client.orchestration import SyncPrefectClient

    from flows.engines.prefect_reaper import bury

    while True:
        try:
            with SyncPrefectClient(api) as client:
                while True:
                    for run in bury(client):
                        print(f"run {run.name}: its process is gone", flush=True)  # noqa: T201  # the service's log
                    time.sleep(EVERY)
        except Exception as error:  # noqa: BLE001  # the next look may see more, whatever it was
            print(f"cannot look after runs: {error!r}", flush=True)  # noqa: T201  # the service's log
            time.sleep(EVERY)


if __name__ == "__main__":
    main()
