"""What a release's model takes, compiled once: JSON is decoded into typed rows, and what does not fit is named."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from msgspec.structs import astuple

from components.adapters.triton_config import MAX_ROWS, input_tensors
from components.bundle import answering
from components.gateway.completion import Gaps
from components.gateway.problems import Problem
from components.gateway.speech import spec_of, speech_of
from components.gateway.wire import Columns, Reader, Writer
from components.model_inputs import is_array, width
from components.predict import accepted

if TYPE_CHECKING:
    from components.records import Release

_TYPES: Final[dict[str, Any]] = {"string": str | None, "double": float | None, "bigint": int | float | None}
_WHERE: Final = re.compile(r"^(?P<what>.*?)(?: - at `\$(?P<path>.*)`)?$", re.DOTALL)
_ITEM: Final = re.compile(r"\[[0-9]+\]$")
_NAMED: Final = re.compile(r"^Object (?:missing required|contains unknown) field `(?P<name>.*)`$", re.DOTALL)


class Signature:
    """The model of one release, as requests see it.

    Args:
        release: its manifest.
    """

    def __init__(self, release: Release) -> None:
        prepared = release.prepared
        self.features = dict(prepared.features)
        self.example = dict(release.bundle.example)
        self.target = prepared.target
        self.inputs = tuple(
            spec_of(one, many=is_array(self.features[one.name])) for one in input_tensors(self.features)
        )
        self.speech = speech_of(prepared.task, prepared.classes)
        self.writer = Writer(self.inputs, self.speech.outputs)
        self.reader = Reader(answering(release.bundle), self.speech.outputs)
        table, names = release.online, [f"c{number}" for number in range(len(self.features))]
        self.left_out = frozenset(table.columns if table else ())
        self.known_by = tuple(table.entity if table else ())
        entity = {name: kind for name, kind in (table.entity if table else {}).items() if name not in self.features}
        columns = [*self.features, *entity]
        # Rows of the project's own tables may be given as they are: the key and the target are left out.
        self.extras = tuple(name for name in (prepared.row, prepared.target) if name not in columns)
        self.kinds = self.features | entity
        fields: list[tuple[Any, ...]] = [
            (name, *(_optional(kind) if column in self.left_out else (_type(kind),)))
            for name, (column, kind) in zip(names, self.features.items(), strict=True)
        ]
        fields += [(f"e{number}", *_optional(kind)) for number, kind in enumerate(entity.values())]
        fields += [(f"x{number}", Any, None) for number in range(len(self.extras))]
        rename = dict(zip((field[0] for field in fields), (*columns, *self.extras), strict=True))
        self.gaps = Gaps(table, {column: field for field, column in rename.items()}) if table else None
        self.row = msgspec.defstruct("Row", fields, rename=rename, forbid_unknown_fields=True, gc=False, kw_only=True)
        self._body = self.decoder("rows")
        self._whole = [name for name, kind in self.features.items() if kind == "bigint"]
        self._places = [list(self.features).index(name) for name in self._whole]

    def decoder(self, member: str, **others: Any) -> msgspec.json.Decoder[Any]:
        """Decodes an object that has rows as its member `member`."""
        rows = Annotated[list[self.row], msgspec.Meta(min_length=1, max_length=MAX_ROWS)]  # type: ignore[name-defined]
        optional = [(name, kind, None) for name, kind in others.items()]
        body = msgspec.defstruct("Body", [(member, rows), *optional], forbid_unknown_fields=True)
        return msgspec.json.Decoder(body)

    def rows_of(self, body: bytes) -> list[Any]:
        """The rows of `{"rows": [...]}`, typed.

        Raises:
            Problem: 400 for what is not JSON, 422 for a column or value that does not fit.
        """
        rows: list[Any] = decoded(self._body, body, self).rows
        return rows

    def converted(self, rows: Sequence[Any]) -> list[Any]:
        """Rows that were decoded already, typed and checked like those of `rows_of`.

        Raises:
            Problem: 422.
        """
        try:
            return msgspec.convert(rows, list[self.row])  # type: ignore[name-defined]
        except msgspec.ValidationError as error:
            raise self.problem(error) from None

    def transposed(self, rows: Sequence[Any]) -> Columns:
        """Typed rows, whole or completed, column by column.

        Raises:
            Problem: 422, a number that has to be whole is not.
        """
        whole = islice(zip(*map(astuple, rows), strict=True), len(self.features))  # what else a row has stands behind
        columns = list(map(list, whole))
        for name, place in zip(self._whole, self._places, strict=True):
            values = columns[place]
            if set(map(type, values)) == {int} and min(values) >= -(2**63) and max(values) < 2**63:
                continue  # as nearly always
            for number, value in enumerate(values):
                if value is not None and not (-(2**63) <= value < 2**63 and value == value // 1):
                    raise self.misfit(name, f"is {value!r}", f"rows[{number}].{name}")
        return columns

    def misfit(self, name: str, words: str, where: str) -> Problem:
        """What is said of a value of column `name` that is not accepted."""
        return Problem(422, f"{where}: {name!r} {words}", field=where, accepted=accepted(self.kinds[name]))

    def problem(self, error: msgspec.ValidationError) -> Problem:
        """A decoder's complaint in the words of columns."""
        found = _WHERE.match(str(error))
        what, where = (found["what"], (found["path"] or "").lstrip(".")) if found else (str(error), "")
        named = _NAMED.match(what)
        column = where.split("].", 1)[-1] if "]." in where else ""
        array = _ITEM.sub("", column)
        if column not in self.features and is_array(self.features.get(array, "")):
            column = array
        if named and "[" in where:
            return self._named(named["name"], where, missing="missing" in what)
        if column in self.kinds:
            return self.misfit(column, f"does not fit: {what[0].lower()}{what[1:].replace('`', '')}", where)
        return Problem(422, f"{where or 'the body'}: {what.replace('`', '')}", field=where, accepted=self.shape())

    def _named(self, name: str, where: str, *, missing: bool) -> Problem:
        field = f"{where}.{name}"
        if missing:
            wanted = f'"{name}": {accepted(self.features[name])}'
            return Problem(422, f"{where}: column {name!r} is missing", field=field, accepted=wanted)
        close = difflib.get_close_matches(name, self.kinds, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        return Problem(422, f"{where}: unknown column {name!r}{hint}", field=field, accepted=", ".join(self.kinds))

    def shape(self) -> str:
        """A body in one line."""
        return f'{{"rows": [{{{", ".join(self.features)}}}, ...]}}, 1 to {MAX_ROWS} rows'


def _optional(kind: str) -> tuple[Any, ...]:
    """The type and the default of a field that a row may leave out."""
    return _type(kind) | msgspec.UnsetType, msgspec.UNSET


def _type(kind: str) -> Any:
    """What a value of a feature is decoded as."""
    if not is_array(kind):
        return _TYPES[kind]
    size = width(kind)
    return Annotated[list[float | None], msgspec.Meta(min_length=size, max_length=size)] | None


def decoded(decoder: msgspec.json.Decoder[Any], body: bytes, signature: Signature) -> Any:
    """`body`, decoded.

    Raises:
        Problem: 400 for what is not JSON, 422 for what does not fit.
    """
    refuse = partial(Problem, 400, accepted=signature.shape())
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise signature.problem(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise refuse(f"the body is not JSON: {error}") from None
    except RecursionError:
        raise refuse("the body is nested too deeply") from None
