"""The variables that a profile names: which are set, and that none is shown."""

from __future__ import annotations

import pytest

from components.profile import Profile
from components.workspace import Workspace
from flows.doctor.check import Check
from flows.doctor.variables import hidden, named

PROFILE = Profile.model_validate({
    "state": "state",
    "store": {"kind": "lakefs", "url": "http://lake", "repository": "lake", "namespace": "s3://lake"},
    "services": {"triggers": {"url": "http://t", "token_env": "T_TOKEN"}},
    "kubeflow": {"token_env": "K_TOKEN", "secrets": {"disk": {"key": "DISK_KEY"}}, "config_maps": {"c": {"k": "ZONE"}}},
})  # fmt: skip
NAMES = ["DISK_KEY", "K_TOKEN", "LAKECTL_CREDENTIALS_ACCESS_KEY_ID", "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY", "T_TOKEN"]


def test_set_and_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each that the profile names for a secret, wherever it names it; what is no secret is not asked for."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    [check] = named(Workspace("test", PROFILE))
    assert (check.verdict, check.found) == ("note", f"not set here: {', '.join(NAMES)}")
    for name in NAMES[1:]:
        monkeypatch.setenv(name, "seed-of-a-secret")
    [check] = named(Workspace("test", PROFILE))
    assert check.found == "not set here: DISK_KEY (Kubernetes gives it to steps in the cluster)"
    assert check.remedy == "export DISK_KEY=..."
    monkeypatch.setenv("DISK_KEY", "seed-of-a-secret")
    [check] = named(Workspace("test", PROFILE))
    assert (check.verdict, check.found) == ("good", f"set: {', '.join(NAMES)}")


def test_none_named() -> None:
    """A profile without secrets has no line about them."""
    local = Profile.model_validate({"state": "state", "store": {"kind": "git", "path": "data.git"}})
    assert list(named(Workspace("test", local))) == []


def test_what_a_server_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret in what others say is starred out, the longer one first; words as short as ours stay."""
    monkeypatch.setenv("K_TOKEN", "seed-of-a-token")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "seed-of-a-token-and-more\n")
    monkeypatch.setenv("DISK_KEY", "trilha")
    said = Check(name="x", verdict="bad", found="seed-of-a-token-and-more, seed-of-a-token", remedy="trilha doctor")
    [check] = hidden(PROFILE, [said])
    assert (check.found, check.remedy) == ("***, ***", "trilha doctor")
