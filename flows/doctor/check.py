"""What `trilha doctor` says of one thing, in one line and one command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from components.errors import TrilhaError
from components.records import Record

LONGEST = 300
"""Characters of one line: some servers answer with a page."""


class Check(Record):
    """One thing that was looked at; `note` is one that a run can do without."""

    name: str
    verdict: Literal["good", "note", "bad"]
    found: str
    remedy: str = ""


def tried(name: str, ask: Callable[[], str], *, needed: bool = True, remedy: str = "") -> Check:
    """What `ask` found, or the error that it raised; `remedy` is for one that names no next step."""
    try:
        return Check(name=name, verdict="good", found=ask())
    except TrilhaError as error:
        return lacking(name, error.problem, error.next_step or remedy, needed=needed)


def lacking(name: str, problem: str, remedy: str, *, needed: bool = True) -> Check:
    """Something that is not as it should be; a run fails on it where it is `needed`."""
    found = " ".join(problem.split())[:LONGEST]
    return Check(name=name, verdict="bad" if needed else "note", found=found, remedy=remedy)
