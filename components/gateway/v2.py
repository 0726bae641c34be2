"""The V2 protocol, as KServe, Triton and their clients speak it: bodies go through as they come, JSON and binary.

What is let through is a list, and Triton's model control, its shared memory, its traces and its logs are not on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from components.adapters.triton_config import MAX_ROWS
from components.gateway.problems import Problem
from components.gateway.question import LateError, Question
from components.gateway.requests import Answer
from components.gateway.routing import key_of
from components.gateway.wire import LENGTH, Spec, rows_of

if TYPE_CHECKING:
    from components.gateway.catalogue import Catalogue, Door
    from components.gateway.model import Model
    from components.gateway.requests import Request

RECEIPT = "Trilha-Receipt"
RELEASE = "Trilha-Release"
DEFAULT = "Trilha-Default"
"""In place of the two above: the model was late, and this is the project's default answer."""

_SERVER = msgspec.json.encode({"name": "trilha", "version": "2", "extensions": ["binary_tensor_data"]})


def server() -> Answer:
    """`GET /v2`."""
    return Answer(_SERVER)


async def infer(model: Model, request: Request, project: str, version: str, body: bytes) -> Answer:
    """`POST /v2/models/NAME[/versions/V]/infer`; the receipt and the release are headers of the answer."""
    question = Question(_header(request, len(body)), body)

    async def write(_: Door) -> Question:
        return question

    try:
        said = await model.ask(write, lambda _: key_of(request, "", tuple), project, version)
    except LateError as late:
        return _default(late, question.header, body)
    headers = {RECEIPT: said.receipt, RELEASE: str(said.door.number)}
    if said.header is not None:
        headers[LENGTH] = str(said.header)
    return Answer(said.body, kind=said.kind, headers=headers)


def _default(late: LateError, header: int | None, body: bytes) -> Answer:
    """The project's default answer to each row, as JSON, which clients of the protocol read wherever they read tensors.

    Raises:
        Problem: 504 where the request does not say how many rows it has; nobody has looked at it yet.
    """
    try:
        rows = rows_of(header, body)
    except (msgspec.MsgspecError, IndexError):
        rows = 0
    if not 0 < rows <= MAX_ROWS:
        raise Problem(504, "the model did not answer in time")
    outputs = [
        {"name": spec.name, "datatype": spec.datatype, "shape": [rows, spec.width], "data": column}
        for spec, column in zip(late.door.signature.speech.outputs, late.columns(rows), strict=True)
    ]
    told = {"model_name": late.door.project, "model_version": "", "outputs": outputs}
    return Answer(msgspec.json.encode(told), headers={DEFAULT: "true"})


def _header(request: Request, size: int) -> int | None:
    given = request.header(b"inference-header-content-length")
    if not given:
        return None
    if not given.isdigit() or len(given) > 10 or int(given) > size:
        raise Problem(
            400, f"{LENGTH} is not the length of a header in this body", field=LENGTH, accepted=f"0 to {size}"
        )
    return int(given)


def metadata(catalogue: Catalogue, project: str, version: str) -> Answer:
    """`GET /v2/models/NAME[/versions/V]`."""
    door = catalogue.door(project, version)
    known = sorted(catalogue.entry(project).doors)
    facts = {
        "name": project,
        "versions": [version] if version else [str(number) for number in known],
        "platform": "ensemble",
        "inputs": _shown(door.signature.inputs),
        "outputs": _shown(door.signature.speech.outputs),
    }
    return Answer(msgspec.json.encode(facts))


def _shown(specs: Sequence[Spec]) -> list[dict[str, Any]]:
    return [{"name": name, "datatype": datatype, "shape": [-1, width]} for name, datatype, width, _ in specs]


def ready(catalogue: Catalogue, project: str, version: str) -> Answer:
    """`GET /v2/models/NAME[/versions/V]/ready`."""
    door = catalogue.door(project, version)
    return Answer(msgspec.json.encode({"name": door.project, "ready": True}))
