"""Nights of predictions in Delta Lake: each is one version of a table, which its log makes visible at once.

Delta Lake knows no keys. So all of a night are kept beside its rows until they are through, and no version is made of a
night in which one is there again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import duckdb
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from components.errors import ConflictError, GateError, UnavailableError
from components.object_stores import words

if TYPE_CHECKING:
    import pyarrow as pa

NIGHT: Final = "trilha.night"
"""In the metadata of the version that a night is."""
AGAIN: Final = """
WITH twice AS (SELECT hashed FROM seen GROUP BY hashed HAVING count(*) > 1)
SELECT key FROM seen SEMI JOIN twice USING (hashed) GROUP BY key HAVING count(*) > 1 LIMIT 1
"""
"""A key that is there again. Hashes are grouped much faster than texts, and two keys of one hash are rare."""
MEMORY: Final = "256MB"
"""Of a night's keys; more of them lie on the disk."""


class DeltaSink:
    """A `Sink`.

    Args:
        url: the folder that tables lie in: a path, `file://`, `s3://`, `gs://`, `az://`; credentials come from the
            environment, where Delta's library looks for them.
    """

    def __init__(self, url: str) -> None:
        from components.sinks import without_password

        self._url = url.removeprefix("file://").rstrip("/")
        self.where = without_password(url) if "://" in url else url

    def holds(self, table: str, night: str) -> bool:
        with self._plainly():
            if not DeltaTable.is_deltatable(self._path(table)):
                return False
            (newest,) = DeltaTable(self._path(table)).history(1)
            return bool(newest.get(NIGHT) == night)

    def write(self, table: str, night: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
        import pyarrow as pa

        if self.holds(table, night):
            return
        failures: list[BaseException] = []
        try:
            with self._plainly():
                write_deltalake(
                    self._path(table),
                    pa.RecordBatchReader.from_batches(schema, _kept(self._unique(table, schema, batches), failures)),
                    mode="overwrite",
                    schema_mode="overwrite",
                    commit_properties=CommitProperties(custom_metadata={NIGHT: night}),
                )
        except UnavailableError:
            if failures:  # which reached Delta Lake as bare text
                raise failures[0] from None
            raise

    def _unique(self, table: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The batches; behind the last one it is said where two rows have one key, which is the first column."""
        with (
            tempfile.TemporaryDirectory(prefix="trilha-keys-") as spill,
            duckdb.connect(config={"memory_limit": MEMORY, "temp_directory": spill}) as connection,
        ):
            connection.register("keys", schema.empty_table().select([0]).rename_columns(["key"]))
            connection.execute("CREATE TABLE seen AS SELECT hash(key) AS hashed, key FROM keys")
            for batch in batches:
                connection.register("keys", batch.select([0]).rename_columns(["key"]))
                connection.execute("INSERT INTO seen SELECT hash(key), key FROM keys")
                yield batch
            again = connection.execute(AGAIN).fetchone()
        if again is not None:
            raise GateError(
                f"{self.where}: rows of {table!r} repeat a key, such as {again[0]!r}",
                accepted="one row a key",
                next_step="look at the query's joins",
            )

    def _path(self, table: str) -> str:
        return f"{self._url}/{table}"

    @contextmanager
    def _plainly(self) -> Iterator[None]:
        """The library's errors as ours."""
        try:
            yield
        except CommitFailedError as error:
            raise ConflictError(f"{self.where}: {error}", next_step="run it again") from error
        except (DeltaError, OSError) as error:
            raise UnavailableError(
                f"{self.where}: {words(error)}", next_step="check the address and the credentials"
            ) from error


def _kept(batches: Iterable[pa.RecordBatch], failures: list[BaseException]) -> Iterator[pa.RecordBatch]:
    """The batches; what they fail with is kept."""
    try:
        yield from batches
    except BaseException as error:
        failures.append(error)
        raise
