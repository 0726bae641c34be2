from __future__ import annotations

from pathlib import Path

import pytest

from components.bundle import bundle_name, bundle_of, content_digest, part_names

MODEL = bundle_name("flights", "0123456789abcdef")


@pytest.mark.parametrize("model", [MODEL, *part_names(MODEL).values()])
def test_models_know_their_bundle(model: str) -> None:
    """The ensemble and its parts are told by name to be one bundle."""
    assert bundle_of("flights", model) == MODEL


@pytest.mark.parametrize("model", ["flights", "flights-eu-0123456789ab", "flights-0123", f"{MODEL}-other", "trains"])
def test_models_of_others_are_left_alone(model: str) -> None:
    """The stable name and other projects' models belong to no bundle of the project."""
    assert bundle_of("flights", model) is None


def test_digest_is_of_paths_and_contents(tmp_path: Path) -> None:
    """The same files have the same digest wherever they lie; another path or another byte has another."""
    path = tmp_path / "file"
    path.write_text("text")
    assert content_digest({"a": path, "b": ""}) == content_digest({"b": "", "a": "text"})
    assert len({content_digest(files) for files in ({"a": "x"}, {"b": "x"}, {"a": "y"}, {"a": "x", "b": ""})}) == 4
