"""Where a project's tables come from: `sources` in project.yaml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Tag

from components.settings import Settings
from components.stream_settings import StreamTable


class Table(Settings):
    """Where one table comes from.

    `path` is a file, a glob, any fsspec URL (`s3://...`, `zip://inner.csv::file:///outer.zip`), or `package://NAME/FILE`
    for a file inside an installed package. Relative paths start at the repository's root.
    """

    path: str
    format: Literal["csv", "jsonl", "parquet"] | None = None
    """Default: from the file's name."""
    columns: dict[str, str] = {}
    """Column -> DuckDB type, for columns whose type must not be guessed."""
    header: bool = True
    """False: the first line of a CSV file is data, and its columns are `column0`, `column1`, ... (as many digits as the
    last one takes)."""
    null: str = ""
    """The text that stands for a missing value in CSV, beside an empty field."""
    partition: str | None = None
    """A column with few distinct values: one Parquet file for each."""


def _kind(source: object) -> str:
    """Which of the kinds a table is meant to be, so that a fault in it is told of that one alone."""
    fed = isinstance(source, StreamTable) or (isinstance(source, dict) and "stream" in source)
    return "stream" if fed else "files"


Source = Annotated[Annotated[Table, Tag("files")] | Annotated[StreamTable, Tag("stream")], Discriminator(_kind)]
"""Where one table comes from."""
