"""Tensors as bytes: the V2 protocol's binary extension, written from plain values and read back, without arrays.

A request is a JSON header, whose length an HTTP header gives, and behind it the tensors' bytes in the header's order.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import msgspec

from components.gateway.problems import Problem

LENGTH: Final = "Inference-Header-Content-Length"
"""The HTTP header with the length of the JSON header."""

_ASKED: Final = ("probability", "label")
_NAN: Final = float("nan")
_CODES: Final = {"FP32": "f", "INT64": "q"}


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


class Writer:
    """Writes requests for models that take `features`.

    Args:
        features: column -> `string`, `double` or `bigint`.
    """

    def __init__(self, features: Mapping[str, str]) -> None:
        self._texts = tuple(kind == "string" for kind in features.values())
        inputs = ",".join(
            f'{{"name":{_quoted(name)},"datatype":"{"BYTES" if kind == "string" else "FP32"}","shape":[%d,1],'
            '"parameters":{"binary_data_size":%d}}'
            for name, kind in features.items()
        )
        outputs = ",".join(f'{{"name":"{name}","parameters":{{"binary_data":true}}}}' for name in _ASKED)
        self._header = f'{{"inputs":[{inputs}],"outputs":[{outputs}]}}'

    def write(self, columns: Sequence[Sequence[Any]]) -> tuple[int, bytes]:
        """The length of the header, and header and tensors.

        Args:
            columns: the values of each feature, in the features' order; None for a missing one.
        """
        rows = len(columns[0])
        sizes: list[int] = []
        tensors: list[bytes] = []
        for text, values in zip(self._texts, columns, strict=True):
            data = _texts(values) if text else _numbers(values)
            sizes += (rows, len(data))
            tensors.append(data)
        header = (self._header % tuple(sizes)).encode()
        return len(header), b"".join((header, *tensors))


def _quoted(name: str) -> str:
    """A name as JSON, inside a template."""
    return msgspec.json.encode(name).decode().replace("%", "%%")


def _texts(values: Sequence[str | None]) -> bytes:
    parts: list[bytes] = []
    for value in values:
        data = value.encode() if value else b""
        parts += (len(data).to_bytes(4, "little"), data)
    return b"".join(parts)


def _numbers(values: Sequence[float | None]) -> bytes:
    """32-bit floats; this machine's order of bytes is the wire's, as Triton's own is."""
    try:
        return array("f", cast("Sequence[float]", values)).tobytes()  # a None is rare, and found here at no cost
    except TypeError:
        return array("f", [_NAN if value is None else value for value in values]).tobytes()


def write_reply(model: str, probabilities: Sequence[float], labels: Sequence[int]) -> tuple[int, bytes]:
    """An answer as Triton gives it: the length of the header, and header and tensors."""
    rows = len(labels)
    outputs = ",".join(
        f'{{"name":"{name}","datatype":"{kind}","shape":[{rows},1],"parameters":{{"binary_data_size":{size * rows}}}}}'
        for name, kind, size in (("probability", "FP32", 4), ("label", "INT64", 8))
    )
    header = f'{{"model_name":"{model}","model_version":"1","outputs":[{outputs}]}}'.encode()
    return len(header), b"".join((header, array("f", probabilities).tobytes(), array("q", labels).tobytes()))


def read_answers(model: str, header: int, body: bytes) -> tuple[list[float], list[int]]:
    """Probabilities and labels of an answer.

    Raises:
        Problem: it is not the answer of `model`, or not one at all; 502.
    """
    try:
        reply = _reply.decode(body[:header])
        offset, found = header, {}
        for tensor in reply.outputs:
            size = tensor.parameters.binary_data_size
            found[tensor.name] = body[offset : offset + size]
            offset += size
        probabilities, labels = array("f", found["probability"]), array("q", found["label"])
    except (msgspec.MsgspecError, KeyError, ValueError) as error:
        raise Problem(502, f"Triton's answer cannot be read: {error}") from error
    if reply.model_name != model or len(probabilities) != len(labels) or not labels:
        raise Problem(502, f"Triton answered with {reply.model_name}, {len(labels)} rows; asked was {model}")
    return probabilities.tolist(), labels.tolist()


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
