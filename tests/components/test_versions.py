"""Several releases on one server, by the version policy of the one that serves."""

from __future__ import annotations

from typing import Any

import pytest

from components.bundle import bundle_of
from components.errors import GateError
from components.mend import mend
from components.project import Serve
from components.reconcile import uphold
from components.records import Release
from components.serve_settings import Triton
from components.serving import take_down, whole
from components.versions import check_versions
from components.workspace import Workspace
from tests.triton import Fitted, release_of

PROJECT = "versions"


@pytest.fixture
def released(served: Workspace, fitted: Fitted) -> Any:
    """Makes releases that differ in their number of instances, and lets each serve in its turn."""

    def make(instances: int, policy: dict[str, Any] | None = None) -> Release:
        settings = Triton(instance_group=[{"count": instances}], version_policy=policy)
        key = f"{instances} {policy}"
        release = release_of(served, fitted, PROJECT, key, serve=Serve(golden=16, triton=settings))
        uphold(served, release)
        return release

    yield make
    for model in {bundle_of(PROJECT, model) for model in served.server.loaded()} | {PROJECT}:
        if model:
            take_down(served.server, model)


def held(workspace: Workspace) -> set[str]:
    return {model for model in workspace.server.loaded() if bundle_of(PROJECT, model) == model}


def test_without_a_policy(served: Workspace, released: Any) -> None:
    """The release that serves and the one before are there, and no others."""
    made = [released(count) for count in (1, 2, 3)]
    assert held(served) == {release.bundle.model for release in made[1:]}


@pytest.mark.long
def test_the_newest_ones(served: Workspace, released: Any) -> None:
    """`latest` counts the releases that stay, the one that serves among them; older ones go."""
    made = [released(count, {"latest": {"num_versions": 3}}) for count in (1, 2, 3, 4)]
    assert held(served) == {release.bundle.model for release in made[1:]}


@pytest.mark.long
def test_certain_ones(served: Workspace, released: Any) -> None:
    """`specific` brings back a release that was dropped, and it answers by its own name."""
    made = [released(count) for count in (1, 2, 3)]
    made.append(released(4, {"specific": {"versions": [1]}}))
    assert held(served) == {made[number].bundle.model for number in (0, 2, 3)}


@pytest.mark.long
def test_all_of_them(served: Workspace, released: Any) -> None:
    """`all` brings every release back after the server lost them."""
    made = [released(count, {"all": {}}) for count in (1, 2, 3)]
    for release in made:
        take_down(served.server, release.bundle.model)
    uphold(served, made[-1])
    assert held(served) == {release.bundle.model for release in made}


def test_a_release_that_is_not_there(served: Workspace, released: Any) -> None:
    """A number that no release has is refused by name, with those that there are."""
    policy = {"specific": {"versions": [1, 7]}}
    bundle = released(1).bundle.model_copy(update={"triton": Triton(version_policy=policy)})
    with pytest.raises(GateError, match=r"version_policy\.specific: versions has no release 7; accepted: 1"):
        check_versions(served.store, PROJECT, bundle)


@pytest.mark.parametrize("join", ["ensemble", "fused"])
def test_a_bundle_with_settings_is_made_anew(served: Workspace, fitted: Fitted, join: str) -> None:
    """Its settings are in the manifest, so that the same bundle is made of them when its files are gone."""
    settings = Triton(instance_group=[{"count": 2}], model_warmup={"rows": 2})
    release = release_of(served, fitted, PROJECT, join, serve=Serve(golden=16, join=join, triton=settings))
    for file in release.bundle.files.values():
        served.artifacts.local(file).unlink(missing_ok=True)
    assert mend(served, release)
    for file in release.bundle.files.values():
        whole(served, file)
