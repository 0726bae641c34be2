"""What is predicted for everybody, and where the answers go: the section `scoring` of project.yaml."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

from components.schedule import Schedule
from components.settings import Name, Settings
from components.sink_settings import Sink


class Rank(Settings):
    """The best of each: households and products, say."""

    by: str
    """A column of the query, which is kept: whose best."""
    item: str
    """Another one: what is ranked, by the answer's number."""
    best: PositiveInt = Field(default=20, le=1_000)
    """How many."""


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
    rank: Rank | None = None
    """What is delivered is the best of each, and for everybody else the best on the whole."""
    sinks: dict[Name, Sink] = {}
    schedule: Schedule | None = None
    """When it runs by itself; it takes the release that serves then, and the newest data."""

    @property
    def kept(self) -> tuple[str, ...]:
        """The columns that stand beside the answers."""
        ranked = (self.rank.by, self.rank.item) if self.rank else ()
        return tuple(dict.fromkeys([*ranked, *self.keep]))


WHOLE = Scoring()
"""What holds for a project without the section."""
