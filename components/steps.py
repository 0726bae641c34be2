"""The steps by name: what a container's command line and a deployment's parameters may ask for, and nothing else."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, cast

from components.errors import NotFoundError

STEPS = {
    "adopt": "components.adopt:adopt",
    "champion": "components.champion:champion",
    "collect": "components.collect:collect",
    "deliver": "components.deliver:deliver",
    "evaluate": "components.evaluate:evaluate",
    "export": "components.export:export",
    "ingest": "components.ingest:ingest",
    "ingest_partition": "components.partitions:ingest_partition",
    "load": "components.load:load",
    "materialize": "components.online:materialize",
    "observe": "components.ingest:observe",
    "pick": "components.pick:pick",
    "prepare": "components.prepare:prepare",
    "propose": "components.search:propose",
    "publish": "components.publish:publish",
    "publish_partition": "components.partitions:publish_partition",
    "qualify": "components.qualify:qualify",
    "rank": "components.rank:rank",
    "register": "components.register:register",
    "release": "components.release:release",
    "score": "components.score:score",
    "select": "components.select:select",
    "train": "components.train:train",
    "validate": "components.validate:validate",
}
"""Step -> its function; imported when it is first needed."""

LOOKING = frozenset({"champion", "observe", "pick"})
"""Those that look and change nothing, so that a plan may do them, too."""


def step_named(name: str) -> Callable[..., Any]:
    """The function of a step.

    Raises:
        NotFoundError: there is no such step.
    """
    if name not in STEPS:
        raise NotFoundError(f"no step {name!r}", accepted=", ".join(STEPS))
    module, function = STEPS[name].split(":")
    return cast("Callable[..., Any]", getattr(importlib.import_module(module), function))
