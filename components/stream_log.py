"""What the commits of `main` say about a stream: how far its topic was read. Nothing else says it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from pydantic import ValidationError

from components.records import Record, digest
from components.tables import MAIN

if TYPE_CHECKING:
    from components.ports import DataStore, Revision

STREAM = "stream"
"""The metadata of a commit that holds a `Fed`."""


class Fed(Record):
    """What one commit took from a topic: the messages from `first` up to `next`, each of them in no other commit."""

    table: str
    connection: str
    topic: str
    number: int
    """Counts the commits of a topic from 0, which is its beginning and takes nothing."""
    first: dict[str, str]
    next: dict[str, str]
    """Offsets, in the words of the kind of server."""
    messages: int = 0
    rows: int = 0
    """In the table, or on the branch `refused`."""
    late: int = 0
    dead: int = 0
    """Dead letters, late ones among them where the settings say so."""
    newest: str | None = None
    """The event time that was the newest so far."""
    refused: str | None = None
    """The branch with the rows, where they did not meet the expectations."""

    def metadata(self, project: str) -> dict[str, str]:
        """The metadata of its commit."""
        return {"project": project, STREAM: self.model_dump_json(exclude_defaults=True)}


def batch_key(project: str, table: str, topic: str, first: Mapping[str, str]) -> str:
    """The idempotency key of the batch that begins at `first`: whoever makes it, there is one."""
    return digest(["stream", project, table, topic, first])


def told(revision: Revision, project: str, table: str) -> Fed | None:
    """What a commit says of a table's stream; None where it is about something else."""
    if revision.metadata.get("project") != project or STREAM not in revision.metadata:
        return None
    try:
        found = Fed.model_validate(json.loads(revision.metadata[STREAM]))
    except (ValidationError, ValueError):
        return None
    return found if found.table == table else None


def history(store: DataStore, project: str, table: str, topic: str) -> Iterator[tuple[Revision, Fed]]:
    """The commits of a table's topic on `main`, newest first."""
    for revision in store.log(MAIN):
        found = told(revision, project, table)
        if found is not None and found.topic == topic:
            yield revision, found
            if found.number == 0:
                return
