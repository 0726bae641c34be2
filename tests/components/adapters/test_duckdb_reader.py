"""CSV, JSON lines and Parquet to Parquet: the same bytes each time, and errors that name file, line and column."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.adapters import duckdb_reader, parquet_files
from components.adapters.duckdb_reader import Converted, to_parquet
from components.errors import ConfigError, GateError, UnavailableError
from components.source_settings import Table
from components.staging import LocalFile

Convert = Callable[..., Converted]
ROWS = "".join(f"{index},x{index},{index / 2}\n" for index in range(30_000))
"""More than DuckDB looks at before it decides on types."""
FEW = "".join(f"{index},x{index},{index / 2}\n" for index in range(300))
"""Less than that."""


@pytest.fixture
def convert(tmp_path: Path) -> Convert:
    """Convert files by name; keyword arguments are the table's settings."""

    def run(*names: str, **settings: object) -> Converted:
        folder = tmp_path / f"out-{len(list(tmp_path.glob('out-*')))}"
        folder.mkdir()
        formats = {".csv": "csv", ".jsonl": "jsonl", ".parquet": "parquet"}
        files = [LocalFile(f"data/{name}", tmp_path / name, formats[Path(name).suffix]) for name in names]
        return to_parquet("sales", Table.model_validate({"path": "x", **settings}), files, folder)

    return run


def read(converted: Converted) -> pa.Table:
    return pa.concat_tables(pq.read_table(path) for _, path in sorted(converted.files.items()))


def refused(convert: Convert, *names: str, error: type[Exception] = GateError, **settings: object) -> str:
    """The one line that comes instead of a table."""
    with pytest.raises(error) as caught:
        convert(*names, **settings)
    problem = str(caught.value)
    assert "\n" not in problem
    assert "table 'sales'" in problem
    return problem


# --- what is read -----------------------------------------------------------------------------------------------------


def test_csv_with_quotes_nulls_and_types(tmp_path: Path, convert: Convert) -> None:
    """RFC 4180; an empty field is missing, and so is the text that the project names."""
    (tmp_path / "x.csv").write_text('id,name,day,n\n1,"a, ""b""\nc",2013-01-02,NA\n2,,2013-01-03,5\n')
    converted = convert("x.csv", null="NA")
    assert converted.columns == {"id": "BIGINT", "name": "VARCHAR", "day": "DATE", "n": "BIGINT"}
    assert read(converted).to_pylist() == [
        {"id": 1, "name": 'a, "b"\nc', "day": date(2013, 1, 2), "n": None},
        {"id": 2, "name": None, "day": date(2013, 1, 3), "n": 5},
    ]


def test_a_quote_far_below_is_still_a_quote(tmp_path: Path, convert: Convert) -> None:
    """A reader that learns the dialect from the first rows would take it for a letter."""
    (tmp_path / "x.csv").write_text("a,b,c\n" + ROWS + '7,"one, two",1.5\n')
    assert read(convert("x.csv"))["b"][-1].as_py() == "one, two"


@pytest.mark.parametrize("content", [b"a;b\n1;x\n", b"a\tb\n1\tx\n", b"\xef\xbb\xbfa,b\r\n1,x\r\n", b"a,b\n\n1,x\n\n"])
def test_the_separators_that_are_around(tmp_path: Path, convert: Convert, content: bytes) -> None:
    """Commas, semicolons, tabs; a byte order mark, Windows' ends of lines, blank lines."""
    (tmp_path / "x.csv").write_bytes(content)
    assert read(convert("x.csv")).to_pylist() == [{"a": 1, "b": "x"}]


def test_a_line_that_starts_with_a_hash_is_a_row(tmp_path: Path, convert: Convert) -> None:
    """CSV has no comments; nothing is dropped in silence."""
    (tmp_path / "x.csv").write_text("a,b\n#1,x\n2,y\n")
    assert convert("x.csv").rows == 2


def test_declared_types_win(tmp_path: Path, convert: Convert) -> None:
    """In every format."""
    (tmp_path / "x.csv").write_text("zip,n\n01234,1\n")
    (tmp_path / "x.jsonl").write_text('{"zip": "01234", "n": 1}\n')
    pq.write_table(pa.table({"zip": ["01234"], "n": [1]}), tmp_path / "x.parquet")
    for name in ("x.csv", "x.jsonl", "x.parquet"):
        converted = convert(name, columns={"zip": "VARCHAR", "n": "DECIMAL(9,2)"})
        assert converted.columns == {"zip": "VARCHAR", "n": "DECIMAL(9,2)"}, name
        assert read(converted)["zip"].to_pylist() == ["01234"], name


def test_json_lines_may_leave_out_what_has_no_value(tmp_path: Path, convert: Convert) -> None:
    """A key that first comes on the last line is a column like any other."""
    (tmp_path / "x.jsonl").write_text('{"a": 1}\n' * 30_000 + '{"a": 2.5, "z": "late"}\n')
    converted = convert("x.jsonl")
    assert converted.columns == {"a": "DOUBLE", "z": "VARCHAR"}
    assert read(converted)["z"][-1].as_py() == "late"


def test_several_files_are_one_table(tmp_path: Path, convert: Convert) -> None:
    """In the order given; columns may be in another order, and whole numbers mix with fractions."""
    (tmp_path / "1.csv").write_text("a,b\n1,x\n")
    (tmp_path / "2.csv").write_text("b,a\ny,2.5\n")
    converted = convert("1.csv", "2.csv")
    assert read(converted).to_pylist() == [{"a": 1.0, "b": "x"}, {"a": 2.5, "b": "y"}]


# --- partitions -------------------------------------------------------------------------------------------------------


def test_one_file_a_partition(tmp_path: Path, convert: Convert) -> None:
    """Numbers are padded, so that names sort; the column stays in the file; rows keep their order."""
    (tmp_path / "x.csv").write_text("month,n\n" + "".join(f"{index % 12 + 1},{index}\n" for index in range(1200)))
    converted = convert("x.csv", partition="month")
    assert sorted(converted.files) == [f"month-{month:02}.parquet" for month in range(1, 13)]
    assert converted.rows == 1200
    march = pq.read_table(converted.files["month-03.parquet"])
    assert march["month"].to_pylist() == [3] * 100
    assert march["n"].to_pylist() == list(range(2, 1200, 12))


def test_partition_names_that_a_store_cannot_hold(tmp_path: Path, convert: Convert) -> None:
    """Upper case and other signs are folded, and a digest keeps the names apart."""
    (tmp_path / "x.csv").write_text("Stop,n\nEWR,1\newr,2\nSão Paulo/1,3\n")
    names = sorted(convert("x.csv", partition="Stop").files)
    assert len(names) == 3
    assert all(name.isascii() and name.islower() and "/" not in name for name in names)
    assert any(name.endswith("-ewr.parquet") for name in names)


def test_a_row_without_its_partition(tmp_path: Path, convert: Convert) -> None:
    """There is no file to put it into."""
    (tmp_path / "x.csv").write_text("month,n\n1,1\n,2\n")
    assert "row 2 has no 'month'" in refused(convert, "x.csv", partition="month")


def test_too_many_partitions(tmp_path: Path, convert: Convert, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key by mistake would make a file a row."""
    monkeypatch.setattr(parquet_files, "MAX_PARTITIONS", 10)
    (tmp_path / "x.csv").write_text("id\n" + "".join(f"{index}\n" for index in range(11)))
    assert "more than 10 values of 'id'" in refused(convert, "x.csv", partition="id", error=ConfigError)


# --- the same bytes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("partition", [None, "k"])
def test_the_same_input_gives_the_same_bytes(
    tmp_path: Path, convert: Convert, monkeypatch: pytest.MonkeyPatch, format_: str, partition: str | None
) -> None:
    """On every run, and whatever the number of threads: digests are what keys and releases are made of."""
    import duckdb

    names = []
    for part, rows in enumerate((150_000, 7, 40_000)):
        names.append(f"{part}.{format_}")
        query = f"SELECT i, i % 5 AS k, 'x' || hash(i) AS s, i / 7 AS d FROM range({rows}) t(i)"
        kind = {"csv": "csv, HEADER", "jsonl": "json", "parquet": "parquet, ROW_GROUP_SIZE 10000"}[format_]
        duckdb.sql(f"COPY ({query}) TO '{tmp_path / names[-1]}' (FORMAT {kind})")
    digests = set()
    for threads in (1, 2, 8):
        monkeypatch.setattr(duckdb_reader, "MAX_THREADS", threads)
        monkeypatch.setattr(duckdb_reader, "_cores", lambda threads=threads: threads)
        converted = convert(*names, partition=partition)
        assert converted.rows == 190_007
        digests.add(tuple(hashlib.sha256(path.read_bytes()).hexdigest() for _, path in sorted(converted.files.items())))
    assert len(digests) == 1


# --- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a,b,c\n" + ROWS + "oops,x,1\n", "data/x.csv, line 30002, column 'a': 'oops' is not BIGINT"),
        ("a,b,c\n" + ROWS + "1,x\n", "data/x.csv, line 30002: 2 values, where the header has 3 names"),
        ("a,b,c\n" + ROWS + "1,x,2,3\n", "data/x.csv, line 30002: 4 values, where the header has 3 names"),
        ("a,b,c\n" + FEW + '1,"x,y",2,3,4,5\n' + FEW, "data/x.csv, line 302: 6 values, where the header has 3 names"),
        ("a;b;c\n" + FEW.replace(",", ";") + "1;x\n" + FEW.replace(",", ";"), "data/x.csv, line 302: 2 values, where"),
        ("a,b,c\n" + FEW + '1,"x,2\n' + FEW, "data/x.csv, line 302: a quote that is never closed"),
        ("a,b,c\n" + ROWS + '1,"x,2\n', "data/x.csv, line 30002: a quote that is never closed"),
        (("a,b,c\n" + ROWS + "1,São,2\n").encode("latin-1"), "data/x.csv, line 30002: not UTF-8"),
        (("a,b,c\n" + ROWS).encode("utf-16"), "data/x.csv, line 1: not UTF-8"),
        ("a,b,c\n", "no rows in data/x.csv"),
        ("a,b,A\n1,2,3\n", "data/x.csv, line 1: column 'A' is there twice"),
        ('a,b\n1,"never closed\n2,x\n3,y\n', "data/x.csv, line 2: a quote that is never closed"),
        (bytes(range(256)) * 1000, "data/x.csv cannot be read as csv"),
        (b"a,b\n1," + b"x" * 5_000_000 + b"\n", "data/x.csv, line 1: Maximum line size"),
    ],
)
def test_csv_that_is_not_right(tmp_path: Path, convert: Convert, content: str | bytes, says: str) -> None:
    """One line that names file, line and column where there is one."""
    (tmp_path / "x.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    assert says in refused(convert, "x.csv")


@pytest.mark.parametrize(
    ("last", "settings", "says"),
    [
        ('{"a": 1,\n', {}, "data/x.jsonl, line 30001: not JSON"),
        ('{"a": what}\n{"a": 1}\n', {}, "data/x.jsonl, line 30001: not JSON"),
        ('{"a": "oops"}\n', {}, "data/x.jsonl, line 30001, column 'a': another type than in the lines before"),
        ('{"a": "oops"}\n', {"columns": {"a": "BIGINT"}}, "data/x.jsonl, line 30001, column 'a': Failed to cast"),
        ("[1, 2]\n", {}, "data/x.jsonl"),
    ],
)
def test_json_lines_that_are_not_right(
    tmp_path: Path, convert: Convert, last: str, settings: dict[str, object], says: str
) -> None:
    """One line that names file, line and column where there is one."""
    (tmp_path / "x.jsonl").write_text('{"a": 1}\n' * 30_000 + last)
    assert says in refused(convert, "x.jsonl", **settings)


def test_parquet_that_is_not_right(tmp_path: Path, convert: Convert) -> None:
    """A file that is none, and a value that its declared type cannot hold."""
    (tmp_path / "no.parquet").write_bytes(b"PAR1 what is this PAR1")
    assert "data/no.parquet cannot be read as parquet" in refused(convert, "no.parquet")
    values = [str(index) for index in range(9000)]
    pq.write_table(pa.table({"a": [*values, "oops", *values]}), tmp_path / "x.parquet")
    says = "data/x.parquet, row 9001, column 'a': 'oops' is not BIGINT"
    assert says in refused(convert, "x.parquet", columns={"a": "BIGINT"})


def test_a_declared_column_that_is_gone(tmp_path: Path, convert: Convert) -> None:
    """Named with the nearest column that is there."""
    (tmp_path / "x.csv").write_text("idd,n\n1,2\n")
    assert "no column 'id' in data/x.csv (did you mean 'idd'?)" in refused(convert, "x.csv", columns={"id": "BIGINT"})
    assert "no column 'day'" in refused(convert, "x.csv", partition="day")


@pytest.mark.parametrize("order", [("1.csv", "2.csv"), ("2.csv", "1.csv")])
def test_a_column_gone_from_one_file_of_many(tmp_path: Path, convert: Convert, order: tuple[str, str]) -> None:
    """It is not filled with nothing in silence, whichever file comes first."""
    (tmp_path / "1.csv").write_text("a,b\n1,x\n")
    (tmp_path / "2.csv").write_text("a\n1\n")
    assert "data/2.csv has no column 'b', which data/1.csv has" in refused(convert, *order)


def test_a_type_changed_in_one_file_of_many(tmp_path: Path, convert: Convert) -> None:
    """It does not turn the whole column to text in silence."""
    (tmp_path / "1.csv").write_text("a\n1\n")
    (tmp_path / "2.csv").write_text("a\nn/a\n")
    assert "column 'a' is BIGINT in data/1.csv and VARCHAR in data/2.csv" in refused(convert, "1.csv", "2.csv")
    says = "data/2.csv, line 2, column 'a': 'n/a' is not BIGINT"
    assert says in refused(convert, "1.csv", "2.csv", columns={"a": "BIGINT"})


@pytest.mark.parametrize("type_", ["INTT", "BIGINT); DROP TABLE x; --", "BIGINT) FROM (SELECT 1"])
def test_a_type_that_does_not_exist(tmp_path: Path, convert: Convert, type_: str) -> None:
    """Refused before it gets near a query."""
    (tmp_path / "x.csv").write_text("a\n1\n")
    assert "there is no type" in refused(convert, "x.csv", columns={"a": type_}, error=ConfigError)


def test_names_and_paths_with_quotes_are_only_names(tmp_path: Path, convert: Convert) -> None:
    """Nothing in a name becomes SQL."""
    name = """it's "x".csv"""
    (tmp_path / name).write_text("""a'b,"c""d"\n1,2\n""")
    assert read(convert(name, columns={"a'b": "DOUBLE"})).to_pylist() == [{"a'b": 1.0, 'c"d': 2}]


def test_a_full_disk_is_said_plainly(tmp_path: Path) -> None:
    """With the place."""
    (tmp_path / "x.csv").write_text("a,b,c\n" + ROWS)
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "00000.parquet").symlink_to("/dev/full")
    with pytest.raises(UnavailableError, match="no space left on the disk"):
        to_parquet("sales", Table(path="x"), [LocalFile("x.csv", tmp_path / "x.csv", "csv")], folder)


@pytest.mark.long
@pytest.mark.parametrize("format_", ["csv", "jsonl", "parquet"])
def test_wide_rows_come_in_small_groups(tmp_path: Path, convert: Convert, format_: str) -> None:
    """Memory goes with the bytes of a row group, which counted in rows alone have no bound."""
    import duckdb

    wide = "SELECT i, " + ", ".join(f"repeat(md5(i || '{letter}'), 150) AS {letter}" for letter in "abcdefgh")
    kind = {"csv": "csv, HEADER", "jsonl": "json", "parquet": "parquet"}[format_]
    duckdb.sql(f"COPY ({wide} FROM range(4500) t(i)) TO '{tmp_path}/wide.{format_}' (FORMAT {kind})")
    duckdb.sql(f"COPY (SELECT i, i + 1 AS j FROM range(150000) t(i)) TO '{tmp_path}/slim.{format_}' (FORMAT {kind})")
    groups = {
        name: pq.ParquetFile(convert(f"{name}.{format_}").files["data.parquet"]).metadata.num_row_groups
        for name in ("wide", "slim")
    }
    assert groups == {"wide": 3, "slim": 2}


@pytest.mark.long
def test_memory_does_not_grow_with_the_input(tmp_path: Path) -> None:
    """A table of four times the size takes about the same memory, and less than 1 GB."""
    peaks = [_peak(tmp_path, rows) for rows in (1_500_000, 6_000_000)]
    assert max(peaks) < 900
    assert peaks[1] < 1.5 * peaks[0]


def _peak(tmp_path: Path, rows: int) -> int:
    """Peak memory in MB of a process of its own that converts `rows` rows; `ru_maxrss` would start at ours."""
    code = f"""
import re
from pathlib import Path
from components.adapters.duckdb_reader import to_parquet
from components.source_settings import Table
from components.staging import LocalFile
folder = Path({str(tmp_path)!r}) / "{rows}"
folder.mkdir()
converted = to_parquet("t", Table(path="x"), [LocalFile("x", Path({str(tmp_path / "big.csv")!r}), "csv")], folder)
assert converted.rows == {rows}
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024)
"""
    import duckdb

    query = f"SELECT i, hash(i)::VARCHAR AS a, i % 97 AS b, sqrt(i) AS c, 'text ' || (i % 1000) AS d FROM range({rows}) t(i)"
    duckdb.sql(f"COPY ({query}) TO '{tmp_path / 'big.csv'}' (HEADER)")
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_no_header(tmp_path: Path, convert: Convert) -> None:
    """A file whose first line is data keeps that line, and its columns are numbered; equal values are no equal names."""
    (tmp_path / "x.csv").write_text("0,0,5\n1,2,3\n")
    converted = convert("x.csv", header=False)
    assert read(converted).to_pydict() == {"column0": [0, 1], "column1": [0, 2], "column2": [5, 3]}
