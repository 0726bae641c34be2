"""`python -m components STEP`: one node of a run, as a container does it.

Everything that is fixed when the DAG is compiled comes in `--call`; the records of the nodes before come one by one.
The record that the step returns goes to the file `--output` as JSON. The run itself has its record where the profile
keeps its state, so that `trilha runs`, `why` and `trail` know nodes done here like any others.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from components.attempts import attempt
from components.calls import PackedCall
from components.errors import TrilhaError
from components.records import to_json
from components.runs import Header, Run
from components.steps import STEPS
from components.workspace import open_workspace


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one node; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        _do(options)
    except TrilhaError as error:
        print(f"error: {error}", file=sys.stderr)
        if error.details:
            print(error.details, file=sys.stderr)
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m components", description=__doc__, allow_abbrev=False)
    parser.add_argument("step", choices=sorted(STEPS))
    parser.add_argument("--call", type=PackedCall.model_validate_json, required=True, help="the node, as JSON")
    parser.add_argument("--header", type=Header.model_validate_json, required=True, help="the run, as JSON")
    parser.add_argument("--record", nargs=2, action="append", default=[], metavar=("NODE", "JSON"))
    parser.add_argument("--output", type=Path, required=True, help="the file that the record goes to")
    return parser


def _do(options: argparse.Namespace) -> None:
    call: PackedCall = options.call
    run = Run(open_workspace(options.header.profile), options.header)
    outputs = {name: json.loads(record) for name, record in options.record}
    record = attempt(call, lambda: call.do(run, outputs))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(to_json(record)))


if __name__ == "__main__":
    sys.exit(main())
