"""The page to try it, in a real browser: it asks the gateway and nobody else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.components.gateway.conftest import PROJECT, ROW, Running, key_of

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("gateway")]


def test_a_person_asks(gateway: Running, page: Page) -> None:
    """The example is filled in; what comes is the answer that a program gets, or what is wrong with the row."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{gateway.client.base_url}/docs")
    expect(page.get_by_role("heading", name=f"POST /v1/projects/{PROJECT}/predict")).to_be_visible()
    expect(page.get_by_role("cell", name="carrier", exact=True)).to_be_visible()

    page.get_by_role("textbox").last.fill(json.dumps({"rows": [ROW]}))
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("pre")).to_contain_text("200, ")
    shown = json.loads(page.locator("pre").inner_text().split("\n", 1)[1])
    assert shown["answers"] == gateway.predict(ROW).json()["answers"]
    if folder := os.environ.get("TRILHA_PICTURES"):  # for the docs
        page.screenshot(path=Path(folder) / "gateway-page.png", full_page=True)

    page.get_by_role("textbox").last.fill(json.dumps({"rows": [{**ROW, "distance": "far"}]}))
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("pre.bad")).to_contain_text("422, ")
    expect(page.locator("pre.bad")).to_contain_text("distance")
    assert {url.rsplit("/", 1)[0] for url in asked} <= {
        str(gateway.client.base_url),
        f"{gateway.client.base_url}/v1/projects/{PROJECT}",
    }


def test_with_a_key(guarded: Running, page: Page) -> None:
    """A browser asks for the password before it shows anything; the page asks for the key, and then shows the model."""
    text = key_of(guarded, f"predict:{PROJECT}", f"read:{PROJECT}")["Authorization"].removeprefix("Bearer ")
    page.context.set_extra_http_headers({"X-API-Key": text})
    page.goto(f"{guarded.client.base_url}/docs")
    page.get_by_label("Key or token").fill(text)
    page.get_by_label("Key or token").press("Enter")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("pre")).to_contain_text("200, ")
