"""A receipt can be taken apart by whoever has it, and leads to its release without the gateway."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from components.errors import NotFoundError
from components.gateway import receipts
from components.records import Release
from components.workspace import Workspace
from flows.trail import trail
from tests.conftest import place_small
from tests.triton import Fitted, release_of


@pytest.fixture
def release(workspace: Workspace, fitted: Fitted) -> Release:
    place_small(workspace.home.parents[1])
    return release_of(workspace, fitted, "small")


def test_a_receipt_leads_to_its_release(workspace: Workspace, release: Release) -> None:
    """Prediction, release, bundle, model, trial, data: the whole chain, from the data store alone."""
    given = receipts.prefix_of(release) + receipts.new_unique()
    links = trail(workspace, f"{given}.3")
    assert [link.what for link in links[:3]] == ["prediction", "release", "run"]
    assert (links[0].name, links[1].name) == (given, f"small/{release.number}")
    assert "row 3" in links[0].lines[0]
    assert links[-1].what == "commit"


def test_a_receipt_of_another_store(workspace: Workspace, release: Release) -> None:
    """The number alone is not believed: where the digest is another one, that is said."""
    strange = f"small-{release.number}-{'0' * 12}-{receipts.new_unique()}"
    with pytest.raises(NotFoundError, match="the receipt says 000000000000"):
        trail(workspace, strange)


def test_the_unique_part_is_a_uuid(release: Release) -> None:
    """Of version 7, with the moment in it; a later one sorts behind."""
    made = [receipts.new_unique() for _ in range(100)]
    assert len(set(made)) == 100
    assert {(uuid.UUID(one).version, uuid.UUID(one).variant) for one in made} == {(7, uuid.RFC_4122)}
    assert [one[:12] for one in made] == sorted(one[:12] for one in made)
    parsed = receipts.parse(receipts.prefix_of(release) + made[0])
    assert parsed is not None
    assert abs(datetime.now(UTC) - parsed.moment) < timedelta(seconds=5)


@pytest.mark.parametrize("project", ["a", "small-2", "x-1-000000000000", "a" * 63])
def test_names_with_dashes_and_digits(project: str) -> None:
    """A project may be called almost like a receipt."""
    unique = receipts.new_unique()
    assert receipts.parse(f"{project}-12-0123456789ab-{unique}") == receipts.Receipt(
        project, 12, "0123456789ab", unique
    )


@pytest.mark.parametrize("text", ["", "small/1", "small-1-0123456789ab", "small-0-0123456789ab-" + "0" * 32, "a" * 500])
def test_no_receipt(text: str) -> None:
    """Other names are left to others."""
    assert receipts.parse(text) is None
