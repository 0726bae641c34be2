"""Where tables go beside the data store: `scoring.sinks` and `features.sinks` of project.yaml."""

from __future__ import annotations

from typing import Literal

from components.settings import Name, Settings


class Sink(Settings):
    """Where readers find the newest rows beside the data store: as a whole, under one name."""

    kind: Literal["delta", "online", "postgres", "redis"]
    """`online`: the profile's store of features, which is files of this machine, or its Redis."""
    connection: Name | None = None
    """Of the profile; `online` needs none."""
    table: Name | None = None
    """What it is called there; default: `PROJECT_features`, `PROJECT_scores`, `PROJECT_best` where rows are ranked."""


class FeatureTables(Settings):
    """Where the rows of `features.sql` go beside the notebook."""

    sinks: dict[Name, Sink] = {}
