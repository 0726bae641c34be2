"""Errors are part of the interface: each names the culprit, what was accepted instead, and the next thing to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import ClassVar


class TrilhaError(Exception):
    """Something a person can act on.

    Args:
        problem: the culprit and what is wrong with it, one line.
        accepted: what would have been accepted instead.
        next_step: the next thing to do.
        details: longer text shown below the one line (a traceback, a table).
    """

    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init__(self, problem: str, *, accepted: str = "", next_step: str = "", details: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.accepted = accepted
        self.next_step = next_step
        self.details = details

    def __str__(self) -> str:
        parts = [self.problem]
        if self.accepted:
            parts.append(f"accepted: {self.accepted}")
        if self.next_step:
            parts.append(f"next: {self.next_step}")
        return "; ".join(parts)

    def as_dict(self) -> dict[str, object]:
        """The error for machines (`--json`)."""
        return {
            "error": type(self).__name__,
            "problem": self.problem,
            "accepted": self.accepted,
            "next": self.next_step,
            "details": self.details,
            "exit_code": self.exit_code,
        }


class ConfigError(TrilhaError):
    """A YAML file, a name or an option that is not accepted."""

    exit_code = 2


class NotFoundError(TrilhaError):
    """A project, run, release, branch, path or commit that does not exist."""

    exit_code = 3


class ConflictError(TrilhaError):
    """Somebody else changed the same thing first; nothing was written."""

    exit_code = 4


class GateError(TrilhaError):
    """A gate refused: the data, the model or the bundle is not good enough to go on. Never retried."""

    exit_code = 5


class UnavailableError(TrilhaError):
    """A service, a source or a disk could not be used just now."""

    exit_code = 6
    retryable = True


class TimeLimitError(TrilhaError):
    """A step ran past its deadline."""

    exit_code = 7


class DagError(TrilhaError):
    """A DAG, or a policy in it, that cannot be traced or honoured; names file and line."""

    exit_code = 8


def rebuilt(facts: Mapping[str, object]) -> TrilhaError:
    """The error that `as_dict` was taken of, in another process."""
    kinds = {kind.__name__: kind for kind in TrilhaError.__subclasses__()}
    kind = kinds.get(str(facts["error"]), TrilhaError)
    accepted, next_step, details = (str(facts[name]) for name in ("accepted", "next", "details"))
    return kind(str(facts["problem"]), accepted=accepted, next_step=next_step, details=details)


def nearest(name: str, known: Iterable[str]) -> str:
    """` (did you mean ...?)`, where one of the names `known` is close to `name`."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
