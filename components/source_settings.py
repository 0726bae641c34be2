"""Where a project's tables come from: `sources` in project.yaml. Each kind has a key of its own, which tells it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, PositiveInt, Tag, model_validator

from components.settings import Name, Settings


class Table(Settings):
    """A table in files.

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


class Sql(Settings):
    """Rows of a database, read once and in the order of their watermark."""

    connection: Name
    """Where the database is, as the profile's `connections` call it."""
    table: str | None = Field(default=None, pattern=r"^[^.\x00]+(\.[^.\x00]+)?$")
    """Its name, with its schema where there is one: `public.orders`."""
    query: str | None = None
    """One SELECT in the database's own dialect, in place of `table`."""
    watermark: str
    """The column that is higher in rows that came later: a number, a date or a time, or text that sorts so."""
    epoch: PositiveInt = 1
    """Counted up, it has the rows read from the start again: what was read once is not asked for any more."""

    @model_validator(mode="after")
    def _is_one_of_them(self) -> Sql:
        if (self.table is None) == (self.query is None):
            raise ValueError("one of `table` and `query`")
        return self


class SqlTable(Settings):
    """A table, or what a query yields, in a database."""

    sql: Sql
    columns: dict[str, str] = {}
    """Column -> DuckDB type, in place of what the database's own type becomes."""


KINDS: dict[str, type[Settings]] = {
    "path": Table,
    "sql": SqlTable,
}
"""Key in project.yaml -> the kind of source that has it. A further kind is one class here, its `Tag` in `AnyTable`, and
its adapter in components/source_adapters.py."""


def kind_of(source: object) -> str:
    """Which kind a source is meant to be, so that a fault in it is told of that one alone."""
    if isinstance(source, dict):
        return next((key for key in KINDS if key in source), "path")
    return next((key for key, kind in KINDS.items() if isinstance(source, kind)), "path")


AnyTable = Annotated[Annotated[Table, Tag("path")] | Annotated[SqlTable, Tag("sql")], Discriminator(kind_of)]
"""Where one table comes from."""
