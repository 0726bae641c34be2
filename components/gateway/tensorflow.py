"""TensorFlow Serving's REST API, so that its clients move without a change.

Versions are release numbers, labels are `champion` and `previous`. Inputs are one value a row, where a client's list
of one is taken as well, or an array. A missing value is null or the token NaN. What is refused is 400, as there,
not 422.

Source: https://www.tensorflow.org/tfx/serving/api_rest
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from components.adapters.triton_config import MAX_ROWS
from components.gateway.problems import Problem
from components.gateway.question import LateError, Question
from components.gateway.requests import Answer
from components.gateway.routing import key_of
from components.gateway.v2 import RECEIPT, RELEASE
from components.model_inputs import is_array

if TYPE_CHECKING:
    from components.gateway.catalogue import Catalogue, Door
    from components.gateway.model import Model
    from components.gateway.question import Said
    from components.gateway.requests import Request
    from components.gateway.signature import Signature
    from components.gateway.speech import Speech
    from components.gateway.wire import Columns, Spec

VERBS: Final = ("predict", "classify", "regress")
SIGNATURES: Final = ("", "serving_default", *(f"tensorflow/serving/{verb}" for verb in VERBS))

_DTYPES: Final = {"BYTES": "DT_STRING", "FP32": "DT_FLOAT", "INT64": "DT_INT64"}
_encode = msgspec.json.encode


def named(rest: Sequence[str]) -> tuple[str, str, str, str] | None:
    """Project, version, label and verb of a path behind `/v1/models/`, None where it is none; `metadata` is a verb."""
    *front, last = rest or [""]
    last, _, verb = last.partition(":")
    parts = [*front, last]
    if parts[-1] == "metadata" and not verb:
        verb = parts.pop()
    if verb not in {"", "metadata", *VERBS}:
        return None
    match parts:
        case [project]:
            return project, "", "", verb
        case [project, "versions", version]:
            return project, version, "", verb
        case [project, "labels", label]:
            return project, "", label, verb
    return None


async def ask(model: Model, request: Request, verb: str, project: str, version: str, label: str, body: bytes) -> Answer:
    """`POST /v1/models/NAME[/versions/V|/labels/L]:VERB`; the receipt and the release are headers of the answer."""
    asked = _object(body)
    columnar = verb == "predict" and "inputs" in asked
    rows = 0

    async def write(door: Door) -> Question:
        nonlocal rows
        _check_verb(verb, door)
        try:
            typed = _rows(verb, asked, door.signature)
            await model.completer.complete(door, typed)
            columns = door.signature.transposed(typed)
        except Problem as problem:
            if problem.status == 422:
                problem.status = 400
            raise
        rows = len(typed)
        return Question(*door.signature.writer.write(columns), columns)

    def key(column: str) -> str:
        return key_of(request, column, lambda: _given(verb, asked))

    try:
        said = await model.ask(write, key, project, version, label)
    except LateError as late:
        return Answer(_told(verb, late.door.signature.speech, late.columns(rows), columnar=columnar))
    signature = said.door.signature
    columns = signature.reader.read(said.header, said.body)
    return Answer(_told(verb, signature.speech, columns, columnar=columnar), headers=_named(said))


def _named(said: Said) -> dict[str, str]:
    return {RECEIPT: said.receipt, RELEASE: str(said.door.number)}


def _check_verb(verb: str, door: Door) -> None:
    """Refuse to classify with a model that has no classes, and to regress with one that has several numbers a row."""
    speech = door.signature.speech
    if verb not in speech.verbs:
        words = f"{door.project} is a model of task {speech.task}, which does not {verb}"
        raise Problem(400, words, accepted=", ".join(speech.verbs))


def _told(verb: str, speech: Speech, columns: Columns, *, columnar: bool) -> bytes:
    """Of a single output, the name is left out, as TensorFlow Serving does."""
    if verb != "predict":
        return _encode({"results": speech.scores(columns) if verb == "classify" else columns[0]})
    names = [spec.name for spec in speech.outputs]
    if columnar:
        return _encode({"outputs": dict(zip(names, columns, strict=True)) if len(names) > 1 else columns[0]})
    if len(names) == 1:
        return _encode({"predictions": columns[0]})
    rows = zip(*columns, strict=True)
    return _encode({"predictions": [dict(zip(names, row, strict=True)) for row in rows]})


# --- what is asked ----------------------------------------------------------------------------------------------------


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:  # NaN and Infinity are no JSON, but TensorFlow Serving takes them
            found = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise Problem(400, f"JSON Parse error: {error}", accepted='{"instances": [...]}') from None
    if not isinstance(found, dict):
        raise Problem(400, "the body is not an object", accepted='{"instances": [...]} or {"examples": [...]}')
    signature = found.get("signature_name", "")
    if not isinstance(signature, str) or signature not in SIGNATURES:
        raise Problem(
            400,
            f"signature_name {signature!r} is not found",
            field="signature_name",
            accepted=", ".join(SIGNATURES[1:]),
        )
    return found


def _rows(verb: str, asked: Mapping[str, Any], signature: Signature) -> list[Any]:
    if verb != "predict":
        return signature.converted(_examples(asked, signature))
    given = [name for name in ("instances", "inputs") if name in asked]
    if len(given) != 1:
        raise Problem(400, "one of instances and inputs has to be there", field="instances", accepted=signature.shape())
    rows = asked["instances"] if given == ["instances"] else _transposed(asked["inputs"], signature)
    if not isinstance(rows, list) or not 0 < len(rows) <= MAX_ROWS:
        raise Problem(400, f"instances: a list of 1 to {MAX_ROWS} rows", field="instances", accepted=signature.shape())
    if len(signature.features) == 1 and not any(isinstance(row, dict) and "b64" not in row for row in rows):
        (name,) = signature.features
        rows = [row if isinstance(row, dict) and name in row else {name: row} for row in rows]
    return signature.converted([_row(row, signature) for row in rows])


def _given(verb: str, asked: Mapping[str, Any]) -> Sequence[Any]:
    """The rows as they came; columns are turned into such."""
    rows = asked.get("instances" if verb == "predict" else "examples")
    inputs = asked.get("inputs")
    if isinstance(inputs, dict):
        columns = {name: values if isinstance(values, list) else [values] for name, values in inputs.items()}
        rows = [dict(zip(columns, row, strict=False)) for row in zip(*columns.values(), strict=False)]
    return rows if isinstance(rows, list) else ()


def _examples(asked: Mapping[str, Any], signature: Signature) -> list[Any]:
    examples, context = asked.get("examples"), asked.get("context", {})
    if not isinstance(examples, list) or not 0 < len(examples) <= MAX_ROWS:
        raise Problem(
            400, f"examples: a list of 1 to {MAX_ROWS} rows", field="examples", accepted='{"examples": [...]}'
        )
    if not isinstance(context, dict):
        raise Problem(400, "context: an object", field="context", accepted='{"context": {...}, "examples": [...]}')
    rows = []
    for number, example in enumerate(examples):
        if not isinstance(example, dict):
            raise Problem(400, f"examples[{number}]: an object", field=f"examples[{number}]")
        both = sorted(example.keys() & context.keys())
        if both:
            raise Problem(400, f"examples[{number}]: {both[0]!r} is in context as well", field=f"examples[{number}]")
        rows.append(_row(context | example, signature))
    return rows


def _transposed(inputs: Any, signature: Signature) -> list[dict[str, Any]]:
    if not isinstance(inputs, dict):
        if len(signature.features) != 1:
            raise Problem(400, "inputs: an object, one list a column", field="inputs", accepted=signature.shape())
        inputs = {next(iter(signature.features)): inputs}
    columns = {name: value if isinstance(value, list) else [value] for name, value in inputs.items()}
    sizes = {name: len(values) for name, values in columns.items()}
    if len(set(sizes.values())) > 1:
        raise Problem(400, f"inputs: columns of different lengths {sizes}", field="inputs", accepted="one length")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _row(row: Any, signature: Signature) -> Any:
    if not isinstance(row, dict):
        return row
    return {
        name: [_value(name, one) for one in value]
        if isinstance(value, list) and is_array(signature.features.get(name, ""))
        else _value(name, value)
        for name, value in row.items()
    }


def _value(name: str, value: Any) -> Any:
    """One value out of the forms that it may come in."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, float) and not math.isfinite(value):
        if math.isnan(value):
            return None
        raise Problem(400, f"{name!r} is {value}", field=name, accepted="a number, null or NaN")
    if isinstance(value, dict) and value.keys() == {"b64"}:
        try:
            return base64.b64decode(value["b64"], validate=True).decode()
        except (binascii.Error, UnicodeDecodeError, TypeError, ValueError):
            raise Problem(400, f"{name!r}: no text in base 64", field=name, accepted="UTF-8 in base 64") from None
    return value


# --- what is there ----------------------------------------------------------------------------------------------------


def status(catalogue: Catalogue, project: str, version: str, label: str) -> Answer:
    """`GET /v1/models/NAME[/versions/V|/labels/L]`."""
    if version or label:
        numbers = [catalogue.door(project, version, label).number]
    else:
        catalogue.door(project)
        numbers = sorted(catalogue.entry(project).doors, reverse=True)
    good = {"error_code": "OK", "error_message": ""}
    versions = [{"version": str(number), "state": "AVAILABLE", "status": good} for number in numbers]
    return Answer(_encode({"model_version_status": versions}))


def metadata(catalogue: Catalogue, project: str, version: str, label: str) -> Answer:
    """`GET /v1/models/NAME[/versions/V|/labels/L]/metadata`."""
    door = catalogue.door(project, version, label)
    inputs = {spec.name: _tensor(spec) for spec in door.signature.inputs}
    outputs = {spec.name: _tensor(spec) for spec in door.signature.speech.outputs}
    signature = {"inputs": inputs, "outputs": outputs, "method_name": "tensorflow/serving/predict"}
    kind = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    definition = {"@type": kind, "signature_def": {"serving_default": signature}}
    spec = {"name": project, "signature_name": "", "version": str(door.number)}
    return Answer(_encode({"model_spec": spec, "metadata": {"signature_def": definition}}))


def _tensor(spec: Spec) -> dict[str, Any]:
    sizes = ["-1", str(spec.width)] if spec.many else ["-1"]
    shape = {"dim": [{"size": size, "name": ""} for size in sizes], "unknown_rank": False}
    return {"dtype": _DTYPES[spec.datatype], "tensor_shape": shape, "name": f"{spec.name}:0"}
