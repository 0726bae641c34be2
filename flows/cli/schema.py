"""`trilha schema`: JSON Schemas, so that editors complete and check the YAML under `config/`."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any

import typer

from flows.cli.app import app
from flows.cli.output import JsonOption, ProfileOption, emit


class Document(StrEnum):
    """A kind of YAML file."""

    project = "project"
    expectations = "expectations"
    profile = "profile"


@app.command()
def schema(
    document: Annotated[Document, typer.Argument(help="Which file's schema.")],
    profile: ProfileOption = "local",  # noqa: ARG001  # every command takes it
    as_json: JsonOption = False,
) -> None:
    """Print the JSON Schema of a YAML file under config/."""
    found = schema_of(document)
    emit(found, json.dumps(found, indent=2), as_json=as_json)


def schema_of(document: Document) -> dict[str, Any]:
    """The JSON Schema of a kind of file."""
    from components.profile import Profile
    from components.project import ExpectationsFile, ProjectFile
    from components.settings import Settings

    models: dict[Document, type[Settings]] = {
        Document.project: ProjectFile,
        Document.expectations: ExpectationsFile,
        Document.profile: Profile,
    }
    return models[document].model_json_schema()
