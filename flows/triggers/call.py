"""`python -m flows.triggers.call --profile NAME BRANCH`: tell the trigger service that a branch moved.

The git store's hook runs this. Whatever goes wrong is no failure: the service looks at the branches by itself, too.
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.request
from http.client import HTTPException

DEADLINE = 15.0
"""Seconds for the call; the one who pushed does not wait for it."""


def main() -> None:
    """Post the branch's name."""
    from components.errors import TrilhaError
    from components.workspace import open_workspace
    from flows.triggers.token import read_token

    parser = argparse.ArgumentParser(prog="python -m flows.triggers.call")
    parser.add_argument("--profile", required=True)
    parser.add_argument("branch")
    given = parser.parse_args()
    try:
        workspace = open_workspace(given.profile)
        request = urllib.request.Request(  # noqa: S310  # the profile's own URL
            f"{workspace.endpoint('triggers')}/hooks/git",
            json.dumps({"branch": given.branch}).encode(),
            {"Authorization": f"Bearer {read_token(workspace)}", "Content-Type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=DEADLINE).close()  # noqa: S310  # as above
    except (TrilhaError, OSError, HTTPException) as error:
        print(f"the trigger service was not told: {error}", file=sys.stderr)  # noqa: T201  # for who runs it by hand


if __name__ == "__main__":
    main()
