"""Tensors as bytes: the V2 protocol's binary extension, written from plain values and read back, without arrays.

A request is a JSON header, whose length an HTTP header gives, and behind it the tensors' bytes in the header's order.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import Any, Final, NamedTuple

import msgspec

from components.adapters.triton_stream import RawTensor
from components.gateway.problems import Problem

LENGTH: Final = "Inference-Header-Content-Length"
"""The HTTP header with the length of the JSON header."""

BINARY: Final = b"application/octet-stream"
"""The media type of what has binary tensors."""

_NAN: Final = float("nan")
_CODES: Final = {"FP32": "f", "INT64": "q"}


Columns = list[list[Any]]
"""The values of each tensor, one a row: a list where the tensor has many columns, None for a missing one."""

Write = Callable[[Sequence[Any]], bytes]


class Parameters(msgspec.Struct):
    """Where a tensor's values are: so many bytes of what follows the header."""

    binary_data_size: int = 0


class Tensor(msgspec.Struct):
    """One tensor in a JSON header; its values are in `data`, or in the bytes behind."""

    name: str
    datatype: str
    shape: list[int]
    parameters: Parameters = msgspec.field(default_factory=Parameters)
    data: msgspec.Raw = msgspec.Raw(b"")


class Reply(msgspec.Struct):
    """The JSON header of an answer."""

    model_name: str
    outputs: list[Tensor]


class Asked(msgspec.Struct):
    """The JSON header of a request."""

    inputs: list[Tensor]


_reply = msgspec.json.Decoder(Reply)
_asked = msgspec.json.Decoder(Asked)


class Spec(NamedTuple):
    """What is known of a tensor before it comes: its name, its type in V2's words, its columns.

    `many` says that a row's value is a list, which may be a list of one.
    """

    name: str
    datatype: str
    width: int
    many: bool

    @property
    def shown(self) -> str:
        """For messages."""
        return f"{self.name} {self.datatype} [rows, {self.width}]"


class Writer:
    """Writes requests.

    Args:
        inputs: the tensors that the model takes.
        outputs: those that it answers with.
    """

    def __init__(self, inputs: Sequence[Spec], outputs: Sequence[Spec]) -> None:
        self._writers = tuple(_writer(spec) for spec in inputs)
        outs = ",".join(f'{{"name":{_quoted(spec.name)},"parameters":{{"binary_data":true}}}}' for spec in outputs)
        self._header = f'{{"inputs":[{_described(inputs)}],"outputs":[{outs}]}}'

    def write(self, columns: Sequence[Sequence[Any]]) -> tuple[int, bytes]:
        """The length of the header, and header and tensors.

        Args:
            columns: the values of each feature, in the features' order; None for a missing one.
        """
        return _written(self._header, self._writers, columns)


class Reader:
    """Reads answers, and writes them, where one is cut in parts.

    Args:
        model: whose they are.
        outputs: the tensors that it answers with.
    """

    def __init__(self, model: str, outputs: Sequence[Spec]) -> None:
        self._model = model
        self._outputs = tuple(outputs)
        self._writers = tuple(_writer(spec) for spec in outputs)
        name = _quoted(model)
        self._header = f'{{"model_name":{name},"model_version":"1","outputs":[{_described(outputs)}]}}'

    def read(self, header: int | None, body: bytes) -> Columns:
        """Each output's values, a list of them a row where it is several columns wide.

        Raises:
            Problem: it is not the answer of this model, or not one at all; 502.
        """
        try:
            reply = _reply.decode(body if header is None else body[:header])
            found = _read(reply.outputs, header, body)
            columns = [cut(found[spec.name], spec) for spec in self._outputs]
        except (msgspec.MsgspecError, KeyError, ValueError, struct.error) as error:
            raise Problem(502, f"Triton's answer cannot be read: {error}") from error
        rows = len(columns[0])
        if reply.model_name != self._model or not rows or any(len(column) != rows for column in columns):
            raise Problem(502, f"Triton answered with {reply.model_name}, {rows} rows; asked was {self._model}")
        return columns

    def write(self, columns: Columns) -> tuple[int, bytes]:
        """An answer as Triton gives it: the length of the header, and header and tensors."""
        return _written(self._header, self._writers, columns)


def cut(values: list[Any], spec: Spec) -> list[Any]:
    """Values of a tensor, one a row, or a list of them.

    Raises:
        ValueError: they do not come out even.
    """
    if not spec.many:
        return values
    width = spec.width
    if len(values) % width:
        raise ValueError(f"{len(values)} values are no rows of {width}")
    return [values[begin : begin + width] for begin in range(0, len(values), width)]


def _described(specs: Sequence[Spec]) -> str:
    """Tensors in a header; their rows and their bytes are left open."""
    return ",".join(
        f'{{"name":{_quoted(spec.name)},"datatype":"{spec.datatype}","shape":[%d,{spec.width}],'
        '"parameters":{"binary_data_size":%d}}'
        for spec in specs
    )


def _written(template: str, writers: Sequence[Write], columns: Sequence[Sequence[Any]]) -> tuple[int, bytes]:
    rows = len(columns[0])
    sizes: list[int] = []
    tensors: list[bytes] = []
    for write, values in zip(writers, columns, strict=True):
        data = write(values)
        sizes += (rows, len(data))
        tensors.append(data)
    header = (template % tuple(sizes)).encode()
    return len(header), b"".join((header, *tensors))


def _writer(spec: Spec) -> Write:
    """What makes bytes of a tensor's values."""
    if spec.datatype == "BYTES":
        return _texts
    if spec.datatype == "INT64":
        return _whole
    return partial(_arrays, spec.width) if spec.many else _numbers


def _quoted(name: str) -> str:
    """A name as JSON, inside a template."""
    return msgspec.json.encode(name).decode().replace("%", "%%")


class _Texts(dict[str | None, bytes]):
    """Texts as bytes, each with its length before it: the rows of a request have few that differ."""

    def __missing__(self, text: str | None) -> bytes:
        data = text.encode() if text else b""
        self[text] = packed = len(data).to_bytes(4, "little") + data
        return packed


def _texts(values: Sequence[str | None]) -> bytes:
    return b"".join(map(_Texts().__getitem__, values))


def _numbers(values: Sequence[float | None]) -> bytes:
    """32-bit floats; this machine's order of bytes is the wire's, as Triton's own is."""
    try:
        return struct.pack(f"{len(values)}f", *values)  # a None is rare, and found here at no cost
    except struct.error:
        return struct.pack(f"{len(values)}f", *(_NAN if value is None else value for value in values))


def _arrays(width: int, values: Sequence[Sequence[float | None] | None]) -> bytes:
    missing = [None] * width
    return _numbers(list(chain.from_iterable(missing if row is None else row for row in values)))


def _whole(values: Sequence[int]) -> bytes:
    return array("q", values).tobytes()


def tensors_of(header: int, body: bytes) -> list[RawTensor]:
    """The inputs of a request that a `Writer` wrote, apart."""
    offset, tensors = header, []
    for tensor in _asked.decode(body[:header]).inputs:
        data = body[offset : offset + tensor.parameters.binary_data_size]
        tensors.append(RawTensor(tensor.name, tensor.datatype, tensor.shape, data))
        offset += len(data)
    return tensors


def reply_of(model: str, tensors: Sequence[RawTensor]) -> tuple[int, bytes]:
    """An answer as Triton gives it over HTTP: the length of the header, and header and tensors."""
    outputs = [
        {"name": name, "datatype": kind, "shape": shape, "parameters": {"binary_data_size": len(data)}}
        for name, kind, shape, data in tensors
    ]
    header = msgspec.json.encode({"model_name": model, "outputs": outputs})
    return len(header), b"".join((header, *(one.data for one in tensors)))


def rows_of(header: int | None, body: bytes) -> int:
    """How many rows a request says that it has.

    Raises:
        msgspec.MsgspecError, IndexError: it is none.
    """
    return _asked.decode(body if header is None else body[:header]).inputs[0].shape[0]


def read_request(header: int | None, body: bytes) -> dict[str, list[Any]]:
    """The inputs of a request that Triton took, as plain values, whatever way they were sent; for the log."""
    return _read(_asked.decode(body if header is None else body[:header]).inputs, header, body)


def read_reply(header: int | None, body: bytes) -> dict[str, list[Any]]:
    """The outputs of an answer, likewise."""
    return _read(_reply.decode(body if header is None else body[:header]).outputs, header, body)


def _read(tensors: Sequence[Tensor], header: int | None, body: bytes) -> dict[str, list[Any]]:
    offset, columns = header or 0, {}
    for tensor in tensors:
        if bytes(tensor.data):
            columns[tensor.name] = _flat(msgspec.json.decode(tensor.data))
            continue
        data = body[offset : offset + tensor.parameters.binary_data_size]
        offset += len(data)
        code = _CODES.get(tensor.datatype)
        columns[tensor.name] = _read_texts(data) if code is None else array(code, data).tolist()
    return columns


def _flat(value: Any) -> list[Any]:
    return [inner for item in value for inner in _flat(item)] if isinstance(value, list) else [value]


def _read_texts(data: bytes) -> list[str]:
    texts, offset = [], 0
    while offset < len(data):
        (size,) = struct.unpack_from("<I", data, offset)
        texts.append(data[offset + 4 : offset + 4 + size].decode(errors="replace"))
        offset += 4 + size
    return texts
