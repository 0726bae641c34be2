"""`GET /v1/projects/PROJECT/recommendations/KEY?count=N`: the best of a night, from the store of features alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, unquote

import msgspec

from components.errors import ConfigError, NotFoundError, UnavailableError
from components.gateway.problems import RETRY_SECONDS, Problem
from components.gateway.requests import Answer, Request
from components.recommend import MOST, Reader

if TYPE_CHECKING:
    from components.ports import FeatureStore

DEFAULT: Final = 10
"""Items where nobody says how many."""
LONGEST: Final = 200
"""Characters of a key."""

_encode = msgspec.json.Encoder().encode


class Recommender:
    """Answers for the projects that rank.

    Args:
        store: of features.
    """

    def __init__(self, store: FeatureStore) -> None:
        self._store = store
        self._readers: dict[str, Reader] = {}

    async def recommend(self, request: Request, project: str, key: str) -> Answer:
        """The best items of a key; of one that is not known, the best on the whole.

        Raises:
            Problem: 404, the project recommends nothing, or has no night yet; 422, a key or a count that is none; 503,
                the store is away.
        """
        key = unquote(key)
        if not key or len(key) > LONGEST:
            raise Problem(422, "the key", accepted=f"1 to {LONGEST} characters")
        count = _count(request.query)
        try:
            if project not in self._readers:
                self._readers[project] = Reader(self._store, project)
            return Answer(_encode(await self._readers[project].recommend(key, count)))
        except (ConfigError, NotFoundError) as error:
            raise Problem(404, error.problem, accepted=error.accepted) from None
        except UnavailableError:
            words = "the recommendations cannot be looked up just now"
            raise Problem(503, words, retry_after=RETRY_SECONDS) from None


def _count(query: str) -> int:
    """How many are asked for."""
    given: dict[str, list[str]] = parse_qs(query, keep_blank_values=True)
    text = given.pop("count", [str(DEFAULT)])[-1]
    if given:
        raise Problem(422, f"no parameter {next(iter(given))!r}", accepted="count")
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MOST)) and 1 <= int(text) <= MOST):
        raise Problem(422, f"count is {text[:20]!r}", field="count", accepted=f"1 to {MOST}")
    return int(text)


def described(project: str) -> dict[str, Any]:
    """The parameters of the path, for the interface's description."""
    text = {"type": "string", "minLength": 1, "maxLength": LONGEST}
    number = {"type": "integer", "minimum": 1, "maximum": MOST, "default": DEFAULT}
    key = {"name": "key", "in": "path", "required": True, "schema": text}
    count = {"name": "count", "in": "query", "schema": number}
    return {"summary": f"The best items of a key, by the newest night of {project}.", "parameters": [key, count]}
