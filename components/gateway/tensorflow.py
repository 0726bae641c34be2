"""TensorFlow Serving's REST API, so that its clients move without a change.

Versions are release numbers, labels are `champion` and `previous`. Inputs are one value a row; where a client sends a
list of one, that is taken as well. A missing value is null or the token NaN. What is refused is 400, as there, not 422.

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

from components.adapters.triton_config import ANSWER, MAX_ROWS
from components.gateway import typed
from components.gateway.model import LateError, Question
from components.gateway.problems import Problem
from components.gateway.requests import Answer
from components.gateway.v2 import RECEIPT, RELEASE

if TYPE_CHECKING:
    from components.gateway.catalogue import Catalogue, Door
    from components.gateway.model import Model, Said
    from components.gateway.signature import Columns, Signature

VERBS: Final = ("predict", "classify", "regress")
SIGNATURES: Final = ("", "serving_default", *(f"tensorflow/serving/{verb}" for verb in VERBS))

_DTYPES: Final = {"string": "DT_STRING", "double": "DT_FLOAT", "bigint": "DT_FLOAT"}
_OUTPUTS: Final = {"TYPE_FP32": "DT_FLOAT", "TYPE_INT64": "DT_INT64"}
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


async def ask(model: Model, verb: str, project: str, version: str, label: str, body: bytes) -> Answer:
    """`POST /v1/models/NAME[/versions/V|/labels/L]:VERB`; the receipt and the release are headers of the answer."""
    asked = _object(body)
    columnar = verb == "predict" and "inputs" in asked
    rows = 0

    def write(door: Door) -> Question:
        nonlocal rows
        try:
            columns = _columns(verb, asked, door.signature)
        except Problem as problem:
            if problem.status == 422:
                problem.status = 400
            raise
        rows = len(columns[0])
        return Question(*door.signature.writer.write(columns), columns)

    try:
        said = await model.ask(write, project, version, label)
    except LateError as late:
        probabilities, labels = [late.default.probability] * rows, [int(late.default.label)] * rows
        return Answer(_told(verb, probabilities, labels, columnar=columnar))
    return Answer(_told(verb, *typed.read(said), columnar=columnar), headers=_named(said))


def _named(said: Said) -> dict[str, str]:
    return {RECEIPT: said.receipt, RELEASE: str(said.door.number)}


def _told(verb: str, probabilities: Sequence[float], labels: Sequence[int], *, columnar: bool) -> bytes:
    if verb == "classify":
        return _encode({"results": [[["0", 1 - one], ["1", one]] for one in probabilities]})
    if verb == "regress":
        return _encode({"results": probabilities})
    if columnar:
        return _encode({"outputs": {"probability": probabilities, "label": labels}})
    pairs = zip(probabilities, labels, strict=True)
    return _encode({"predictions": [{"probability": one, "label": two} for one, two in pairs]})


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


def _columns(verb: str, asked: Mapping[str, Any], signature: Signature) -> Columns:
    if verb != "predict":
        return signature.converted(_examples(asked))
    given = [name for name in ("instances", "inputs") if name in asked]
    if len(given) != 1:
        raise Problem(400, "one of instances and inputs has to be there", field="instances", accepted=signature.shape())
    rows = asked["instances"] if given == ["instances"] else _transposed(asked["inputs"], signature)
    if not isinstance(rows, list) or not 0 < len(rows) <= MAX_ROWS:
        raise Problem(400, f"instances: a list of 1 to {MAX_ROWS} rows", field="instances", accepted=signature.shape())
    if len(signature.features) == 1 and not any(isinstance(row, dict) and "b64" not in row for row in rows):
        (name,) = signature.features
        rows = [row if isinstance(row, dict) and name in row else {name: row} for row in rows]
    return signature.converted([_row(row) for row in rows])


def _examples(asked: Mapping[str, Any]) -> list[Any]:
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
        rows.append(_row(context | example))
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


def _row(row: Any) -> Any:
    return {name: _value(name, value) for name, value in row.items()} if isinstance(row, dict) else row


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
    inputs = {name: _tensor(name, _DTYPES[kind]) for name, kind in door.signature.features.items()}
    outputs = {name: _tensor(name, _OUTPUTS[kind]) for name, (kind, _) in ANSWER.items()}
    signature = {"inputs": inputs, "outputs": outputs, "method_name": "tensorflow/serving/predict"}
    kind = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    definition = {"@type": kind, "signature_def": {"serving_default": signature}}
    spec = {"name": project, "signature_name": "", "version": str(door.number)}
    return Answer(_encode({"model_spec": spec, "metadata": {"signature_def": definition}}))


def _tensor(name: str, dtype: str) -> dict[str, Any]:
    shape = {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}
    return {"dtype": dtype, "tensor_shape": shape, "name": f"{name}:0"}
