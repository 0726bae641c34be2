"""What a commit says about a project's tables."""

from __future__ import annotations

from pathlib import Path

from components.ingest import ingest, observe
from components.ledger import running_as
from components.source_settings import Table
from components.tables import sources_of
from components.workspace import Workspace


def test_each_project_has_its_own_sources(repository: Path, workspace: Workspace) -> None:
    """Where `main` was last changed by another project, whose tables have the same name."""
    for number, project in enumerate(("one", "two")):
        (repository / f"{project}.csv").write_text(f"n\n{number}\n")
        sources = {"sales": Table(path=f"{project}.csv")}
        with running_as(f"{number}" * 64):
            made = ingest(project, "test", sources, observe(project, "test", sources))
        workspace.store.merge(made.id, "main", message="", metadata={"validation": "by hand"}, key=project)
    read = {project: sources_of(workspace.store, "main", project) for project in ("one", "two", "three")}
    urls = {project: [file.url for file in found.get("sales", ())] for project, found in read.items()}
    assert urls == {"one": ["one.csv"], "two": ["two.csv"], "three": []}
