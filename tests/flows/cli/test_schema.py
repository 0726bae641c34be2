"""The JSON Schemas that editors read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.cli.schema import Document, schema_of

SCHEMAS = Path(__file__).parents[3] / "config" / "schemas"


@pytest.mark.parametrize("document", Document)
def test_the_kept_schema_is_the_models(document: Document) -> None:
    """Stale? `for d in project expectations profile; do trilha schema $d > config/schemas/$d.json; done`."""
    assert json.loads((SCHEMAS / f"{document}.json").read_text()) == schema_of(document)
