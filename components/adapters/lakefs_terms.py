"""lakeFS' terms and ours: names, entries, revisions, errors. Each is translated here, once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from lakefs.exceptions import (
    BadRequestException,
    ConflictException,
    ForbiddenException,
    NotAuthorizedException,
    NotFoundException,
    ServerException,
    api_exception_handler,
)
from lakefs.models import Commit, ObjectInfo
from urllib3.exceptions import HTTPError

from components.errors import ConfigError, ConflictError, NotFoundError, UnavailableError
from components.ports import Entry, Revision

KEY, HEAD = "trilha-key", "trilha-head"
"""Our names in the metadata of commits."""
SHA256, PATH = "sha256", "path"
"""Our names in the metadata of objects."""

_OURS = re.compile(r"[a-z0-9SD_-]+")


def encoded(ref: str) -> str:
    """A ref as lakeFS takes it: it has neither '/' nor '.', we have no capitals."""
    return ref.replace("/", "S").replace(".", "D")


def decoded(name: str) -> str | None:
    """The ref that lakeFS knows as `name`; None for one that is not ours."""
    return name.replace("S", "/").replace("D", ".") if _OURS.fullmatch(name) else None


def to_metadata(entry: Entry) -> dict[str, str]:
    """What an object says of itself.

    The path makes objects of equal content at two paths different: lakeFS (1.84, too) takes them for one where a merge
    comes to the end of a side (`handleAll` in committed/merge.go compares identities without keys), and drops one.
    """
    return {SHA256: entry.sha256, PATH: entry.path}


def to_entry(info: ObjectInfo) -> Entry | None:
    """The entry of an object; None for one that others wrote, which does not say its SHA-256."""
    sha256 = (info.metadata or {}).get(SHA256)
    return Entry(info.path, sha256, info.size_bytes or 0) if sha256 is not None else None


def to_revision(commit: Commit) -> Revision:
    """The revision of a commit, without what lakeFS and we put into its metadata ourselves."""
    metadata = (commit.metadata or {}).items()
    return Revision(
        id=commit.id,
        parents=tuple(commit.parents),
        message=commit.message,
        created=datetime.fromtimestamp(commit.creation_date, UTC).isoformat(),
        metadata={name: value for name, value in metadata if not name.startswith((".lakefs.", "trilha-"))},
    )


@contextmanager
def border(url: str) -> Iterator[None]:
    """Turn the SDK's errors into ours; `url` is where the server is."""
    try:
        with api_exception_handler():
            yield
    except (NotAuthorizedException, ForbiddenException) as error:
        raise ConfigError(
            f"lakeFS at {url} refuses: {words(error)}",
            accepted="the key of a user who may read and write the repository",
            next_step="correct the environment variables that the profile names",
        ) from error
    except NotFoundException as error:
        raise NotFoundError(f"lakeFS at {url}: {words(error)}") from error
    except (ConflictException, BadRequestException) as error:
        raise ConflictError(f"lakeFS at {url}: {words(error)}") from error
    except (ServerException, HTTPError) as error:
        raise UnavailableError(
            f"lakeFS at {url} cannot be used: {words(error)}",
            next_step="start it, or correct store.url in the profile",
        ) from error


def words(error: ServerException | HTTPError) -> str:
    """What the server says, or why it says nothing."""
    if isinstance(error, ServerException):
        return str(error.body.get("message") or error.reason)
    return str(getattr(error, "reason", error))
