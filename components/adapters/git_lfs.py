"""What the git data store writes into Git: LFS pointers, the attributes a stock client goes by, and commit messages.

Pointers: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping

from components.errors import ConfigError
from components.ports import Entry

ATTRIBUTES_PATH = ".gitattributes"
ATTRIBUTES = b"""\
* filter=lfs diff=lfs merge=lfs -text
.gitattributes !filter !diff !merge text
"""

_POINTER = re.compile(rb"version https://git-lfs\.github\.com/spec/v1\noid sha256:([0-9a-f]{64})\nsize ([0-9]+)\n")
EMPTY = hashlib.sha256().hexdigest()
"""Of an empty object, which a store has from the beginning."""

_KEY = "\n\nTrilha-Key: "
_DATA = "\nTrilha-Data: "


def to_pointer(entry: Entry) -> bytes:
    """The file that Git tracks in the object's stead; an empty object is its own pointer."""
    if entry.size == 0:
        return b""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{entry.sha256}\nsize {entry.size}\n".encode()


def from_pointer(path: str, pointer: bytes) -> Entry:
    """The object that stands at `path`.

    Raises:
        ConfigError: the file is no pointer; somebody pushed it without Git LFS.
    """
    if not pointer:
        return Entry(path, EMPTY, 0)
    match = _POINTER.fullmatch(pointer)
    if match is None:
        raise ConfigError(
            f"{path} is in Git itself",
            accepted="a Git LFS pointer",
            next_step="run `git lfs install` in the clone it came from, add the file again and push",
        )
    return Entry(path, match[1].decode(), int(match[2]))


def to_text(message: str, key: str, metadata: Mapping[str, str]) -> str:
    """A commit's text: `message`, then the key and the metadata as trailers, their strings in JSON.

    Release flights 3

    Trilha-Key: "5df6e0..."
    Trilha-Data: "project": "flights"
    """
    data = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in sorted(metadata.items())]
    return message + _KEY + _DATA.join([json.dumps(key), *data])


def from_text(text: str) -> tuple[str, str | None, dict[str, str]]:
    """Message, key and metadata of a commit; a commit that others made has no key."""
    message, found, trailers = text.rpartition(_KEY)
    if not found:
        return text, None, {}
    try:
        key, *data = trailers.rstrip("\n").split(_DATA)
        return message, json.loads(key), json.loads("{" + ",".join(data) + "}")
    except ValueError:
        return text, None, {}
