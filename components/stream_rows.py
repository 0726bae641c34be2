"""Messages as rows: decoded one by one into the declared types, put into columns together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

import msgspec

if TYPE_CHECKING:
    import pyarrow as pa

MOST: Final = 100
"""Fields without a column that are remembered by name."""


def _whole(bits: int) -> Any:
    return Annotated[int, msgspec.Meta(ge=-(2 ** (bits - 1)), le=2 ** (bits - 1) - 1)]


KINDS: Final[Mapping[str, Any]] = {
    "BIGINT": _whole(64),
    "BOOLEAN": bool,
    "DATE": date,
    "DOUBLE": float,
    "FLOAT": float,
    "INTEGER": _whole(32),
    "SMALLINT": _whole(16),
    "TIMESTAMP": datetime,
    "TIMESTAMP WITH TIME ZONE": datetime,
    "TINYINT": _whole(8),
    "VARCHAR": str,
}
"""DuckDB type -> what JSON's values are held to. A time is text in ISO 8601; without an offset it is in UTC."""


def schema_of(columns: Mapping[str, str]) -> pa.Schema:
    """The columns as Arrow has them; DuckDB reads its own types out of that."""
    import pyarrow as pa

    kinds = {
        "BIGINT": pa.int64(),
        "BOOLEAN": pa.bool_(),
        "DATE": pa.date32(),
        "DOUBLE": pa.float64(),
        "FLOAT": pa.float32(),
        "INTEGER": pa.int32(),
        "SMALLINT": pa.int16(),
        "TIMESTAMP": pa.timestamp("us"),
        "TIMESTAMP WITH TIME ZONE": pa.timestamp("us", "UTC"),
        "TINYINT": pa.int8(),
        "VARCHAR": pa.string(),
    }
    return pa.schema([(name, kinds[type_]) for name, type_ in columns.items()])


@dataclass(frozen=True, slots=True)
class Decoded:
    """The rows of some messages, in order, which message each is of, and why the others are none."""

    rows: pa.Table
    of: list[int]
    poison: dict[int, str]


class Decoder:
    """JSON objects to rows of `columns`.

    Args:
        columns: field -> DuckDB type. A field that is missing is null.
    """

    def __init__(self, columns: Mapping[str, str]) -> None:
        self._columns = columns
        self._schema = schema_of(columns)
        self._zoned = [name for name, type_ in columns.items() if type_ == "TIMESTAMP"]
        self.unknown: list[str] = []
        """Fields that messages had, and that no column is named after."""
        self._build()

    def _build(self) -> None:
        fields = [(f"c{index}", KINDS[type_] | None, None) for index, type_ in enumerate(self._columns.values())]
        names = {f"c{index}": name for index, name in enumerate(self._columns)}
        more = [(f"x{index}", msgspec.Raw, msgspec.Raw()) for index in range(len(self.unknown))]
        names |= {f"x{index}": name for index, name in enumerate(self.unknown)}
        row = msgspec.defstruct(
            "Row", [*fields, *more], rename=names, forbid_unknown_fields=len(self.unknown) < MOST, gc=False
        )
        self._decode = msgspec.json.Decoder(row).decode

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """The rows of `values`."""
        import pyarrow as pa

        try:
            rows = [self._decode(value) for value in cast("Sequence[bytes]", values)]
            of, poison = list(range(len(rows))), dict[int, str]()
        except (msgspec.MsgspecError, TypeError, UnicodeDecodeError):
            rows, of, poison = self._one_by_one(values)
        columns = []
        for index, (name, field) in enumerate(zip(self._columns, self._schema, strict=True)):
            found = list(map(attrgetter(f"c{index}"), rows))
            if name in self._zoned:
                found = [_naive(value) for value in found]
            columns.append(pa.array(found, field.type))
        return Decoded(pa.Table.from_arrays(columns, schema=self._schema), of, poison)

    def _one_by_one(self, values: Sequence[bytes | None]) -> tuple[list[Any], list[int], dict[int, str]]:
        rows, of, poison = [], [], {}
        for index, value in enumerate(values):
            try:
                rows.append(self._one(value))
                of.append(index)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                poison[index] = str(error).replace("`$.", "field `")
        return rows, of, poison

    def _one(self, value: bytes | None) -> Any:
        if value is None:
            raise msgspec.DecodeError("it has no body")
        while True:
            try:
                return self._decode(value)
            except msgspec.ValidationError as error:
                name = str(error).partition("unknown field `")[2].rpartition("`")[0]
                if not name or name in self.unknown:
                    raise
                self.unknown.append(name)
                self._build()


def _naive(value: datetime | None) -> datetime | None:
    return value.astimezone(UTC).replace(tzinfo=None) if value is not None and value.tzinfo is not None else value
