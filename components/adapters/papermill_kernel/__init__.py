"""Notebooks by papermill, with kernels that are forked from a warm process instead of started anew.

Four processes, each in its own module:

    run      `client`   asks for executions, waits, turns what went wrong into Trilha's errors
     zygote  `zygote`   imported everything that notebooks need, once; forks, and does nothing else
      executor `executor` one execution: papermill with our engine, the deadline, the HTML page
       kernel `kernel`  one IPython kernel: the notebook's own code, alone in its process group and memory limit

A socket leads from the run to each executor. Its end on either side ends everything below: nothing is left behind by a
run that is killed, and nothing by a notebook that starts processes of its own.
"""

from __future__ import annotations

from components.adapters.papermill_kernel.client import Executed, Order, start, warm_up

__all__ = ["Executed", "Order", "start", "warm_up"]
