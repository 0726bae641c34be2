"""Where nodes run: a project's `placement` names pools, a profile says which pools it has.

A profile without a pool runs the step like any other, so that a project which asks for one runs on a laptop unchanged.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import groupby

from components.profile import Profile
from flows.dag import Dag, Node


def pools_of(profile: Profile, engine: str) -> Collection[str]:
    """The pools that `engine` can send a node to."""
    return {"kubeflow": profile.kubeflow.pools.keys(), "prefect": profile.pools}.get(engine, ())


def elsewhere(dag: Dag, pools: Collection[str]) -> dict[str, Node]:
    """The nodes that run on one of `pools`, by name."""
    return {node.name: node for node in dag.nodes if node.pool in pools}


def notes(dag: Dag, profile: Profile, name: str, engine: str) -> list[str]:
    """One line for each pool that nodes of `dag` ask for and the profile `name` does not have for `engine`."""
    pools = pools_of(profile, engine)
    wanting = sorted((node.pool, node.step.__name__) for node in dag.nodes if node.pool and node.pool not in pools)
    return [
        f"{', '.join(dict.fromkeys(step for _, step in steps))}: profile {name!r} has no pool {pool!r} for engine "
        f"{engine}; runs where other steps do"
        for pool, steps in groupby(wanting, key=lambda pair: pair[0])
    ]
