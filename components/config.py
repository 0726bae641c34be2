"""Find and read what a user wrote under `config/`."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path

from components import strict_yaml
from components.errors import ConfigError, NotFoundError
from components.given import read_text
from components.profile import Profile
from components.project import ExpectationsFile, Features, Notebook, Project, ProjectFile
from components.settings import allowed_name


@cache
def root() -> Path:
    """The repository: `TRILHA_ROOT`, or the nearest folder upwards that has `config/projects`.

    Raises:
        ConfigError: there is none.
    """
    given = os.environ.get("TRILHA_ROOT")
    start = Path(given) if given else Path.cwd()
    for folder in [start.resolve()] if given else [start.resolve(), *start.resolve().parents]:
        if (folder / "config" / "projects").is_dir():
            return folder
    raise ConfigError(
        f"no config/projects in {start} or above",
        accepted="a Trilha repository",
        next_step="change to one, or set TRILHA_ROOT",
    )


def check_name(value: str, what: str) -> str:
    """`value`, if it is an allowed name.

    Raises:
        ConfigError: it is not.
    """
    try:
        return allowed_name(value)
    except ValueError as error:
        raise ConfigError(f"{what} {value!r}", accepted=str(error)) from None


def load_project(name: str) -> Project:
    """Read `config/projects/NAME/`: `project.yaml`, `features.sql`, `expectations.yaml`, and its notebook's code.

    Raises:
        ConfigError: the name, a key or a value is not accepted.
        NotFoundError: the project or one of its files does not exist.
    """
    folder = root() / "config" / "projects" / check_name(name, "project")
    if not folder.is_dir():
        known = sorted(path.parent.name for path in folder.parent.glob("*/project.yaml"))
        raise NotFoundError(
            f"no project {name!r}", accepted=", ".join(known) or "none yet", next_step=f"create {folder}/project.yaml"
        )
    file = strict_yaml.load(folder / "project.yaml", ProjectFile)
    expectations = strict_yaml.load(folder / "expectations.yaml", ExpectationsFile).tables
    unknown = sorted(set(expectations) - set(file.sources))
    if unknown:
        raise ConfigError(
            f"{folder / 'expectations.yaml'}: no table {unknown[0]!r} in project.yaml",
            accepted=", ".join(sorted(file.sources)),
        )
    sql = folder / "features.sql"
    if not sql.is_file():
        raise NotFoundError(f"no {sql}", next_step="write the query that yields one row an example")
    features = Features(sql=_query(sql, file), row=file.row, target=file.target, exclude=file.exclude)
    return Project(
        name=name, file=file, features=features, expectations=expectations, notebook=_notebook(folder, file.notebook)
    )


def _query(path: Path, file: ProjectFile) -> str:
    """The query without comments and in one layout: an edit to those changes no step's key."""
    from components.adapters.sql_rules import checked

    return checked(read_text(path, strict_yaml.MAX_BYTES), file.sources, source=str(path))


def _notebook(folder: Path, name: str) -> Notebook:
    path = (root() / name).resolve()
    if not path.is_relative_to(root()):
        raise ConfigError(f"{folder / 'project.yaml'}: notebook {name!r}", accepted="a path inside the repository")
    if not path.is_file():
        raise NotFoundError(
            f"no notebook {path}", next_step=f"create it, or correct `notebook` in {folder}/project.yaml"
        )
    return Notebook(path=name, code=code_digest(path))


def code_digest(path: Path) -> str:
    """Digest of a notebook's code cells: prose and stored outputs do not change what it does."""
    import json

    try:
        cells = json.loads(read_text(path))["cells"]
        code = [
            ["".join(cell["source"]), cell["metadata"].get("tags", [])] for cell in cells if cell["cell_type"] == "code"
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: not a notebook ({error})", accepted="Jupyter's format, version 4") from error
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()


def load_profile(name: str) -> Profile:
    """Read `config/profiles/NAME.yaml`.

    Raises:
        ConfigError: the name, a key or a value is not accepted.
        NotFoundError: there is no such profile.
    """
    path = root() / "config" / "profiles" / f"{check_name(name, 'profile')}.yaml"
    if not path.is_file():
        raise NotFoundError(f"no profile {name!r}", accepted=", ".join(profile_names()), next_step=f"create {path}")
    return strict_yaml.load(path, Profile)


def project_names() -> list[str]:
    """The projects of this repository, sorted."""
    return sorted(path.parent.name for path in (root() / "config" / "projects").glob("*/project.yaml"))


def profile_names() -> list[str]:
    """The profiles of this repository, sorted."""
    return sorted(path.stem for path in (root() / "config" / "profiles").glob("*.yaml"))
