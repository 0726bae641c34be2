"""Whatever a client sends, by the description or against it, the gateway answers below 500 and goes on."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.components.gateway.conftest import PROJECT, ROW, Running
from tests.components.gateway.test_v2 import INFER, binary, plain

pytestmark = pytest.mark.xdist_group("gateway")

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
BOUNDED = settings(
    derandomize=True,  # the same requests each time: what is found can be found again
    max_examples=60, deadline=None, phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)  # fmt: skip


def test_the_description(gateway: Running) -> None:
    """Requests made of the OpenAPI document, right and wrong: no 5xx, and every answer is one that it describes."""
    schema = schemathesis.openapi.from_dict(gateway.client.get("/openapi.json").json())
    asked = 0
    for operation in schema.get_all_operations():
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):

            @BOUNDED
            @given(case=operation.ok().as_strategy(generation_mode=mode))
            def ask(case: schemathesis.Case) -> None:
                nonlocal asked
                asked += 1
                case.call_and_validate(base_url=str(gateway.client.base_url), checks=CHECKS, timeout=20)

            ask()
    assert asked > 100
    assert gateway.predict(ROW).status_code == 200


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
VALUES = st.dictionaries(st.sampled_from([*ROW, "flight", "late", "x"]), JUNK, max_size=3)


def test_values_of_every_kind(gateway: Running) -> None:
    """A good row with some values replaced by anything, typed and as TensorFlow Serving's."""

    @BOUNDED
    @given(change=VALUES)
    def ask(change: dict[str, object]) -> None:
        row = {**ROW, **change}
        for path, body in (
            (f"/v1/projects/{PROJECT}/predict", {"rows": [row]}),
            (f"/v1/models/{PROJECT}:predict", {"instances": [row]}),
            (f"/v1/models/{PROJECT}:predict", {"inputs": row}),
            (f"/v1/models/{PROJECT}:classify", {"examples": [row]}),
        ):
            answer = gateway.client.post(path, content=json.dumps(body))
            assert answer.status_code < 500, (body, answer.text)

    ask()
    assert gateway.predict(ROW).status_code == 200


def test_tensors_of_every_kind(gateway: Running) -> None:
    """V2 in JSON with members replaced by anything, and in binary with bytes cut, changed or added."""
    members = st.sampled_from(["name", "datatype", "shape", "data", "parameters"])
    headers, whole = binary([ROW])
    length = int(headers["Inference-Header-Content-Length"])

    @BOUNDED
    @given(
        number=st.integers(0, len(ROW) - 1), member=members, value=JUNK,
        place=st.integers(0, len(whole)), bytes_=st.binary(max_size=6), cut=st.integers(0, 6), shift=st.integers(-3, 3),
    )  # fmt: skip
    def ask(number: int, member: str, value: object, place: int, bytes_: bytes, cut: int, shift: int) -> None:
        body = plain([ROW])
        body["inputs"][number][member] = value
        changed = whole[:place] + bytes_ + whole[place + cut :]
        for content, header in ((json.dumps(body).encode(), {}), (changed, {next(iter(headers)): str(length + shift)})):
            answer = gateway.client.post(INFER, content=content, headers=header)
            assert answer.status_code < 500, (content, answer.text)

    ask()
    assert gateway.predict(ROW).status_code == 200


def test_paths_of_every_kind(gateway: Running) -> None:
    """Known paths with parts replaced, doubled or left out."""
    known = f"v1 v2 projects models {PROJECT} predict infer versions labels 1 champion ready .. {PROJECT}:predict"
    parts = st.sampled_from(["", *known.split()])
    text = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8)

    @BOUNDED
    @given(path=st.lists(parts | text, max_size=6), method=st.sampled_from(["GET", "POST", "PUT", "HEAD", "OPTIONS"]))
    def ask(path: list[str], method: str) -> None:
        url = f"{gateway.client.base_url}/{'/'.join(quote(part, safe=':.') for part in path)}"
        answer = gateway.client.request(method, url)
        assert answer.status_code < 500, (path, answer.text)

    ask()
