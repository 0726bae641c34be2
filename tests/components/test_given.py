"""Files that a user wrote or named."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.errors import ConfigError, NotFoundError
from components.given import read_bytes, read_text


def test_a_file_that_is_as_it_should_be(tmp_path: Path) -> None:
    """Its text, also where that is not ASCII, at just the size that is allowed."""
    path = tmp_path / "query.sql"
    path.write_text("select 'São'")
    assert read_text(path, 13) == "select 'São'"
    with pytest.raises(ConfigError, match="query.sql: 13 bytes; accepted: at most 12 bytes; next: shorten"):
        read_text(path, 12)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A file that is not there, a folder, and one whose reading the system refuses: each in one line."""
    with pytest.raises(NotFoundError, match="nothing.sql: No such file.*; next: check the name"):
        read_text(tmp_path / "nothing.sql")
    with pytest.raises(ConfigError, match="Is a directory; accepted: a file that you may read; next: look at it"):
        read_bytes(tmp_path)
    with pytest.raises(ConfigError, match="/proc/self/mem: .*; accepted: a file that you may read"):
        read_bytes(Path("/proc/self/mem"))
    with pytest.raises(ConfigError, match="File name too long"):
        read_bytes(tmp_path / ("a" * 300))


def test_text_in_another_encoding_is_named_with_its_line(tmp_path: Path) -> None:
    """The line and the byte that are not UTF-8."""
    path = tmp_path / "query.sql"
    path.write_bytes(b"select 1,\n  'S\xe3o'\n")
    with pytest.raises(ConfigError, match=r"query.sql:2: not UTF-8 at byte 14 \(0xe3\); accepted: text in UTF-8; next"):
        read_text(path)
