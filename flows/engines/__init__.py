"""The engines. Each is one function that schedules the nodes of a DAG and has `Run.apply` do them.

An engine gets the DAG and the run; it returns every node's record, and raises

    DagError      before anything runs, where a policy cannot be honoured
    TrilhaError   the first node's failure, once the nodes that do not need it have finished
"""

from __future__ import annotations

from collections.abc import Callable

from components.records import Record
from components.runs import Run
from flows.dag import Dag

Engine = Callable[[Dag, Run], dict[str, Record]]
