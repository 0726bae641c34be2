"""A candidate is no champion: not for the registry, the server, a rollback or the next run, until it is promoted."""

from __future__ import annotations

from typing import Any

import pytest

from components.champion import champion
from components.errors import ConfigError, NotFoundError
from components.ledger import running_as
from components.reconcile import reconcile, settled
from components.records import Release, digest
from components.release import one_before, release, roll_back
from components.releases import newest, releases
from components.rollout import abort, other_release, promote, start
from components.rollout_settings import RolloutRules
from components.rollouts import change, ended, rollouts, under_way
from components.workspace import Workspace
from tests.components.test_release import evidence, is_served, released, serving
from tests.triton import Fitted, fit


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    """A model that answers differently."""
    return fit(tmp_path_factory.mktemp("other"), seed=1)


def rolled(workspace: Workspace, fitted: Fitted, name: str, rules: RolloutRules | None = None) -> Release:
    """A release as the step makes it where the project has `rollout:`."""
    with running_as(digest(["release", name])):
        return release("flights", "test", **evidence(workspace, fitted, name), rollout=rules or RolloutRules())


@pytest.fixture
def two(registry: Workspace, fitted: Fitted, other: Fitted) -> tuple[Release, Release]:
    """What serves, and a candidate."""
    return rolled(registry, fitted, "one"), rolled(registry, other, "two")


def test_the_first_one_serves(registry: Workspace, fitted: Fitted) -> None:
    """There is nobody to be held against."""
    one = rolled(registry, fitted, "one")
    assert one.rollout is None
    assert not list(rollouts(registry.store, "flights"))
    is_served(registry, one, fitted)


def test_promoted(registry: Workspace, fitted: Fitted, other: Fitted, two: tuple[Release, Release]) -> None:
    """Before: alias, tag and stable name are the first one's, and the candidate is loaded. After: its own."""
    one, candidate = two
    is_served(registry, one, fitted)
    assert candidate.bundle.model in registry.server.loaded()
    assert not settled(registry, candidate)
    done = promote(registry, "flights", "a test")
    assert (done.state, done.events[-1].why) == ("promoted", "a test")
    is_served(registry, candidate, other)
    with pytest.raises(NotFoundError, match="the last one: canary, release 1 to 2: promoted"):
        promote(registry, "flights", "once more")


def test_killed_after_the_promotion(registry: Workspace, other: Fitted, two: tuple[Release, Release]) -> None:
    """Its record is written and nothing else is done: `reconcile` finishes it."""
    rollout = under_way(registry.store, "flights")
    assert rollout is not None
    change(registry.store, rollout, lambda one: ended(one, "promoted", "ana", "a test"))
    assert serving(registry)[1] == two[0].bundle.model
    reconcile(registry, "flights")
    is_served(registry, two[1], other)


def test_aborted(registry: Workspace, fitted: Fitted, two: tuple[Release, Release]) -> None:
    """It never served: no rollback goes to it by itself, and no later candidate is held against it."""
    one, candidate = two
    abort(registry, "flights", "a test")
    reconcile(registry, "flights")
    is_served(registry, one, fitted)
    assert champion("flights", "test", candidate.candidate).release == one.number
    with pytest.raises(NotFoundError, match="no other release than 1 to go back to"):
        one_before(registry, "flights")
    assert other_release(registry, "flights") == candidate


def test_the_same_evidence_again(registry: Workspace, other: Fitted, two: tuple[Release, Release]) -> None:
    """A step that finds what was aborted does not try it once more; a person may."""
    abort(registry, "flights", "a test")
    made: dict[str, Any] = evidence(registry, other, "two")
    with running_as(digest("another run")):
        again = release("flights", "test", **made, rollout=RolloutRules())
    assert again == two[1]
    assert under_way(registry.store, "flights") is None
    begun = start(registry, "flights", two[1], RolloutRules(how="blue-green"), "once more")
    assert (begun.candidate, begun.running, begun.number) == (3, 1, 2)


def test_a_rollback_ends_it(registry: Workspace, fitted: Fitted, other: Fitted, two: tuple[Release, Release]) -> None:
    """Whoever rolls back means it: the roll-out under way is over, in the same commit."""
    promote(registry, "flights", "a test")
    third = start(registry, "flights", two[0], RolloutRules(), "back, slowly")
    back = roll_back(registry, "flights", one_before(registry, "flights"))
    assert (back.number, back.restores, back.rollout) == (4, 1, None)
    is_served(registry, back, fitted)
    last = next(rollouts(registry.store, "flights"))
    assert (last.number, last.state, last.events[-1].why) == (third.number, "aborted", "release 4 takes its place")


def test_others_are_dropped_but_not_those_that_answer(
    registry: Workspace, fitted: Fitted, other: Fitted, two: tuple[Release, Release]
) -> None:
    """While a roll-out is under way, whatever moves the stable name leaves both bundles loaded."""
    registry.server.unload("flights")
    reconcile(registry, "flights")
    assert {one.bundle.model for one in two} <= registry.server.loaded()
    assert [one.number for one in releases(registry.store, "flights")] == [2, 1]
    assert newest(registry.store, "flights") == two[0]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"shares": [0.5, 0.2]}, "shares of a canary that grow"),
        ({"shares": [0.5, 1.0]}, "below 1"),
        ({"how": "shadow", "shares": [0.1, 0.2]}, "one share for shadow"),
        ({"how": "blue-green", "shares": [0.5]}, "no shares for blue-green"),
        ({"how": "blue-green", "compare": 0}, "`compare` above 0"),
        ({"seconds": 90_000}, "`seconds` below `longest`"),
    ],
)
def test_rules_that_make_no_sense(wrong: dict[str, Any], words: str) -> None:
    """Refused when they are read, with what would do."""
    with pytest.raises(ValueError, match=words):
        RolloutRules(**wrong)


def test_what_serves_is_no_candidate(registry: Workspace, fitted: Fitted) -> None:
    """It is said, and nothing is written."""
    one = released(registry, fitted, "one")
    with pytest.raises(ConfigError, match="release 1 is what flights serves"):
        start(registry, "flights", one, RolloutRules(), "a test")
