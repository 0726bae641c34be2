"""What people look at: the projects, the interface's description, and a page to try it, which needs no network."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import msgspec

from components.errors import TrilhaError
from components.gateway.openapi import document
from components.gateway.requests import Answer
from components.recommend import table_of

if TYPE_CHECKING:
    from components.gateway.access import Caller
    from components.gateway.catalogue import Catalogue

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"


def listed(catalogue: Catalogue, caller: Caller) -> list[dict[str, Any]]:
    """The projects that a caller may see."""
    return [
        {
            "project": name,
            "release": entry.champion.number if entry.champion else None,
            "trouble": entry.trouble or None,
        }
        for name, entry in sorted(catalogue.projects.items())
        if caller.sees(name)
    ]


def openapi(catalogue: Catalogue, caller: Caller) -> Answer:
    """The description of what a caller may use."""
    doors = [
        entry.champion for name, entry in sorted(catalogue.projects.items()) if entry.champion and caller.sees(name)
    ]
    learning = {name for name, entry in catalogue.projects.items() if entry.selection}
    ranking = {door.project for door in doors if _recommends(door.project)}
    return Answer(msgspec.json.encode(document(doors, learning, ranking)))


def _recommends(project: str) -> bool:
    """Whether there are recommendations to ask for."""
    try:
        table_of(project)
    except TrilhaError:
        return False
    return True


def page() -> Answer:
    """The page to try it."""
    return Answer(_page(), kind=b"text/html; charset=utf-8", headers={"Content-Security-Policy": _POLICY})


@cache
def _page() -> bytes:
    return files("components.gateway").joinpath("page.html").read_bytes()
