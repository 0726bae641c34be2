"""Where a project's tables come from: `sources` in project.yaml. Each kind has a key of its own, which tells it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Discriminator, Field, PositiveInt, Tag, model_validator

from components.settings import Name, Settings
from components.stream_settings import StreamTable


class Table(Settings):
    """A table in files.

    `path` is a file, a glob, any fsspec URL (`s3://...`, `zip://inner.csv::file:///outer.zip`), or `package://NAME/FILE`
    for a file inside an installed package. Relative paths start at the repository's root.
    """

    path: str
    format: Literal["avro", "csv", "jsonl", "parquet"] | None = None
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


class LogTable(Settings):
    """A table of the lines of text files, by a pattern."""

    path: str
    """As of `Table`."""
    pattern: str
    r"""A regular expression (RE2's) that a whole line has to match: `(?P<at>\S+) (?P<level>[A-Z]+) (?P<said>.*)`. Each
    named group is a column of text; a group without text is a missing value."""
    unmatched: float = Field(default=0.0, ge=0, lt=1)
    """The share of lines that may be otherwise; they are left out and counted. Empty lines do not count."""
    columns: dict[str, str] = {}
    """Column -> DuckDB type."""
    format: ClassVar[str] = "log"

    @model_validator(mode="after")
    def _names_columns(self) -> LogTable:
        if "(?P<" not in self.pattern:
            raise ValueError("a pattern with named groups, (?P<NAME>...), which become the columns")
        return self


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


class Delta(Settings):
    """A Delta Lake table."""

    path: str
    """A folder, or a URL: `s3://bucket/table`."""
    version: int | None = Field(default=None, ge=0)
    """None: the newest."""

    @model_validator(mode="after")
    def _is_where_tables_are(self) -> Delta:
        scheme = self.path.partition("://")[0] if "://" in self.path else "file"
        if scheme not in {"abfs", "abfss", "az", "file", "gs", "s3"}:
            raise ValueError("a folder, s3://..., gs://..., az://..., abfs://... or abfss://...")
        return self


class DeltaTable(Settings):
    """A table in a Delta Lake."""

    delta: Delta
    columns: dict[str, str] = {}
    """Column -> DuckDB type, in place of the table's own."""


class Media(Settings):
    """Images, videos and other files that are no tables."""

    path: str
    """A folder, with all that is below it, or what `Table.path` can be."""


class MediaTable(Settings):
    """A table of files: one row each, with its path, digest and size. The files themselves are objects of the store."""

    media: Media
    columns: ClassVar[dict[str, str]] = {}


class Imported(Settings):
    """Parquet files in a repository of the lakeFS server that is the profile's data store."""

    repository: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{2,62}$")
    ref: str = Field(default="main", pattern=r"^[A-Za-z0-9_.~^-]+$")
    """A branch, a tag or a commit there."""
    path: str
    """A folder; all `.parquet` below it are the table."""


class ImportedTable(Settings):
    """A table that the data store refers to where it lies; nothing is copied."""

    lakefs: Imported
    columns: dict[str, str] = {}
    """Column -> DuckDB type that the files have to have."""


KINDS: dict[str, type[Settings]] = {
    "pattern": LogTable,
    "sql": SqlTable,
    "stream": StreamTable,
    "delta": DeltaTable,
    "lakefs": ImportedTable,
    "media": MediaTable,
    "path": Table,
}
"""Key in project.yaml -> the kind of source that has it. A further kind is one class here, its `Tag` in `AnyTable`, and
its adapter in components/source_adapters.py."""


def kind_of(source: object) -> str:
    """Which kind a source is meant to be, so that a fault in it is told of that one alone."""
    if isinstance(source, dict):
        return next((key for key in KINDS if key in source), "path")
    return next((key for key, kind in KINDS.items() if isinstance(source, kind)), "path")


AnyTable = Annotated[
    Annotated[LogTable, Tag("pattern")]
    | Annotated[SqlTable, Tag("sql")]
    | Annotated[DeltaTable, Tag("delta")]
    | Annotated[ImportedTable, Tag("lakefs")]
    | Annotated[MediaTable, Tag("media")]
    | Annotated[StreamTable, Tag("stream")]
    | Annotated[Table, Tag("path")],
    Discriminator(kind_of),
]
"""Where one table comes from."""
