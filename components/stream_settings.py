"""A table that a stream of messages feeds: `stream` of a table in project.yaml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from components.settings import Name, Settings

ColumnType = Literal[
    "BIGINT",
    "BOOLEAN",
    "DATE",
    "DOUBLE",
    "FLOAT",
    "INTEGER",
    "SMALLINT",
    "TIMESTAMP",
    "TIMESTAMP WITH TIME ZONE",
    "TINYINT",
    "VARCHAR",
]
"""DuckDB's types that a field of a message can have."""

TIMES = ("DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE")
Then = Literal["continue", "stop"]


class Batch(Settings):
    """When messages become a commit: whichever comes first, counted from the first message."""

    rows: PositiveInt = Field(default=10_000, le=1_000_000)
    seconds: PositiveFloat = Field(default=10.0, le=3600)


class Stream(Settings):
    """A topic of Kafka, or a stream of Redis, whose messages are the rows of a table."""

    connection: Name
    """The server, as the profile's `connections` call it: `kafka://HOST:PORT` or `redis://HOST:PORT/0`."""
    topic: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,249}$")]
    format: Literal["json"] = "json"
    """One JSON object a message. In Redis it is the field `value` of an entry."""
    columns: dict[str, ColumnType] = Field(min_length=1)
    """Field of a message -> DuckDB type. Fields that are not named are passed over, and counted."""
    batch: Batch = Batch()
    begin: Literal["earliest", "latest"] = "earliest"
    """Where the first start begins; later ones go on from the newest commit."""
    event_time: str | None = None
    """The column that says when it happened."""
    lateness: float = Field(default=0.0, ge=0)
    """Seconds by which an event may be older than the newest one of the batches before."""
    late: Literal["dead", "keep"] = "keep"
    """Where an event goes that is later than that: to the dead letters, or into the table all the same."""
    refused: Then = "stop"
    """After a batch that does not meet the expectations: its rows stay on a branch either way."""
    lost: Then = "stop"
    """Where the server has deleted messages before they were read."""

    @model_validator(mode="after")
    def _has_its_event_time(self) -> Stream:
        if self.event_time is not None and self.columns.get(self.event_time) not in TIMES:
            raise ValueError(f"a column of type {', '.join(TIMES)} as `event_time`")
        if self.event_time is None and (self.lateness or self.late == "dead"):
            raise ValueError("`event_time` where lateness counts")
        return self


class StreamTable(Settings):
    """A table that is fed while nobody runs anything: a run takes what `main` holds of it."""

    stream: Stream

    @property
    def columns(self) -> dict[str, str]:
        """Column -> DuckDB type."""
        return dict(self.stream.columns)
