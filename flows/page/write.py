"""Write the page of a release, unless it is there and would come out the same."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from components.errors import TrilhaError
from components.records import Artifact, Release, to_json
from flows.page import drawing, words
from flows.page.facts import Facts, gather

if TYPE_CHECKING:
    from jinja2 import Environment

    from components.workspace import Workspace

HERE = Path(__file__).parent
IMAGES = 2_000_000
"""Bytes of plots that a page holds; it stays under 3 MB, and links to the rest."""


def write_page(workspace: Workspace, release: Release) -> Path:
    """Write `<workspace.home>/pages/<project>/<number>.html`, whole or not at all, and return its path.

    The page names the digest of everything it was made from. Where that is what it would be made from now, the page
    stays as it is, which takes hundredths of a second.
    """
    path = workspace.home / "pages" / release.project / f"{release.number}.html"
    facts = gather(workspace, release, path.parent)
    made_from = _digest(facts)
    if _made_from(path) != made_from:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_text(render(facts, made_from, workspace), encoding="utf-8")
        part.replace(path)
    return path


def _digest(facts: Facts) -> str:
    """Of the facts and of the code that turns them into a page."""
    code = b"".join(path.read_bytes() for path in sorted(HERE.iterdir()) if path.is_file())
    return hashlib.sha256(code + json.dumps(to_json(facts), sort_keys=True).encode()).hexdigest()


MARK = '<meta name="trilha-made-from" content="'


def _made_from(path: Path) -> str:
    """What the page says that it was made from; empty where there is no page."""
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(1000).partition(MARK)[2][:64]
    except FileNotFoundError:
        return ""


def render(facts: Facts, made_from: str, workspace: Workspace) -> str:
    """The page as HTML."""
    from markupsafe import Markup

    style = (HERE / "release.css").read_text(encoding="utf-8")
    return (
        _environment()
        .get_template("release.html.j2")
        .render(
            facts=facts,
            release=facts.release,
            made_from=made_from,
            style=Markup(style),  # our own file  # noqa: S704
            style_digest=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
            images=_images(facts.release, workspace),
            row=json.dumps(facts.release.bundle.example),
        )
    )


def _images(release: Release, workspace: Workspace) -> dict[str, str]:
    """The plots as data URIs by artifact path; what is gone, or too much for one page, is not here."""
    found: dict[str, str] = {}
    left = IMAGES
    for plot in (*release.decision.plots, *release.candidate.trial.plots):
        if plot.path.endswith(".png") and plot.size <= left:
            content = _read(workspace, plot)
            if content:
                left -= len(content)
                found[plot.path] = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    return found


def _read(workspace: Workspace, artifact: Artifact) -> bytes:
    try:
        return workspace.artifacts.local(artifact).read_bytes()
    except (TrilhaError, OSError):
        return b""


def _environment() -> Environment:
    """Jinja2 with what the template draws and words with."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup, escape

    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        {
            name: getattr(words, name)
            for name in ("metric_name", "number", "signed", "count", "size", "duration", "moment", "setting")
        }
    )
    environment.filters["breaks"] = lambda text: escape(text).replace("_", Markup("_<wbr>"))
    environment.globals.update(
        axis=drawing.axis,
        graph=drawing.graph,
        panels=drawing.panels,
        task_words=words.task_words,
        verdict=words.verdict,
        caveats=words.caveats,
        command=words.command,
    )
    return environment
