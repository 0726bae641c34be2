"""OpenAPI 3.1, made of the signatures of the releases that answer: what is described is what is checked."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from components.adapters.triton_config import MAX_ROWS
from components.gateway import feedback, recommendations
from components.model_inputs import is_array, width

if TYPE_CHECKING:
    from components.gateway.catalogue import Door

Schema = dict[str, Any]

_TYPES: Final[dict[str, Schema]] = {
    "string": {"type": ["string", "null"]},
    "double": {"type": ["number", "null"]},
    "bigint": {"type": ["integer", "null"], "minimum": -(2**63), "maximum": 2**63 - 1},
}

_REFUSALS: Final = {
    "400": "The body is not JSON.",
    "401": "No credential, or one that is not accepted.",
    "403": "The credential's scopes do not cover this.",
    "404": "No such project or release.",
    "408": "The body did not arrive.",
    "409": "Not as things are: no selection, another release, an answer that was not written down.",
    "410": "The receipt is too old.",
    "413": "The body is too large.",
    "415": "The body is compressed.",
    "422": "A column or a value does not fit.",
    "429": "Too many requests.",
    "503": "The model server is away; come again.",
    "504": "The model did not answer in time.",
}

_PROBLEM: Final[Schema] = {
    "type": "object",
    "required": ["title", "status", "detail", "error"],
    "properties": {
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "field": {"type": "string"},
        "accepted": {"type": "string"},
        "error": {"type": "string"},
    },
}


def document(doors: Iterable[Door], learning: Container[str] = (), ranking: Container[str] = ()) -> Schema:
    """The whole document for the projects whose champions are given.

    Those that are `learning` take feedback, and those that are `ranking` recommend.
    """
    paths: dict[str, Schema] = {"/v1/projects": {"get": _get("listProjects", "The projects that answer.", array=True)}}
    for door in doors:
        name = door.project
        paths[f"/v1/projects/{name}"] = {
            "get": _get(f"describe_{name}", f"What {name} takes, and the release that answers.")
        }
        paths[f"/v1/projects/{name}/predict"] = {"post": _predict(door)}
        if name in ranking:
            paths[f"/v1/projects/{name}/recommendations/{{key}}"] = {"get": _recommend(name)}
        if door.release.bundle.triton.decoupled:
            paths[f"/v1/projects/{name}/stream"] = {"post": _stream(door)}
        if name in learning:
            paths[f"/v1/projects/{name}/feedback"] = {"post": _feedback(name)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Trilha", "version": "1", "description": "Predictions, each with a receipt."},
        "paths": paths,
        "security": [{"bearer": []}],
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Problem": _PROBLEM},
        },
    }


def _predict(door: Door) -> Schema:
    signature = door.signature
    columns: dict[str, Schema] = {name: _column(kind) for name, kind in signature.kinds.items()}
    for name in signature.left_out:
        columns[name]["description"] = f"May be left out: known by {', '.join(signature.known_by)}."
    extra = {name: {"description": "Left out."} for name in signature.extras}
    row: Schema = {
        "type": "object",
        "required": [name for name in signature.features if name not in signature.left_out],
        "properties": columns | extra,
        "additionalProperties": False,
        "example": signature.example,
    }
    rows: Schema = {"type": "array", "items": row, "minItems": 1, "maxItems": MAX_ROWS}
    body: Schema = {
        "type": "object", "required": ["rows"], "properties": {"rows": rows}, "additionalProperties": False,
    }  # fmt: skip
    return {
        "operationId": f"predict_{door.project}",
        "summary": f"{signature.speech.says.format(signature.target)}, row by row.",
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": body, "example": {"rows": [signature.example]}}},
        },
        "responses": {
            "200": {
                "description": "Answers, in the rows' order.",
                "content": {"application/json": {"schema": _answers(door)}},
            },
            **_problems(),
        },
    }


def _recommend(name: str) -> Schema:
    item = {
        "type": "object",
        "required": ["item", "score", "receipt"],
        "properties": {"item": {}, "score": {"type": "number"}, "receipt": {"type": "string"}},
    }
    found = {
        "type": "object",
        "required": ["project", "key", "known", "items"],
        "properties": {
            "project": {"type": "string"},
            "key": {"type": "string"},
            "known": {"type": "boolean", "description": "False: nothing is known of it; the best on the whole."},
            "items": {"type": "array", "items": item},
        },
    }
    good = {"description": "The items, the best first.", "content": {"application/json": {"schema": found}}}
    said = recommendations.described(name)
    return {"operationId": f"recommend_{name}", **said, "responses": {"200": good, **_problems()}}


def _stream(door: Door) -> Schema:
    """As `predict`, but for the form of the answers."""
    whole = _predict(door)
    events = {
        "description": "Server-sent events: answers as they come, then `end`.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
    return whole | {
        "operationId": f"stream_{door.project}",
        "summary": f"{whole['summary']} Each answer as it comes.",
        "responses": whole["responses"] | {"200": events},
    }


def _feedback(name: str) -> Schema:
    words = f"What became of a prediction of {name}; it counts once."
    counted = {
        "type": "object",
        "required": ["project", "release", "receipt", "reward", "counted"],
        "properties": {
            "project": {"type": "string"},
            "release": {"type": "integer", "description": "The release that is rewarded."},
            "receipt": {"type": "string"},
            "reward": {"type": "number"},
            "counted": {"type": "boolean", "description": "False where this prediction has its reward already."},
        },
    }
    return {
        "operationId": f"feedback_{name}",
        "summary": words,
        "requestBody": {"required": True, "content": {"application/json": {"schema": feedback.schema()}}},
        "responses": {
            "200": {"description": words, "content": {"application/json": {"schema": counted}}},
            **_problems(),
        },
    }


def _column(kind: str) -> Schema:
    if not is_array(kind):
        return dict(_TYPES[kind])
    return {"type": ["array", "null"], "items": _TYPES["double"], "minItems": width(kind), "maxItems": width(kind)}


def _answers(door: Door) -> Schema:
    return {
        "type": "object",
        "required": ["project", "release", "receipt", "answers", "default"],
        "properties": {
            "project": {"type": "string"},
            "release": {"type": ["integer", "null"], "description": "The release that answered."},
            "receipt": {"type": ["string", "null"], "description": "Leads to the release: `trilha trail RECEIPT`."},
            "default": {"type": "boolean", "description": "The model was late; this is the project's default answer."},
            "answers": {"type": "array", "items": door.signature.speech.schema()},
        },
    }


def _get(name: str, words: str, *, array: bool = False) -> Schema:
    schema = {"type": "array", "items": {"type": "object"}} if array else {"type": "object"}
    good = {"description": words, "content": {"application/json": {"schema": schema}}}
    return {"operationId": name, "summary": words, "responses": {"200": good, **_problems()}}


def _problems() -> Mapping[str, Schema]:
    schema = {"$ref": "#/components/schemas/Problem"}
    content = {"application/problem+json": {"schema": schema}}
    return {status: {"description": words, "content": content} for status, words in _REFUSALS.items()}
