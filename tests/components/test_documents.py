"""Documents on a local disk and on a real S3 server."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.documents import Documents


@pytest.fixture(params=["local", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place."""
    return f"{request.getfixturevalue('bucket')}/here" if request.param == "s3" else str(tmp_path / "here")


def test_written_read_replaced(url: str) -> None:
    """What was written last is read, also by somebody who asked before it was there."""
    documents, other = Documents(url), Documents(url)
    assert other.read("a/one.json") is None
    assert (other.names(), other.folders()) == ([], [])
    documents.write("a/one.json", b"1")
    assert other.read("a/one.json") == b"1"
    documents.write("a/one.json", b"2")
    assert other.read("a/one.json") == b"2"


def test_names_and_folders(url: str) -> None:
    """Names come with their folders, sorted; what others write is seen at once."""
    documents, other = Documents(url), Documents(url)
    documents.write("b/two.json", b"")
    assert other.names() == ["b/two.json"]
    documents.write("a/x/one.json", b"")
    assert other.names() == ["a/x/one.json", "b/two.json"]
    assert other.names("a/x") == ["a/x/one.json"]
    assert other.folders() == ["a", "b"]


def test_a_half_written_document_is_no_document(tmp_path: Path) -> None:
    """What a killed process left on the disk is not listed."""
    documents = Documents(str(tmp_path))
    documents.write("a.json", b"1")
    (tmp_path / "b.json.1f.part").write_bytes(b"half")
    assert documents.names() == ["a.json"]
