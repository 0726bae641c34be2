"""What a node did, for a person in Prefect's pages: tables, reasons, plots and links, from the record it returned."""

from __future__ import annotations

import base64
import json
import logging
import mimetypes
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property, singledispatchmethod
from typing import Any

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate
from prefect.context import TaskRunContext

from components.adapters.mlflow_pages import MlflowPages
from components.errors import NotFoundError, TrilhaError, UnavailableError
from components.records import (
    SUMMARY,
    Artifact,
    Bundle,
    Candidate,
    Champion,
    Commit,
    Decision,
    ModelVersion,
    Parameters,
    Prepared,
    Qualification,
    Record,
    Release,
    Trial,
    Validation,
    digest,
)
from components.workspace import Workspace
from flows.dag import Node
from flows.engines.prefect_markdown import Markdown, block, link, plain, short, table, unmarked


class Board:
    """Writes artifacts beside the task runs of one flow run.

    Args:
        workspace: where plots and pages are.
        client: of the flow run.
        project: artifacts of one key follow each other from run to run; it begins every key.
    """

    def __init__(self, workspace: Workspace, client: SyncPrefectClient, project: str) -> None:
        self._workspace, self._client, self._project = workspace, client, project

    def show(self, node: Node, record: Record, arguments: Mapping[str, Any], found: str = "") -> str:
        """Show what `node`, called with `arguments`, returned; a record without a page of its own is not shown.

        Where the ledger had it, `found` says so, and the plots stay with the run that made them. Returns the page's
        first line as plain text, for states and logs; empty without a page.
        """
        if isinstance(record, Validation):
            rows = json.dumps(validation_table(record))
            self._write(node, "table", rows, "Every expectation on this commit.", suffix="-table")
        paragraphs = list(self._page(record, arguments))
        if not paragraphs:
            return ""
        heading, *rest = paragraphs
        if found:
            rest.insert(0, f"*{found}*")
        else:
            rest += self._plots(getattr(record, "plots", ()))
        self._write(node, "markdown", "\n\n".join([f"## {heading}", *rest]), f"What `{node.name}` returned.")
        return unmarked(heading)

    def show_error(self, node: Node, error: TrilhaError) -> None:
        """Show why `node` failed and what to do next."""
        lines = [f"## {node.name} failed", plain(error.problem)]
        lines += [f"**Accepted:** {plain(error.accepted)}"] if error.accepted else []
        lines += [f"**Next:** {plain(error.next_step)}"] if error.next_step else []
        lines += [f"```\n{error.details}\n```"] if error.details else []
        self._write(node, "markdown", "\n\n".join(lines), f"Why `{node.name}` failed.", suffix="-error")

    def _write(self, node: Node, kind: str, data: str, description: str, suffix: str = "") -> None:
        context = TaskRunContext.get()
        key = f"{self._project}-{node.name}{suffix}".replace("_", "-")  # all that the server accepts in a key
        artifact = ArtifactCreate(
            key=key,
            type=kind,
            description=description,
            data=data,
            task_run_id=context.task_run.id if context else None,
            flow_run_id=context.task_run.flow_run_id if context else None,
        )
        try:
            self._client.create_artifact(artifact)
        except httpx.HTTPError as error:  # the work is done and in the ledger; a picture of it is not worth failing for
            logging.getLogger(__name__).warning("artifact %s was not written: %s", key, error)

    # --- a page a record ----------------------------------------------------------------------------------------------

    @singledispatchmethod
    def _page(self, record: Record, arguments: Mapping[str, Any]) -> Iterator[str]:  # noqa: ARG002  # the others' signature
        """Paragraphs of Markdown."""
        yield from ()

    @_page.register
    def _commit(self, commit: Commit, _: Mapping[str, Any]) -> Iterator[str]:
        rows = sum(commit.tables.values())
        yield f"{rows:,} rows in {_count(len(commit.tables), 'table')} on branch `{commit.branch}`"
        yield table(["table", "rows"], [[name, f"{rows:,}"] for name, rows in commit.tables.items()])
        yield f"Commit `{commit.id}`, contents `{commit.tree[:12]}`."
        yield block(f"trilha data ls {commit.id} --profile {self._workspace.name}")

    @_page.register
    def _validation(self, validation: Validation, _: Mapping[str, Any]) -> Iterator[str]:
        held = sum(result.success for result in validation.results)
        yield f"{held} of {len(validation.results)} expectations held"
        broken = [result for result in validation.results if not result.success]
        if broken:
            yield "Those that did not hold:"
            rows = [
                [
                    one.severity,
                    one.table,
                    one.column or "",
                    one.expectation,
                    f"{one.unexpected:,}",
                    short(one.observed),
                ]
                for one in broken
            ]
            yield table(["severity", "table", "column", "expectation", "rows", "observed"], rows)
        if validation.offending:
            yield "The offending rows, each with the expectation that it broke (Parquet):"
            yield self._file(validation.offending)
        yield "Great Expectations' Data Docs, a page for the browser:"
        yield self._file(validation.docs)

    @_page.register
    def _prepared(self, prepared: Prepared, _: Mapping[str, Any]) -> Iterator[str]:
        splits = {"train": prepared.train, "valid": prepared.valid, "test": prepared.test}
        rows = sum(split.rows for split in splits.values())
        yield f"{rows:,} examples of `{prepared.target}` with {_count(len(prepared.features), 'feature')}"
        yield f"From data commit `{prepared.commit}`."
        yield table(
            ["split", "rows", SUMMARY[prepared.task]],
            [[name, f"{split.rows:,}", f"{split.summary:.3f}"] for name, split in splits.items()],
        )
        yield table(["feature", "type"], [[name, kind] for name, kind in prepared.features.items()])

    @_page.register
    def _trial(self, trial: Trial, _: Mapping[str, Any]) -> Iterator[str]:
        yield f"{plain(_settings(trial.parameters))}: {_first(trial.metrics)}"
        yield f"{trial.seconds:.1f} s; {self._run(trial.run_id)}; {self._notebook(trial)}"
        yield _metrics({"on the valid split": trial.metrics})

    @_page.register
    def _candidate(self, candidate: Candidate, arguments: Mapping[str, Any]) -> Iterator[str]:
        best = plain(_settings(candidate.trial.parameters))
        yield f"Best of {_count(len(candidate.trials), 'trial')}: {best}, {candidate.metric} {candidate.value:.4f}"
        runs = {digest(trial.parameters): trial.run_id for trial in arguments.get("trials", ())}
        names = list(dict.fromkeys(name for parameters, _ in candidate.trials for name in parameters.values))
        rows = [
            [
                Markdown("**best**" if parameters == candidate.trial.parameters else ""),
                *(_value(parameters.values.get(name)) for name in names),
                f"{value:.5f}",
                self._run(runs.get(digest(parameters), "")),
            ]
            for parameters, value in candidate.trials
        ]
        yield table(["trial", *names, candidate.metric, "MLflow"], rows)
        yield f"All trials side by side: {self._run(candidate.run_id)}; {self._tensorboard()}"

    @_page.register
    def _champion(self, champion: Champion, _: Mapping[str, Any]) -> Iterator[str]:
        yield f"To beat: release {champion.release}" if champion.release else "No champion to beat yet"

    @_page.register
    def _decision(self, decision: Decision, arguments: Mapping[str, Any]) -> Iterator[str]:
        yield "The candidate may serve" if decision.passed else "The candidate may not serve"
        yield "\n".join(f"- {plain(reason)}" for reason in decision.reasons)
        yield "On the test rows, beside the baselines:"
        yield _metrics({"candidate": decision.metrics, **decision.baselines})
        if decision.difference:
            low, estimate, high = decision.difference
            yield f"Candidate minus champion: {estimate:+.5f}, between {low:+.5f} and {high:+.5f} (bootstrap)."
        if decision.slices:
            candidate = arguments.get("candidate")
            metric = candidate.metric if isinstance(candidate, Candidate) else "metric"
            yield "Slice by slice:"
            rows = [[part.column, part.value, f"{part.rows:,}", f"{part.metric:.5f}"] for part in decision.slices]
            yield table(["slice", "value", "rows", metric], rows)

    @_page.register
    def _version(self, version: ModelVersion, _: Mapping[str, Any]) -> Iterator[str]:
        name = f"{version.name} version {version.version}"
        yield f"Model {name}"
        page = self._mlflow.version(version.name, version.version) if self._mlflow else None
        yield f"{link('In the registry', page)}, from {self._run(version.run_id)}."
        yield f"Graphs `{version.digest[:12]}`."

    @_page.register
    def _bundle(self, bundle: Bundle, _: Mapping[str, Any]) -> Iterator[str]:
        size = sum(file.size for file in bundle.files.values())
        yield f"Bundle `{bundle.model}` for target `{bundle.target}`, {size / 1024:,.0f} KiB"
        files = [[name, f"{file.size:,}"] for name, file in bundle.files.items() if file.size]
        yield table(["file", "bytes"], files)

    @_page.register
    def _qualification(self, found: Qualification, _: Mapping[str, Any]) -> Iterator[str]:
        yield f"{found.rows:,} golden requests answered as the notebook does, p99 {found.p99_ms:.1f} ms"
        yield f"By a Triton at `{found.server}`, which loaded the bundle as it will serve it."
        yield table(
            ["", "measured", "limit"],
            [
                ["largest difference from the notebook", f"{found.difference:.2e}", f"{found.tolerance:.0e}"],
                ["p99 of one-row requests", f"{found.p99_ms:.2f} ms", f"{found.budget_ms:g} ms"],
                ["p50 of one-row requests", f"{found.p50_ms:.2f} ms", ""],
            ],
        )

    @_page.register
    def _release(self, release: Release, _: Mapping[str, Any]) -> Iterator[str]:
        name, profile = f"{release.project}/{release.number}", self._workspace.name
        yield f"Release {name}"
        metric = release.candidate.metric
        at = f"{metric} {release.decision.metrics[metric]:.4f}" if metric in release.decision.metrics else ""
        rows = [
            ["model", f"{_settings(release.candidate.trial.parameters)}, {at} on the test rows"],
            ["version", f"{release.version.name} {release.version.version}"],
            ["data", Markdown(f"commit `{release.commit.id}`")],
            ["code", Markdown(f"`{release.revision}`")],
            ["serving", f"p99 {release.qualification.p99_ms:.2f} ms of {release.qualification.budget_ms:g} ms"],
            ["digest", Markdown(f"`{release.digest[:12]}`")],
            ["trials", Markdown(f"{self._run(release.candidate.run_id)}; {self._tensorboard()}")],
        ]
        yield table(["what", "which"], rows)
        yield "Its page, with everything on it:"
        yield block(str(self._workspace.home / "pages" / release.project / f"{release.number}.html"))
        yield "Ask it, and go from here back to the sources:"
        row = json.dumps(release.bundle.example, ensure_ascii=False)
        ask = f"trilha predict {release.project} --row {shlex.quote(row)} --profile {profile}"
        yield block(f"{ask}\ntrilha trail {name} --profile {profile}")

    # --- pieces -------------------------------------------------------------------------------------------------------

    def _plots(self, plots: Iterable[Artifact]) -> Iterator[str]:
        """Images inside the page, so that it needs no other server."""
        for plot in plots:
            kind = mimetypes.guess_type(plot.path)[0] or ""
            if kind.startswith("image/"):
                with suppress(NotFoundError):
                    data = base64.b64encode(self._workspace.artifacts.local(plot).read_bytes()).decode()
                    yield f"![{plot.path.rsplit('/', 1)[-1]}](data:{kind};base64,{data})"

    def _file(self, artifact: Artifact) -> str:
        """The file's path; browsers do not follow a link from a server's page to a local file."""
        try:
            return block(str(self._workspace.artifacts.local(artifact)))
        except NotFoundError:
            return f"`{artifact.path}` (gone)"

    @cached_property
    def _mlflow(self) -> MlflowPages | None:
        url = self._url("mlflow")
        return MlflowPages(url, self._project) if url else None

    def _run(self, run_id: str) -> str:
        if not run_id:
            return ""
        return link(f"MLflow run {run_id[:8]}", self._mlflow.run(run_id) if self._mlflow else None)

    def _notebook(self, trial: Trial) -> str:
        """The executed notebook, which MLflow shows."""
        page = trial.page.path.rsplit("/", 1)[-1]
        return link("executed notebook", self._mlflow.file(trial.run_id, page) if self._mlflow else None)

    def _tensorboard(self) -> str:
        return link("TensorBoard", self._url("tensorboard"))

    def _url(self, service: str) -> str | None:
        try:
            return self._workspace.endpoint(service)
        except UnavailableError:
            return None


def validation_table(validation: Validation) -> list[dict[str, Any]]:
    """One row an expectation, those that broke first."""
    return [
        {
            "result": "held" if result.success else result.severity,
            "table": result.table,
            "column": result.column or "",
            "expectation": result.expectation,
            "unexpected rows": result.unexpected,
            "observed": result.observed,
        }
        for result in sorted(validation.results, key=lambda result: result.success)
    ]


def _metrics(columns: Mapping[str, Mapping[str, float]]) -> str:
    """A row a metric, a column each of those who have them."""
    names = list(dict.fromkeys(name for metrics in columns.values() for name in metrics))
    rows = [
        [name, *(f"{metrics[name]:.5f}" if name in metrics else "" for metrics in columns.values())] for name in names
    ]
    return table(["metric", *columns], rows)


def _first(metrics: Mapping[str, float]) -> str:
    """The metric that stands first, with its value."""
    return next((f"{name} {value:.4f}" for name, value in metrics.items()), "no metrics")


def _settings(parameters: Parameters) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in parameters.values.items()) or "defaults"


def _value(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
