from __future__ import annotations

import pytest
from pydantic import ValidationError

from components.connections import url_of
from components.errors import ConfigError
from components.profile import Connection, GitStore, Profile
from components.workspace import Workspace


def workspace(**connections: dict[str, str]) -> Workspace:
    made = {name: Connection.model_validate(given) for name, given in connections.items()}
    return Workspace("test", Profile(state="state", store=GitStore(path="data.git"), connections=made))


def test_a_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands in the profile, or in the variable that the profile names."""
    monkeypatch.setenv("WAREHOUSE_URL", "postgresql://reader:secret@db/shop")
    there = workspace(sensors={"url": "kafka://127.0.0.1:9092"}, warehouse={"url_env": "WAREHOUSE_URL"})
    assert url_of(there, "sensors") == "kafka://127.0.0.1:9092"
    assert url_of(there, "warehouse") == "postgresql://reader:secret@db/shop"


def test_an_unknown_name() -> None:
    """The error says which names there are, and where to write another."""
    with pytest.raises(ConfigError, match="no connection 'warehose'.*did you mean 'warehouse'") as caught:
        url_of(workspace(warehouse={"url": "sqlite:///shop.db"}), "warehose")
    assert caught.value.accepted == "warehouse"
    assert "config/profiles/test.yaml" in str(caught.value.next_step)


def test_a_variable_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named; nothing is tried with an empty URL."""
    monkeypatch.delenv("WAREHOUSE_URL", raising=False)
    with pytest.raises(ConfigError, match="WAREHOUSE_URL"):
        url_of(workspace(warehouse={"url_env": "WAREHOUSE_URL"}), "warehouse")


@pytest.mark.parametrize("given", [
    {}, {"url": "redis://db", "url_env": "DB"}, {"url": "postgresql://me:secret@db/shop"},
])  # fmt: skip
def test_what_is_refused(given: dict[str, str]) -> None:
    """Neither, both, and a password in a file that goes into version control."""
    with pytest.raises(ValidationError):
        Connection.model_validate(given)
