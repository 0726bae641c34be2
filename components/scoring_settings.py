"""What is predicted for everybody, and where the answers go: the section `scoring` of project.yaml."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

from components.schedule import Schedule
from components.settings import Name, Settings


class Sink(Settings):
    """Where readers find the newest night beside the data store: as a whole, under one name."""

    kind: Literal["delta", "postgres", "redis", "sqlite"]
    connection: Name | None = None
    """Of the profile; `sqlite` needs none: it is a file of this machine."""
    table: Name | None = None
    """What it is called there; default: `PROJECT_scores`."""


class Scoring(Settings):
    """How the DAG `scoring` answers for many rows at once."""

    rows: str | None = None
    """A query beside features.sql that yields the rows: their key and the model's inputs. Default: features.sql."""
    keep: tuple[str, ...] = ()
    """Columns of the query that stand beside the answers."""
    part: PositiveInt = Field(default=250_000, ge=1_000, le=10_000_000)
    """Rows in one file of the answers; what is done of a run that was killed is counted in those."""
    shards: PositiveInt = Field(default=1, le=64)
    """Nodes side by side, on machines of their own where the engine has some; each uses all cores of its machine."""
    through: Literal["onnxruntime", "triton"] = "onnxruntime"
    """What answers: ONNX Runtime in the step's own process, or the profile's Triton."""
    sinks: dict[Name, Sink] = {}
    schedule: Schedule | None = None
    """When it runs by itself; it takes the release that serves then, and the newest data."""


WHOLE = Scoring()
"""What holds for a project without the section."""
