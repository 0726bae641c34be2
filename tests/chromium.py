"""A real browser, as a person has it; it asks nobody but the pages' own servers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium")
ARGUMENTS = (
    "--no-sandbox",  # tests may run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture
def page() -> Iterator[Page]:
    """An empty tab of Chromium, of the size that the pictures in the docs have."""
    if CHROMIUM is None:
        pytest.skip("no `chromium` on PATH")
    expect.set_options(timeout=30_000)  # a page of a busy machine
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            Path(folder) / "profile",
            executable_path=CHROMIUM,
            args=list(ARGUMENTS),
            viewport={"width": 1200, "height": 912},
            device_scale_factor=1.5,
        )
        yield context.pages[0]
        context.close()
