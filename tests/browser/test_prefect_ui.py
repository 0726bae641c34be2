"""What a person sees and does in Prefect's pages: a real server, a real worker, a real browser."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from components.runs import RunLog
from components.workspace import Workspace, open_workspace
from flows.services import down
from tests.prefect_api import api

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("prefect"), pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(on_prefect: Workspace, small: Path) -> Iterator[Path]:
    """The project `small` on the shared Prefect server; what else a run starts is stopped."""
    assert on_prefect.home.is_relative_to(small)
    yield small
    down(open_workspace("test"))


def artifact(prefect_url: str, run: str, key: str) -> str:
    """The page of an artifact of the run that is named `run`."""
    body = {"flow_runs": {"name": {"any_": [run]}}, "artifacts": {"key": {"any_": [key]}}}
    [found] = api(prefect_url).post("/artifacts/filter", json=body).json()
    return f"{prefect_url}/artifacts/artifact/{found['id']}"


def test_what_a_run_did(page: Page, project: Path, prefect_url: str) -> None:
    """Prefect's pages show a run's tasks, its data, its trials, its decision and plots; links lead to MLflow's pages."""
    command = [str(Path(sys.executable).with_name("trilha")), "run", "small", "--until", "evaluate"]
    options = ["--engine", "prefect", "--profile", "test", "--json"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, cwd=project, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    run = json.loads(done.stdout)["run"]
    body = {"flow_runs": {"name": {"any_": [run]}}}
    [flow_run] = api(prefect_url).post("/flow_runs/filter", json=body).json()

    page.goto(f"{prefect_url}/runs/flow-run/{flow_run['id']}")
    expect(page.get_by_text(run, exact=True).first).to_be_visible()
    expect(page.get_by_text("Completed", exact=True).first).to_be_visible()
    expect(page.get_by_text(re.compile(r"Completed\('Best of 2 trials: strength "))).to_be_visible()  # a log line
    page.get_by_text("Task Runs", exact=True).click()
    for name in ("ingest", "validate", "prepare", "train-00", "train-01", "select", "evaluate"):
        expect(page.get_by_role("link", name=name, exact=True)).to_be_visible()

    page.goto(artifact(prefect_url, run, "small-validate-table"))
    expect(page.get_by_role("columnheader", name="result")).to_be_visible()
    expect(page.get_by_role("row").get_by_text("held", exact=True).first).to_be_visible()

    page.goto(artifact(prefect_url, run, "small-evaluate"))
    expect(page.get_by_role("heading", name="The candidate may serve")).to_be_visible()
    expect(page.get_by_role("columnheader", name="logistic")).to_be_visible()
    plot = page.get_by_role("img", name="roc.png")
    plot.scroll_into_view_if_needed()
    assert plot.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100

    page.goto(artifact(prefect_url, run, "small-select"))
    row = page.get_by_role("row").filter(has_text="best")
    expect(row).to_have_count(1)
    run_page = followed(page, row.get_by_role("link", name="MLflow run"))
    expect(run_page.get_by_text("Registered models")).to_be_visible()
    expect(run_page.get_by_text("Evaluation runs")).to_have_count(0)  # which MLflow has for models of language
    expect(run_page.get_by_role("link", name="auc", exact=True)).to_be_visible()

    page.goto(artifact(prefect_url, run, "small-train-00"))
    notebook = followed(page, page.get_by_role("link", name="executed notebook"))
    expect(notebook.frame_locator("iframe").get_by_text("strength").first).to_be_visible()


def followed(page: Page, link: Locator) -> Page:
    """The new tab that a link opens."""
    with page.context.expect_page() as opened:
        link.click()
    return opened.value


def test_a_person_starts_it(page: Page, project: Path, prefect_url: str) -> None:
    """The form of the deployed lifecycle is filled in and sent; a worker runs it, and the page says that it completed."""
    environment = os.environ | {
        "PREFECT_API_URL": f"{prefect_url}/api",
        "PREFECT_HOME": str(project / "prefect"),
        "PYTHONPATH": str(ROOT),
        "DO_NOT_TRACK": "1",
    }

    def call(*command: str) -> None:
        done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def prefect(*arguments: str) -> None:
        call(sys.executable, "-m", "prefect", "--no-prompt", *arguments)

    call(str(Path(sys.executable).with_name("trilha")), "prefect", "compile", "--profile", "test")
    prefect("work-pool", "create", "onprem", "--type", "process", "--overwrite")
    prefect("deploy", "--all")

    page.goto(f"{prefect_url}/deployments")
    page.get_by_role("link", name="small", exact=True).click()
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_text("Custom run").click()
    choose(page, "until", "prepare")
    keep(page, "prefect-form.png")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_text("Submit")).to_have_count(0)
    prefect("worker", "start", "--pool", "onprem", "--run-once")

    log = RunLog(open_workspace("test"))
    run = log.header("last")
    body = {"flow_runs": {"name": {"any_": [run.id]}}}
    [flow_run] = api(prefect_url).post("/flow_runs/filter", json=body).json()
    page.goto(f"{prefect_url}/runs/flow-run/{flow_run['id']}")
    expect(page.get_by_text(run.id, exact=True).first).to_be_visible()
    expect(page.get_by_text("Completed", exact=True).first).to_be_visible()
    expect(page.get_by_role("link", name="small", exact=True)).to_be_visible()  # the deployment that it is a run of
    assert log.nodes(run.id)["prepare"].status == "done"


def choose(page: Page, name: str, value: str) -> None:
    """Choose one of the values that a parameter can have."""
    label = page.locator(".schema-form-property__label", has_text=re.compile(rf"^{name}\b"))
    field: Locator = page.locator(".schema-form-property").filter(has=label).last
    field.locator(".p-select-button__control").press("ArrowDown")
    page.locator(".p-select-option").get_by_text(value, exact=True).click()


def keep(page: Page, name: str) -> None:
    """A picture for the docs, where `TRILHA_PICTURES` names a folder for them."""
    folder = os.environ.get("TRILHA_PICTURES")
    if folder:
        page.screenshot(path=Path(folder) / name)
