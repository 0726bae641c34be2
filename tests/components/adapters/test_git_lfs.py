"""Pointers and commit messages are read back exactly."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.adapters.git_lfs import from_pointer, from_text, to_pointer, to_text
from components.adapters.object_folder import ObjectFolder
from components.errors import ConfigError

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(message=TEXT, key=TEXT, metadata=st.dictionaries(TEXT, TEXT))
def test_text(message: str, key: str, metadata: dict[str, str]) -> None:
    """Message, key and metadata come back, whatever they hold."""
    assert from_text(to_text(message, key, metadata)) == (message, key, metadata)


def test_text_of_a_text() -> None:
    """A message that is itself the text of a commit is a message."""
    text = to_text("m", "other key", {"a": "b"})
    assert from_text(to_text(text, "k", {})) == (text, "k", {})


@pytest.mark.parametrize("text", ["", "By hand\n", "m\n\nTrilha-Key: broken", 'm\n\nTrilha-Key: "k"\nTrilha-Data: "a"'])
def test_text_of_others(text: str) -> None:
    """A commit that others made has no key, and its message whole."""
    assert from_text(text) == (text, None, {})


@pytest.mark.skipif(shutil.which("git-lfs") is None, reason="no git-lfs on PATH")
@pytest.mark.parametrize("content", ["", "1", "x" * 100_000])
def test_pointer(tmp_path: Path, content: str) -> None:
    """A pointer is what Git LFS itself writes."""
    file = tmp_path / "file"
    file.write_text(content)
    [entry] = ObjectFolder(tmp_path / "lfs").take({"a": file}, move=False)
    command = ["git-lfs", "pointer", f"--file={file}"]
    theirs = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout
    assert to_pointer(entry) == theirs
    assert from_pointer("a", theirs) == entry


@pytest.mark.parametrize("content", [b"1", b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 1\n"])
def test_no_pointer(content: bytes) -> None:
    """Anything else is refused by name."""
    with pytest.raises(ConfigError, match="some/path"):
        from_pointer("some/path", content)
