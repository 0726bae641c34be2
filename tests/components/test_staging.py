"""Files made local: what is remote or packed comes out whole, or not at all."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest

from components import staging
from components.errors import ConfigError, GateError, NotFoundError, UnavailableError
from components.source_settings import Table
from components.sources import find
from components.staging import stage

CSV = b"a,b\n" + b"1,x\n" * 5000


def staged(repository: Path, path: str, **settings: str) -> dict[str, bytes]:
    """Name -> content of the local files that `path` becomes."""
    source = Table.model_validate({"path": path, **settings})
    folder = repository / "scratch"
    folder.mkdir(exist_ok=True)
    return {file.name: file.path.read_bytes() for file in stage("t", source, find("t", source.path), folder)}


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


def zipped(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_a_plain_local_file_is_read_where_it_is(repository: Path) -> None:
    """No copy of what is there already."""
    (repository / "x.csv").write_bytes(CSV)
    source = Table(path="x.csv")
    (file,) = stage("t", source, find("t", source.path), repository / "scratch")
    assert file.path == repository / "x.csv"


def test_gzip_and_zstd_are_unpacked(repository: Path) -> None:
    """By the file's name."""
    (repository / "x.csv.gz").write_bytes(gzip.compress(CSV))
    (repository / "x.csv.zst").write_bytes(zstd(CSV))
    assert staged(repository, "x.csv.*") == {"x.csv.gz": CSV, "x.csv.zst": CSV}


def test_an_archive_gives_its_data_files_in_order(repository: Path) -> None:
    """A read-me and what a Mac leaves behind are not data."""
    zipped(
        repository / "x.zip",
        {"b.csv": b"a\n2\n", "a.csv": b"a\n1\n", "readme.txt": b"hello", "__MACOSX/a.csv": b"junk"},
    )
    assert staged(repository, "x.zip") == {"x.zip:a.csv": b"a\n1\n", "x.zip:b.csv": b"a\n2\n"}


def test_a_member_of_an_archive_by_url(repository: Path) -> None:
    """By fsspec's own notation, here through two file systems."""
    zipped(repository / "x.zip", {"inner.csv": CSV, "other.csv": b"b\n1\n"})
    fsspec.filesystem("memory").pipe_file("/outer.zip", (repository / "x.zip").read_bytes())
    url = "zip://inner.csv::memory://outer.zip"
    assert staged(repository, url) == {url: CSV}


def test_a_remote_file_is_copied_and_unpacked(repository: Path) -> None:
    """Any fsspec URL, packed or not."""
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/remote/a.csv", CSV)
    memory.pipe_file("/remote/b.csv.gz", gzip.compress(CSV))
    found = staged(repository, "memory://remote/*.csv*")
    assert list(found.values()) == [CSV, CSV]


@pytest.mark.parametrize("suffix", ["gz", "zst", "zip"])
@pytest.mark.parametrize("damage", ["cut off", "not packed at all", "a byte changed"])
def test_a_damaged_file_is_refused(repository: Path, suffix: str, damage: str) -> None:
    """Never the first half of a table in place of the table: some readers would take it."""
    path = repository / f"x.csv.{suffix}"
    if suffix == "zip":
        zipped(path, {"x.csv": CSV})
        whole = path.read_bytes()
    else:
        whole = gzip.compress(CSV) if suffix == "gz" else zstd(CSV)
    middle = len(whole) // 3
    damaged = {
        "cut off": whole[:-8],
        "not packed at all": CSV,
        "a byte changed": whole[:middle] + bytes([whole[middle] ^ 0xFF]) + whole[middle + 1 :],
    }[damage]
    path.write_bytes(damaged)
    with pytest.raises(GateError) as caught:
        staged(repository, path.name)
    assert path.name in caught.value.problem


def test_an_archive_with_a_password_is_refused(repository: Path) -> None:
    """Said plainly, not with a traceback from inside zipfile."""
    path = repository / "x.zip"
    zipped(path, {"x.csv": CSV})
    raw = bytearray(path.read_bytes())
    raw[6] |= 1  # the flag in the local header ...
    raw[raw.rindex(b"PK\x01\x02") + 8] |= 1  # ... and in the directory
    path.write_bytes(raw)
    with pytest.raises(GateError, match="password"):
        staged(repository, "x.zip")


@pytest.mark.parametrize("suffix", ["gz", "zip"])
def test_an_archive_that_unpacks_to_an_absurd_size_is_refused(
    repository: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the disk is full; the limit is on what is declared and on what comes out."""
    monkeypatch.setattr(staging, "SMALL", 1_000_000)
    zeros = b"0" * 20_000_000
    if suffix == "zip":
        zipped(repository / "bomb.csv.zip", {"x.csv": zeros})
    else:
        (repository / "bomb.csv.gz").write_bytes(gzip.compress(zeros))
    with pytest.raises(GateError, match=r"bomb\.csv.* unpacks to more than [0-9,]+ bytes"):
        staged(repository, f"bomb.csv.{suffix}")
    assert sum(path.stat().st_size for path in (repository / "scratch").iterdir()) < len(zeros)


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz"])
def test_an_empty_file_is_refused(repository: Path, name: str) -> None:
    """Nothing is not a table without rows."""
    (repository / name).write_bytes(gzip.compress(b"") if name.endswith("gz") else b"")
    with pytest.raises(GateError, match=rf"'t': {name} is empty"):
        staged(repository, name)


def test_an_archive_without_data_is_refused(repository: Path) -> None:
    """The details list what is in it."""
    zipped(repository / "x.zip", {"readme.txt": b"hello"})
    with pytest.raises(GateError, match="holds no data file") as caught:
        staged(repository, "x.zip")
    assert caught.value.details == "readme.txt"


def test_the_format_is_said_where_the_name_does_not(repository: Path) -> None:
    """A name without a known suffix is no guess."""
    (repository / "x.data").write_bytes(CSV)
    with pytest.raises(ConfigError, match="does not say what format it has"):
        staged(repository, "x.data")
    assert staged(repository, "x.data", format="csv") == {"x.data": CSV}


def test_files_of_two_formats_are_not_one_table(repository: Path) -> None:
    """A glob that catches too much is told so."""
    (repository / "a.csv").write_bytes(CSV)
    (repository / "a.jsonl").write_text("{}\n")
    with pytest.raises(ConfigError, match="csv and jsonl"):
        staged(repository, "a.*")


def test_a_file_that_went_away(repository: Path) -> None:
    """Between the look and the reading."""
    path = repository / "x.csv"
    path.write_bytes(CSV)
    source = Table(path="x.csv")
    stamps = find("t", source.path)
    path.unlink()
    with pytest.raises(NotFoundError, match=r"x\.csv went away"):
        stage("t", source, stamps, repository)


def test_a_full_disk_is_said_plainly(repository: Path) -> None:
    """With the place, and how much is free there."""
    (repository / "x.csv.gz").write_bytes(gzip.compress(CSV))
    (repository / "scratch").mkdir()
    (repository / "scratch" / "00000").symlink_to("/dev/full")
    with pytest.raises(UnavailableError, match=r"no space left on the disk \([0-9,]+ bytes free\)") as caught:
        staged(repository, "x.csv.gz")
    assert str(repository / "scratch") in caught.value.problem
