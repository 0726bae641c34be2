"""The action file that lakeFS reads."""

from __future__ import annotations

import yaml

from components.adapters.lakefs_actions import VARIABLE, action


def test_the_action() -> None:
    """It names branches as lakeFS knows them, and the token by its variable alone."""
    read = yaml.safe_load(action(["incoming/flights", "new"], "http://127.0.0.1:4300/hooks/lakefs"))
    assert read["on"] == {name: {"branches": ["incomingSflights", "new"]} for name in ("post-commit", "post-merge")}
    [hook] = read["hooks"]
    assert hook["properties"]["headers"] == {"Authorization": f"Bearer {{{{ ENV.{VARIABLE} }}}}"}
