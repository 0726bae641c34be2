"""Nights of predictions in Delta Lake: each is one version of a table, which its log makes visible at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from components.errors import ConflictError, UnavailableError
from components.object_stores import words

if TYPE_CHECKING:
    import pyarrow as pa

NIGHT: Final = "trilha.night"
"""In the metadata of the version that a night is."""


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
                    pa.RecordBatchReader.from_batches(schema, _kept(batches, failures)),
                    mode="overwrite",
                    schema_mode="overwrite",
                    commit_properties=CommitProperties(custom_metadata={NIGHT: night}),
                )
        except UnavailableError:
            if failures:  # which reached Delta Lake as bare text
                raise failures[0] from None
            raise

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
