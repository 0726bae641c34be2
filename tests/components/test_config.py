"""What is accepted in `config/`, and what the errors say."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest

from components.config import load_profile, load_project, root
from components.errors import ConfigError, NotFoundError
from components.records import digest

PROJECT = """\
title: A small one
sources:
  trips: {path: data/trips.csv}
row: id
target: late
split:
  by: random
  key: id
  valid: 0.2
  test: 0.2
notebook: notebooks/small.ipynb
search:
  method: grid
  spaces:
    - depth: {values: [1, 2]}
"""


@pytest.fixture
def project(repository: Path) -> Path:
    """A complete project `small`; returns its project.yaml."""
    folder = repository / "config" / "projects" / "small"
    folder.mkdir()
    (folder / "project.yaml").write_text(PROJECT)
    (folder / "features.sql").write_text("select id, late from trips")
    (folder / "expectations.yaml").write_text("tables: {trips: []}")
    (repository / "notebooks").mkdir()
    cells = [{"cell_type": "code", "source": ["x = 1"], "metadata": {"tags": ["parameters"]}, "outputs": [1]}]
    (repository / "notebooks" / "small.ipynb").write_text(json.dumps({"cells": cells}))
    return folder / "project.yaml"


def test_a_complete_project_loads(project: Path) -> None:
    """Every file of a project becomes one value."""
    loaded = load_project("small")
    assert loaded.name == "small"
    assert loaded.features.target == "late"
    assert loaded.expectations == {"trips": ()}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("title:", "titel:", r"project.yaml:1: unknown key 'titel' \(did you mean 'title'\?\); accepted: description, "),
        ("valid: 0.2", "valid: lots", r"project.yaml:9: split\.valid: 'lots'; accepted: a number; next: correct that line$"),
        ("  valid: 0.2\n", "  valdi: 0.2\n", r"project.yaml:9: unknown key 'split.valdi' \(did you mean 'valid'\?\)"),
        ("target: late\n", "", r"project.yaml:\d+: key 'target' is missing"),
        ("valid: 0.2", "valid: 0.9", r"valid \+ test below 1"),
        ("depth: {values: [1, 2]}", "depth: {low: 1, high: 3}", r"a range has no end of points"),
        ("title: A small one", "title: A\ntitle: B", r"project.yaml:2: key 'title' is given twice"),
        ("title: A small one", "title: !!python/object:os.system A", r"project.yaml:1: could not determine a constructor"),
        ("title: A small one", "title: [", r"project.yaml:\d+: "),
        ("trips: {path", "Trips: {path", r"project.yaml:3: .*a lower-case letter"),
        ("title: A small one", "title: !!timestamp A", r"project.yaml:1: 'A' is no tag:yaml.org,2002:timestamp"),
        ("title: A small one", "title: " + "[" * 9000 + "]" * 9000, r"project.yaml:1: title: \[\[.*; accepted: text, in quotes"),
        ("title: A small one", "? [a]\n: b", r"project.yaml:1: a key that is no text"),
        ("by: random", "by: randm", r"project.yaml:7: split.by: 'randm' \(did you mean 'random'\?\); accepted: time, random"),
        ("  by: random\n", "", r"project.yaml:6: key 'split.by' is missing; accepted: by: \.\.\."),
        ("method: grid", "method: gird", r"project.yaml:13: search.method: 'gird' \(did you mean 'grid'\?\); accepted: grid, random, optuna"),
        ("depth: {values: [1, 2]}", "depth: {valuse: [1, 2]}", r"project.yaml:15: unknown key 'search.spaces.0.depth.valuse' \(did you mean 'values'\?\)"),
        ("depth: {values: [1, 2]}", "depth: {low: 5, high: 3}", r"project.yaml:15: search.spaces.0.depth: .*; accepted: low < high, and low > 0 with log; next: correct that line$"),
        ("row: id", "evaluate: {thresholds: {auk: 0.6}}\nrow: id", r"project.yaml:4: unknown key 'evaluate.thresholds.auk' \(did you mean 'auc'\?\); accepted: auc, accuracy, "),
        ("row: id", "online: {default: {value: 1}}\nrow: id", r"probability, label as online.default of task binary, not value"),
        ("row: id", "online: {default: {label: 1}}\nrow: id", r"key 'online.default.*probability' is missing"),
        ("row: id", "online: {default: {label: a, probabilities: {a: 0.5}}}\nrow: id", r"probabilities of all classes, the label's too, that are 1 in sum"),
        ("notebooks/small.ipynb", "../small.ipynb", r"project.yaml:11: notebook '../small.ipynb'; accepted: a path inside the repository"),
        ("notebooks/small.ipynb", "notebooks/smal.ipynb", r"project.yaml:11: no notebook .*; next: create it, or correct that line"),
    ],
)  # fmt: skip
def test_a_fault_names_file_line_key_and_what_is_accepted(project: Path, old: str, new: str, message: str) -> None:
    """One line that is enough to go on."""
    assert old in PROJECT
    project.write_text(PROJECT.replace(old, new))
    with pytest.raises((ConfigError, NotFoundError), match=message) as caught:
        load_project("small")
    assert "\n" not in str(caught.value)


BY_TIME = "  by: time\n  column: sent\n  valid_from: {}\n  test_from: {}\n"


@pytest.mark.parametrize(
    ("dates", "message"),
    [
        (("2024-13-01", "2024-05-01"), r"project.yaml:9: split.valid_from: '2024-13-01'; accepted: a date or a time in ISO 8601"),
        (("2024-03-01", '"soon"'), r"project.yaml:10: split.test_from: 'soon'; accepted: a date or a time in ISO 8601"),
        (("2024-06-01", "2024-05-01"), r"project.yaml:6: split: .*; accepted: `valid_from` before `test_from`"),
        (("2024-05-01", "2024-05-01T00:00:00Z"), r"accepted: `valid_from` before `test_from`"),
    ],
)  # fmt: skip
def test_dates_of_a_split(project: Path, dates: tuple[str, str], message: str) -> None:
    """They are dates, in quotes or not, and in order, or the file is refused as it is read."""
    (project.parent / "features.sql").write_text("select * from trips")
    plain = "  by: random\n  key: id\n  valid: 0.2\n  test: 0.2\n"
    project.write_text(PROJECT.replace(plain, BY_TIME.format("2024-03-01", '"2024-05-01"')))
    assert load_project("small").file.split.model_dump() == {
        "by": "time", "column": "sent", "valid_from": "2024-03-01", "test_from": "2024-05-01",
    }  # fmt: skip
    project.write_text(PROJECT.replace(plain, BY_TIME.format(*dates)))
    with pytest.raises(ConfigError, match=message):
        load_project("small")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("row: id", "row: idd", r"project.yaml:4: features.sql yields no column 'idd' \(did you mean 'id'\?\); accepted: id, late, city; next: correct"),
        ("target: late", "target: tardy", r"project.yaml:5: features.sql yields no column 'tardy'; accepted: id, late, city"),
        ("  key: id", "  key: dd", r"project.yaml:8: features.sql yields no column 'dd'"),
        ("row: id", "exclude: [city, ctiy]\nrow: id", r"project.yaml:4: .*'ctiy' \(did you mean 'city'\?\)"),
        ("row: id", "evaluate:\n  slices:\n    - city\n    - ctiy\nrow: id", r"project.yaml:7: .*'ctiy' \(did you mean 'city'\?\)"),
    ],
)  # fmt: skip
def test_columns_that_the_query_does_not_yield(project: Path, old: str, new: str, message: str) -> None:
    """Found as the files are read, where the query names its columns."""
    (project.parent / "features.sql").write_text("select id, late, lower(town) as city from trips")
    load_project("small")
    project.write_text(PROJECT.replace(old, new))
    with pytest.raises(ConfigError, match=message):
        load_project("small")


@pytest.mark.parametrize(
    "query", ["select * from trips", "from trips", "select trips.* from trips", "select ID, late, count(*) from trips"]
)
def test_columns_that_only_the_engine_knows(project: Path, query: str) -> None:
    """Nothing is refused by guessing; `prepare` is told what to look for."""
    (project.parent / "features.sql").write_text(query)
    project.write_text(PROJECT.replace("row: id", "evaluate: {slices: [city]}\nrow: id"))
    assert load_project("small").features.slices == ("city",)


def test_every_fault_is_in_the_details(project: Path) -> None:
    """The first fault is the error; none is hidden behind it."""
    project.write_text(PROJECT.replace("title:", "titel:").replace("row: id", "rwo: id"))
    with pytest.raises(ConfigError) as caught:
        load_project("small")
    assert "'titel'" in caught.value.details
    assert "'rwo'" in caught.value.details
    project.write_text(PROJECT.replace("method: grid", "method: gird"))
    with pytest.raises(ConfigError) as caught:
        load_project("small")
    assert caught.value.details == ""  # one fault is said once


@pytest.mark.parametrize("name", ["../small", "Small", "", "small/..", "a" * 64, "-x", "small\n"])
def test_names_are_by_allow_list(project: Path, name: str) -> None:
    """Nothing that could leave its folder, or mean something to a shell, a URL or SQL."""
    with pytest.raises(ConfigError, match="accepted: a name: a lower-case letter"):
        load_project(name)


def test_an_unknown_project_is_told_the_known_ones(project: Path) -> None:
    """With the next thing to do."""
    with pytest.raises(
        NotFoundError,
        match=r"no project 'smal' \(did you mean 'small'\?\); accepted: small; next: create .*smal/project.yaml",
    ):
        load_project("smal")
    with pytest.raises(NotFoundError, match="no profile 'nowhere'; accepted: test"):
        load_profile("nowhere")


def test_prose_and_outputs_do_not_change_a_notebook(project: Path, repository: Path) -> None:
    """Only code does."""
    path = repository / "notebooks" / "small.ipynb"
    before = load_project("small").notebook
    document = json.loads(path.read_text())
    document["cells"][0]["outputs"] = []
    document["cells"].append({"cell_type": "markdown", "source": ["# prose"], "metadata": {}})
    path.write_text(json.dumps(document))
    assert load_project("small").notebook == before
    document["cells"][0]["source"] = ["x = 2"]
    path.write_text(json.dumps(document))
    assert load_project("small").notebook != before


@pytest.mark.parametrize(
    "name", ["project.yaml", "features.sql", "expectations.yaml", "../../../notebooks/small.ipynb"]
)
def test_files_that_are_no_text_are_named(project: Path, name: str) -> None:
    """Each file of a project, in another encoding and where the system refuses to read it."""
    path = (project.parent / name).resolve()
    path.write_bytes(b"a\n\xff\xfe")
    with pytest.raises(ConfigError, match=f"{path}:2: not UTF-8 at byte 2") as caught:
        load_project("small")
    assert "\n" not in str(caught.value)
    if path.suffix == ".ipynb":  # which has to lie in the repository itself
        return
    path.unlink()
    path.symlink_to("/proc/self/mem")
    with pytest.raises(ConfigError, match="Input/output error; accepted: a file that you may read"):
        load_project("small")


def test_comments_and_layout_do_not_change_a_query(project: Path) -> None:
    """A step's key holds what the query says, not how it is written down."""
    path = project.parent / "features.sql"
    before = load_project("small").features
    path.write_text("-- one row a trip\nSELECT\n    id,\n    late  -- 0 or 1\nFROM trips\n;\n")
    assert digest(load_project("small").features) == digest(before)
    path.write_text("select id, 1 - late as late from trips")
    assert digest(load_project("small").features) != digest(before)


def test_a_query_that_reads_a_file_is_refused_on_load(project: Path) -> None:
    """Before anything runs, with file and line as they are on the disk."""
    path = project.parent / "features.sql"
    path.write_text("-- one row a trip\n\nselect id, late\nfrom trips join read_csv('more.csv') using (id)\n")
    with pytest.raises(
        ConfigError, match=r"small/features\.sql:4: read_csv.*accepted: trips.*`sources` in project.yaml"
    ):
        load_project("small")


def test_expectations_for_a_table_that_is_not_there_are_refused(project: Path) -> None:
    """A renamed table takes its expectations along or says so."""
    (project.parent / "expectations.yaml").write_text("tables: {trisp: []}")
    with pytest.raises(
        ConfigError, match=r"yaml:1: no table 'trisp' in project.yaml \(did you mean 'trips'\?\); accepted: trips"
    ):
        load_project("small")


def test_outside_a_repository_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The repository is the nearest folder upwards that has projects."""
    monkeypatch.delenv("TRILHA_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    root.cache_clear()
    with pytest.raises(ConfigError, match="no config/projects in .* or above"):
        root()


def test_the_profiles_and_projects_that_ship_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every YAML file of this repository loads."""
    here = Path(__file__).parents[2]
    monkeypatch.setenv("TRILHA_ROOT", str(here))
    root.cache_clear()
    for path in (here / "config" / "profiles").glob("*.yaml"):
        load_profile(path.stem)
    for path in (here / "config" / "projects").glob("*/project.yaml"):
        assert textwrap.dedent(load_project(path.parent.name).file.title)
    root.cache_clear()


def test_metrics_are_of_the_task(small: Path) -> None:
    """A metric or a threshold of another task is refused when the project is read, with those of its own."""
    path = small / "config" / "projects" / "small" / "project.yaml"
    text = path.read_text()
    path.write_text(text.replace("target: late", "target: late\ntask: regression"))
    with pytest.raises(ConfigError, match="rmse, mae, r2 as metrics of task regression, not auc"):
        load_project("small")
