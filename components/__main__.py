"""`python -m components STEP`: one node of a run, as a container does it.

Everything that is fixed when the DAG is compiled comes in `--call`; the records of the nodes before come one by one.
The record that the step returns goes to the file `--output` as JSON. The run itself has its record where the profile
keeps its state, so that `trilha runs`, `why` and `trail` know nodes done here like any others.

An orchestrator that starts a container again after each failure is told no twice: what no second attempt can end
otherwise fails again at once, with the same error.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components import kubeflow_outputs
from components.attempts import attempt, deadline, worth_retrying
from components.calls import PackedCall
from components.errors import TrilhaError, rebuilt
from components.leaving import run_and_leave
from components.records import Record, to_json
from components.runs import NodeState, Run, RunLog, header_of, id_of
from components.steps import STEPS
from components.workspace import open_workspace

RETRIES = "TRILHA_RETRIES"
"""`here`: nobody starts this container again, so it makes the attempts that the policy allows by itself."""

STORED = "$stored"
"""The key of the object that stands for a long record: a command line has an end."""
LONG = 16 * 1024
"""Characters of JSON from which a record is long."""


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
    parser.add_argument("--dag", required=True)
    parser.add_argument("--project", required=True)
    parser.add_argument("--profile", required=True)
    parser.add_argument("--run", default="", help="the run's id; empty: made of the next two")
    parser.add_argument("--created", default="", help="when the orchestrator's run was made, ISO 8601")
    parser.add_argument("--job", default="", help="the orchestrator's own id of the run")
    parser.add_argument("--record", nargs=2, action="append", default=[], metavar=("NODE", "JSON"))
    parser.add_argument("--output", type=Path, required=True, help="the file that the record goes to")
    parser.add_argument("--artifact", nargs=2, action="append", default=[], metavar=("NAME", "PATH"))
    parser.add_argument("--summary", type=Path, help="the file that Kubeflow reads what artifacts are from")
    return parser


def _do(options: argparse.Namespace) -> None:
    call: PackedCall = options.call
    workspace = open_workspace(options.profile)
    name = options.run or id_of(options.project, options.created, options.job)
    header, log = header_of(name, options.dag, options.project, options.profile, "kubeflow"), RunLog(workspace)
    earlier = log.node(header.id, call.name)
    final = _final(call, earlier)
    begun = earlier.attempts if earlier else 0
    run = Run(workspace, header, attempts={call.name: begun + 1 if final else begun})
    if final:
        run.fail(call, final)
        raise final
    try:
        outputs = {need: _read(log, header.id, json.loads(text)) for need, text in options.record}
        record = _attempted(call, run, outputs)
    except Exception as error:
        run.fail(call, error)
        raise
    if options.summary:
        paths = {artifact: Path(path) for artifact, path in options.artifact}
        kubeflow_outputs.write(workspace, record, paths, options.summary)
    text = json.dumps(to_json(record))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(text if len(text) < LONG else json.dumps({STORED: call.name}))


def _final(call: PackedCall, earlier: NodeState | None) -> TrilhaError | None:
    """What this node failed with before in the round of attempts that is going on, if another cannot end otherwise.

    After as many attempts as the policy allows, a person has asked for one more: that is a new round.
    """
    if earlier is None or earlier.failure is None or earlier.attempts % (call.policy.retries + 1) == 0:
        return None
    error = rebuilt(earlier.failure)
    return None if worth_retrying(error) else error


def _attempted(call: PackedCall, run: Run, outputs: dict[str, Any]) -> Record:
    if os.environ.get(RETRIES) == "here":
        return attempt(call, lambda: call.do(run, outputs))
    with deadline(call):
        return call.do(run, outputs)


def _read(log: RunLog, run: str, record: Any) -> Any:
    """A record as JSON; a long one is on the run's record."""
    if isinstance(record, dict) and record.keys() == {STORED}:
        state = log.node(run, record[STORED])
        assert state is not None
        return state.output
    return record


if __name__ == "__main__":
    run_and_leave(main)
