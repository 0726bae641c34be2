"""API keys: a random text that is shown once and stored as its hash, with a name and what its owner may do.

A key reads `trilha_ID_SECRET`. The secret has 256 random bits, so a plain SHA-256 of it cannot be guessed back, and the
door need not be slow on purpose.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from components import config
from components.errors import ConfigError, NotFoundError
from components.records import Record

if TYPE_CHECKING:
    from components.workspace import Workspace

SCOPE = re.compile(r"(feedback|predict|read):(\*|[a-z][a-z0-9_-]{0,62})")
SCOPES = "predict:PROJECT, read:PROJECT, feedback:PROJECT, or * for all projects"

_KEY = re.compile(r"trilha_(?P<id>[0-9a-f]{12})_(?P<secret>[A-Za-z0-9_-]{43})")


class Key(Record):
    """What is stored of a key."""

    id: str
    name: str
    sha256: str
    scopes: tuple[str, ...]
    created: str
    expires: str | None = None


class Keys(Record):
    """The file of keys."""

    keys: tuple[Key, ...] = ()


def path_of(workspace: Workspace) -> Path:
    """Where the keys of a profile are."""
    named = workspace.profile.services.gateway.keys
    return config.root() / named if named else workspace.home / "services" / "gateway.keys.json"


def read(path: Path) -> Keys:
    """The keys in `path`; none where there is no file.

    Raises:
        ConfigError: it is not a file of keys, or others than its owner can write it.
    """
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o022:
            raise ConfigError(f"others than its owner can write {path}", next_step=f"chmod go-w {path}")
        return Keys.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Keys()
    except ValidationError as error:
        raise ConfigError(f"{path} is not a file of keys: {error.errors()[0]['msg']}") from error


def add(workspace: Workspace, name: str, scopes: Iterable[str], expires: datetime | None = None) -> tuple[Key, str]:
    """Make a key; returns what is stored, and the key itself, which is nowhere else.

    Raises:
        ConfigError: a scope is none, or a key of that name is there.
    """
    scopes = tuple(dict.fromkeys(scopes))
    wrong = [scope for scope in scopes if not SCOPE.fullmatch(scope)]
    if wrong or not scopes:
        raise ConfigError(f"scope {wrong[0]!r}" if wrong else "a key without a scope opens nothing", accepted=SCOPES)
    secret = secrets.token_urlsafe(32)
    key = Key(
        id=secrets.token_hex(6),
        name=config.check_name(name, "key"),
        sha256=_hash(secret),
        scopes=scopes,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        expires=expires and expires.isoformat(timespec="seconds"),
    )
    with workspace.lock("gateway-keys"):
        known = read(path_of(workspace)).keys
        if any(one.name == name for one in known):
            raise ConfigError(f"there is a key {name!r}", next_step=f"trilha keys revoke {name}")
        _write(path_of(workspace), Keys(keys=(*known, key)))
    return key, f"trilha_{key.id}_{secret}"


def revoke(workspace: Workspace, name: str) -> Key:
    """Take a key out; a gateway that runs notices within a second.

    Raises:
        NotFoundError: there is none of that name.
    """
    with workspace.lock("gateway-keys"):
        known = read(path_of(workspace)).keys
        found = [key for key in known if key.name == name]
        if not found:
            accepted = ", ".join(key.name for key in known) or "none yet"
            raise NotFoundError(f"no key {name!r}", accepted=accepted)
        _write(path_of(workspace), Keys(keys=tuple(key for key in known if key.name != name)))
    return found[0]


def match(known: dict[str, Key], text: str) -> Key | None:
    """The key that `text` is; compared in constant time."""
    found = _KEY.fullmatch(text)
    if found is None:
        return None
    key = known.get(found["id"])
    given = _hash(found["secret"])
    return key if key is not None and hmac.compare_digest(given, key.sha256) else None


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _write(path: Path, keys: Keys) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(keys.model_dump_json(indent=1))
        part.replace(path)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()
