"""Files that a user wrote or named: one error for whatever keeps such a file from being read."""

from __future__ import annotations

from pathlib import Path

from components.errors import ConfigError, NotFoundError


def read_bytes(path: Path, limit: int | None = None) -> bytes:
    """What is in `path`.

    Args:
        path: the file.
        limit: bytes that it may have at most.

    Raises:
        NotFoundError: there is no such file.
        ConfigError: it cannot be read, or is larger than `limit`.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError(f"{path}: {error.strerror}", next_step="check the name, or create the file") from error
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror}", accepted="a file that you may read", next_step=f"look at it: ls -l {path}"
        ) from error
    if limit is not None and len(content) > limit:
        raise ConfigError(f"{path}: {len(content)} bytes", accepted=f"at most {limit} bytes", next_step="shorten it")
    return content


def read_text(path: Path, limit: int | None = None) -> str:
    """The text in `path`, of at most `limit` bytes.

    Raises:
        NotFoundError, ConfigError: as `read_bytes`, or it is not UTF-8; names the line that is not.
    """
    content = read_bytes(path, limit)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{path}:{line}: not UTF-8 at byte {error.start} (0x{content[error.start]:02x})",
            accepted="text in UTF-8",
            next_step="save it as UTF-8",
        ) from error
