"""What the gateway says when it does not answer: RFC 9457, with the field at fault and what is accepted.

The member `error` repeats the sentence, for that is where clients of TensorFlow Serving and of the V2 protocol look.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import msgspec

from components.errors import NotFoundError, TimeLimitError, TrilhaError, UnavailableError

TYPE = b"application/problem+json"
RETRY_SECONDS = 1
"""When to come again after a 503: a switch or a restart takes about that long."""


class Problem(Exception):  # noqa: N818  # RFC 9457's own word
    """An answer other than the one asked for.

    Args:
        status: of HTTP.
        detail: what is wrong, one sentence.
        field: the column, header or member at fault.
        accepted: what would have been accepted instead.
        retry_after: seconds until it is worth another try.
        headers: what else goes with it.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        field: str = "",
        accepted: str = "",
        retry_after: float = 0.0,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.field = field
        self.accepted = accepted
        self.retry_after = retry_after
        self.headers = dict(headers or {})
        if retry_after:
            self.headers["Retry-After"] = str(max(1, round(retry_after)))

    def body(self) -> bytes:
        """The JSON that tells it."""
        facts = {
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "field": self.field,
            "accepted": self.accepted,
            "error": self.detail,
        }
        return msgspec.json.encode({name: value for name, value in facts.items() if value})


def problem_of(error: TrilhaError) -> Problem:
    """What a client is told of an error of ours; what to do about it is for those who run the gateway."""
    if isinstance(error, NotFoundError):
        return Problem(404, error.problem, accepted=error.accepted)
    if isinstance(error, TimeLimitError):
        return Problem(504, error.problem)
    if isinstance(error, UnavailableError):
        return Problem(503, error.problem, retry_after=RETRY_SECONDS)
    return Problem(500, f"{type(error).__name__} in the gateway")
