"""The command line, put together from its modules; every error becomes one line and an exit code."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import typer

app = typer.Typer(
    name="trilha",
    help="From raw data to a served, watched model, and the whole trail back.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run `trilha`; a `TrilhaError` is printed as one line with its details below, or as JSON."""
    from components.disk import plainly
    from components.errors import TrilhaError

    try:
        with plainly(Path.cwd()):  # where it is not said nearer to what is written
            app()
    except TrilhaError as error:
        if "--json" in sys.argv:
            print(json.dumps(error.as_dict(), indent=2, ensure_ascii=False))
        else:
            print(f"error: {error}", file=sys.stderr)
            if error.details:
                print(error.details, file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("interrupted; what is done is in the ledger", file=sys.stderr)
        sys.exit(130)
