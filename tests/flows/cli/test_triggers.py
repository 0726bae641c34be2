"""`trilha triggers` where the service is not up."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from flows.cli.triggers import triggers_app


@pytest.mark.usefixtures("repository")
def test_a_service_that_is_down() -> None:
    """Its URL is none, and what is wrong has a field of its own; people are told in the URL's place."""
    said = json.loads(CliRunner().invoke(triggers_app, ["show", "--profile", "test", "--json"]).stdout)
    assert said["url"] is None
    assert "trilha up" in said["problem"]
    lines = CliRunner().invoke(triggers_app, ["show", "--profile", "test"]).stdout.splitlines()
    assert lines[0] == f"service  {said['problem']}"
