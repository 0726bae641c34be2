"""Find and read what a user wrote under `config/`."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path

from components import strict_yaml
from components.errors import ConfigError, NotFoundError, nearest
from components.given import read_text
from components.profile import Profile
from components.project import ExpectationsFile, Features, Notebook, Project, ProjectFile, TimeSplit
from components.serve_settings import Triton
from components.settings import allowed_name
from components.tuned import FILE, TunedFile, completed


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


def project_folder(name: str) -> Path:
    """`config/projects/NAME`.

    Raises:
        ConfigError: the name is not accepted.
        NotFoundError: there is no such project.
    """
    folder = root() / "config" / "projects" / check_name(name, "project")
    if not folder.is_dir():
        known = project_names()
        raise NotFoundError(
            f"no project {name!r}{nearest(name, known)}",
            accepted=", ".join(known) or "none yet",
            next_step=f"create {folder}/project.yaml",
        )
    return folder


def load_project(name: str) -> Project:
    """Read `config/projects/NAME/`: `project.yaml`, `features.sql`, `expectations.yaml`, and its notebook's code.

    Raises:
        ConfigError: the name, a key or a value is not accepted.
        NotFoundError: the project or one of its files does not exist.
    """
    folder = project_folder(name)
    file = _with_tuned(folder, strict_yaml.load(folder / "project.yaml", ProjectFile))
    expectations = strict_yaml.load(folder / "expectations.yaml", ExpectationsFile).tables
    unknown = sorted(set(expectations) - set(file.sources))
    if unknown:
        raise ConfigError(
            f"{strict_yaml.place(folder / 'expectations.yaml', 'tables', unknown[0])}: no table {unknown[0]!r} in "
            f"project.yaml{nearest(unknown[0], file.sources)}",
            accepted=", ".join(sorted(file.sources)),
            next_step="correct that line",
        )
    sql = folder / "features.sql"
    if not sql.is_file():
        raise NotFoundError(f"no {sql}", next_step="write the query that yields one row an example")
    query = _query(sql, file)
    columns = _columns(query)
    _check_columns(folder / "project.yaml", file, columns)
    slices = () if set(file.evaluate.slices) <= set(columns) else file.evaluate.slices
    features = Features(
        sql=query, row=file.row, target=file.target, task=file.task, exclude=file.exclude, slices=slices
    )
    return Project(
        name=name,
        file=file,
        features=features,
        expectations=expectations,
        notebook=_notebook(folder, file),
        scored=_scored(folder, file) or query,
    )


def _scored(folder: Path, file: ProjectFile) -> str | None:
    """The query of the rows that are scored, where it is one of its own.

    Raises:
        ConfigError: it is no query over the project's tables, or its name leads elsewhere.
        NotFoundError: there is no such file.
    """
    name = file.scoring.rows if file.scoring else None
    if name is None:
        return None
    path = (folder / name).resolve()
    line = strict_yaml.place(folder / "project.yaml", "scoring", "rows")
    if path.parent != folder.resolve():
        raise ConfigError(f"{line}: {name!r}", accepted="a file beside features.sql", next_step="correct that line")
    if not path.is_file():
        raise NotFoundError(f"{line}: no {path}", next_step="write the query that yields the rows to answer for")
    return _query(path, file)


def _with_tuned(folder: Path, file: ProjectFile) -> ProjectFile:
    """The project with what `trilha tune` found, where project.yaml says nothing of it."""
    path = folder / FILE
    if not path.is_file():
        return file
    found = completed(file.serve.triton, strict_yaml.load(path, TunedFile).settings)
    return file.model_copy(update={"serve": file.serve.model_copy(update={"triton": found})})


def own_settings(name: str) -> Triton:
    """`serve.triton` as project.yaml alone has it.

    Raises:
        ConfigError, NotFoundError: as `load_project`.
    """
    return strict_yaml.load(project_folder(name) / "project.yaml", ProjectFile).serve.triton


def _query(path: Path, file: ProjectFile) -> str:
    """The query without comments and in one layout: an edit to those changes no step's key."""
    from components.adapters.sql_rules import checked

    return checked(read_text(path, strict_yaml.MAX_BYTES), file.sources, source=str(path))


def _columns(query: str) -> list[str]:
    """The names of the columns that the query yields; none where only the engine can tell, as of `*`."""
    import sqlglot
    from sqlglot import exp

    tree = sqlglot.parse_one(query, read="duckdb")
    selects = tree.selects if isinstance(tree, exp.Query) else []
    named = all(isinstance(one, exp.Alias | exp.Column) and not one.is_star for one in selects)
    return [one.output_name for one in selects] if named else []


def _check_columns(path: Path, file: ProjectFile, columns: list[str]) -> None:
    """Hold every column that project.yaml names against those that `features.sql` yields, if they are known.

    Raises:
        ConfigError: it does not yield one of them; names the line.
    """
    by = ("column", file.split.column) if isinstance(file.split, TimeSplit) else ("key", file.split.key)
    named: dict[tuple[int | str, ...], str] = {("row",): file.row, ("target",): file.target, ("split", by[0]): by[1]}
    named |= {("exclude", index): name for index, name in enumerate(file.exclude)}
    named |= {("evaluate", "slices", index): name for index, name in enumerate(file.evaluate.slices)}
    if file.online.features is not None:
        for name in file.online.features.key:
            named["online", "features", "entity", name] = name
        for index, name in enumerate(file.online.features.columns):
            named["online", "features", "columns", index] = name
    known = {name.casefold() for name in columns}  # the engine says `id` where a query says `ID`
    for location, name in named.items():
        if known and name.casefold() not in known:
            raise ConfigError(
                f"{strict_yaml.place(path, *location)}: features.sql yields no column {name!r}{nearest(name, columns)}",
                accepted=", ".join(columns),
                next_step="correct that line, or select it in features.sql",
            )


def _notebook(folder: Path, project: ProjectFile) -> Notebook:
    name, file = project.notebook, folder / "project.yaml"
    path = (root() / name).resolve()
    if not path.is_relative_to(root()):
        raise ConfigError(
            f"{strict_yaml.place(file, 'notebook')}: notebook {name!r}",
            accepted="a path inside the repository",
            next_step="correct that line",
        )
    if not path.is_file():
        raise NotFoundError(
            f"{strict_yaml.place(file, 'notebook')}: no notebook {path}", next_step="create it, or correct that line"
        )
    modules = {}
    for index, module in enumerate(project.modules):
        beside = (root() / module).resolve()
        if beside.parent != path.parent or beside.suffix != ".py" or not beside.is_file():
            raise ConfigError(
                f"{strict_yaml.place(file, 'modules', index)}: module {module!r}",
                accepted=f"a Python file beside {name}, by its path",
                next_step="correct that line, or write the file",
            )
        modules[module] = hashlib.sha256(beside.read_bytes()).hexdigest()
    return Notebook(path=name, code=code_digest(path), modules=modules)


def module_paths(notebook: Notebook) -> tuple[str, ...]:
    """Where the notebook's modules are."""
    return tuple(str(root() / module) for module in notebook.modules)


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
