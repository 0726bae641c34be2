"""The command line, put together from its modules; every error becomes one line and an exit code."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from components.errors import TrilhaError

INTERRUPTED = 130

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
            code = app(prog_name="trilha", standalone_mode=False)
    except typer.TyperException as error:
        code = _say(_misused(error))
    except TrilhaError as error:
        code = _say(error)
    if code == INTERRUPTED:
        print("interrupted; what is done is in the ledger", file=sys.stderr)
    sys.exit(code)


def _say(error: TrilhaError) -> int:
    """Print an error for whoever reads it; returns its exit code."""
    if "--json" in sys.argv:
        print(json.dumps(error.as_dict(), indent=2, ensure_ascii=False))
    else:
        print(f"error: {error}", file=sys.stderr)
        if error.details:
            print(error.details, file=sys.stderr)
    return error.exit_code


def _misused(error: Any) -> TrilhaError:
    """A command line that typer refuses, as an error of ours: what is wrong, what the command takes, where to look."""
    from components.errors import ConfigError, nearest

    context, words = error.ctx, error.format_message()
    if context is None:  # an option without its value, or with one that it does not take
        return ConfigError(f"trilha: {words}", accepted="what --help says of it", next_step="put --help in its place")
    path, commands = context.command_path, getattr(context.command, "commands", {})
    taken, details = ", ".join(commands) or context.get_usage().removeprefix("Usage: "), ""
    if words == context.get_help():  # a group of commands by itself
        words, details = "no command", words
    elif hasattr(error, "possibilities"):
        options = [name for one in context.command.get_params(context) for name in one.opts if name.startswith("--")]
        close = nearest(error.option_name.strip("-"), [name.strip("-") for name in options])
        words, taken = f"no option {error.option_name}{close}", ", ".join(options)
    elif hasattr(error.__cause__, "errors"):  # pydantic's, of a value
        from components.accepted import accepted

        fault = error.__cause__.errors()[0]
        words, taken = f"{error.param.get_error_hint()} is {fault['input']!r}", accepted(fault)
    problem = f"{path}: {words[:1].lower()}{words[1:].removesuffix('.')}"
    return ConfigError(problem, accepted=taken, next_step=f"{path} --help", details=details)
