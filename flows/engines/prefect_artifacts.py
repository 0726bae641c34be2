"""What a node did, for a person in Prefect's pages: tables, reasons, plots and links, from the record it returned."""

from __future__ import annotations

import base64
import json
import logging
import mimetypes
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import singledispatchmethod
from typing import Any

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate
from prefect.context import TaskRunContext

from components.errors import NotFoundError, TrilhaError, UnavailableError
from components.records import (
    Artifact,
    Bundle,
    Candidate,
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


class Board:
    """Writes artifacts beside the task runs of one flow run.

    Args:
        workspace: where plots and pages are.
        client: of the flow run.
        project: artifacts of one key follow each other from run to run; it begins every key.
    """

    def __init__(self, workspace: Workspace, client: SyncPrefectClient, project: str) -> None:
        self._workspace, self._client, self._project = workspace, client, project

    def show(self, node: Node, record: Record, arguments: Mapping[str, Any], found: str = "") -> None:
        """Show what `node`, called with `arguments`, returned; a record without a page of its own is not shown.

        Where the ledger had it, `found` says so, and the plots stay with the run that made them.
        """
        if isinstance(record, Validation):
            table = json.dumps(validation_table(record))
            self._write(node, "table", table, "Every expectation on this commit.", suffix="-table")
        paragraphs = list(self._page(record, arguments))
        if paragraphs and not found:
            paragraphs += self._plots(getattr(record, "plots", ()))
        if paragraphs:
            self._write(node, "markdown", "\n\n".join([found, *paragraphs]).strip(), f"What `{node.name}` returned.")

    def show_error(self, node: Node, error: TrilhaError) -> None:
        """Show why `node` failed and what to do next."""
        lines = [f"## {node.name} failed", error.problem]
        lines += [f"**Accepted:** {error.accepted}"] if error.accepted else []
        lines += [f"**Next:** {error.next_step}"] if error.next_step else []
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
        yield f"Commit `{commit.id}` on branch `{commit.branch}`, tree `{commit.tree[:12]}`."
        yield _table(["table", "rows"], [[name, f"{rows:,}"] for name, rows in commit.tables.items()])

    @_page.register
    def _validation(self, validation: Validation, _: Mapping[str, Any]) -> Iterator[str]:
        held = sum(result.success for result in validation.results)
        yield f"{held} of {len(validation.results)} expectations held on tree `{validation.tree[:12]}`."
        broken = [result for result in validation.results if not result.success]
        if broken:
            rows = [
                [one.table, one.column or "", one.expectation, f"{one.unexpected:,}", one.observed] for one in broken
            ]
            yield _table(["table", "column", "warning", "rows", "observed"], rows)
        if validation.offending:
            yield f"Offending rows, with the expectation that each broke: {self._file(validation.offending)}"
        yield f"Data Docs: {self._file(validation.docs)}"

    @_page.register
    def _prepared(self, prepared: Prepared, _: Mapping[str, Any]) -> Iterator[str]:
        splits = {"train": prepared.train, "valid": prepared.valid, "test": prepared.test}
        yield f"Target `{prepared.target}` from {len(prepared.features)} features, data commit `{prepared.commit}`."
        yield _table(
            ["split", "rows", "share of positives"],
            [[name, f"{split.rows:,}", f"{split.positives:.3f}"] for name, split in splits.items()],
        )
        yield _table(["feature", "type"], [[name, kind] for name, kind in prepared.features.items()])

    @_page.register
    def _trial(self, trial: Trial, _: Mapping[str, Any]) -> Iterator[str]:
        yield f"{_settings(trial.parameters)}: {trial.seconds:.1f} s, {self._run(trial.run_id)}"
        yield _metrics({"valid": trial.metrics})
        yield f"Executed notebook: {self._file(trial.page)}"

    @_page.register
    def _candidate(self, candidate: Candidate, arguments: Mapping[str, Any]) -> Iterator[str]:
        yield f"Best of {len(candidate.trials)} by {candidate.metric}: **{_settings(candidate.trial.parameters)}**"
        runs = {digest(trial.parameters): trial.run_id for trial in arguments.get("trials", ())}
        names = list(dict.fromkeys(name for parameters, _ in candidate.trials for name in parameters.values))
        rows = [
            [
                ("**best**" if parameters == candidate.trial.parameters else ""),
                *(_value(parameters.values.get(name)) for name in names),
                f"{value:.5f}",
                self._run(runs.get(digest(parameters), "")),
            ]
            for parameters, value in candidate.trials
        ]
        yield _table(["", *names, candidate.metric, "MLflow"], rows)
        yield f"All trials side by side: {self._run(candidate.run_id)}; {self._service('tensorboard', 'TensorBoard')}"

    @_page.register
    def _decision(self, decision: Decision, _: Mapping[str, Any]) -> Iterator[str]:
        yield "## The candidate may serve" if decision.passed else "## The candidate may not serve"
        yield "\n".join(f"- {reason}" for reason in decision.reasons)
        yield _metrics({"candidate": decision.metrics, **decision.baselines})
        if decision.difference:
            low, estimate, high = decision.difference
            yield f"Candidate minus champion: {estimate:+.5f}, between {low:+.5f} and {high:+.5f} (bootstrap)."
        if decision.slices:
            rows = [[part.column, part.value, f"{part.rows:,}", f"{part.metric:.5f}"] for part in decision.slices]
            yield _table(["slice", "value", "rows", "metric"], rows)

    @_page.register
    def _version(self, version: ModelVersion, _: Mapping[str, Any]) -> Iterator[str]:
        page = self._url("mlflow", f"#/models/{version.name}/versions/{version.version}")
        name = f"{version.name} version {version.version}"
        yield f"Model {_link(name, page)}, graphs `{version.digest[:12]}`, from {self._run(version.run_id)}"

    @_page.register
    def _bundle(self, bundle: Bundle, _: Mapping[str, Any]) -> Iterator[str]:
        yield f"Bundle `{bundle.model}` for target `{bundle.target}`, digest `{bundle.digest[:12]}`."
        yield _table(["file", "bytes"], [[name, f"{file.size:,}"] for name, file in bundle.files.items()])

    @_page.register
    def _qualification(self, found: Qualification, _: Mapping[str, Any]) -> Iterator[str]:
        yield f"A Triton at `{found.server}` loaded the bundle and answered {found.rows:,} golden requests."
        yield _table(
            ["", "measured", "limit"],
            [
                ["largest difference from the notebook", f"{found.difference:.2e}", f"{found.tolerance:.0e}"],
                ["p99 of one-row requests", f"{found.p99_ms:.2f} ms", f"{found.budget_ms:g} ms"],
                ["p50 of one-row requests", f"{found.p50_ms:.2f} ms", ""],
            ],
        )

    @_page.register
    def _release(self, release: Release, _: Mapping[str, Any]) -> Iterator[str]:
        yield f"## Release {release.project}/{release.number}"
        yield f"Digest `{release.digest[:12]}`, data commit `{release.commit.id}`, code `{release.revision}`."
        yield f"Page: `{self._workspace.home / 'pages' / release.project / f'{release.number}.html'}`"
        yield f"From here back to the sources: `trilha trail {release.project}/{release.number}`"
        yield f"{self._run(release.candidate.run_id)}; {self._service('tensorboard', 'TensorBoard')}"

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
            return f"`{self._workspace.artifacts.local(artifact)}`"
        except NotFoundError:
            return f"`{artifact.path}` (gone)"

    def _run(self, run_id: str) -> str:
        page = self._url("mlflow", f"#/runs/{run_id}")
        return _link(f"MLflow run {run_id[:8]}", page) if run_id else ""

    def _service(self, name: str, text: str) -> str:
        return _link(text, self._url(name, ""))

    def _url(self, service: str, path: str) -> str | None:
        try:
            return f"{self._workspace.endpoint(service)}/{path}"
        except UnavailableError:
            return None


def validation_table(validation: Validation) -> list[dict[str, Any]]:
    """One row an expectation, those that broke first."""
    return [
        {
            "": "held" if result.success else result.severity,
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
    return _table(["metric", *columns], rows)


def _settings(parameters: Parameters) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in parameters.values.items()) or "defaults"


def _value(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def _link(text: str, url: str | None) -> str:
    return f"[{text}]({url})" if url else text


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
