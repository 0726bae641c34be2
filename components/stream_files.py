"""The files of a table that is fed by a stream: many small ones become one, and all have the declared columns."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from components.adapters.store_rules import VALIDATION
from components.artifacts import sha256
from components.errors import ConfigError
from components.records import digest
from components.stream_rows import schema_of
from components.tables import MAIN, TableContents, stream_manifest

if TYPE_CHECKING:
    import pyarrow as pa

    from components.ports import DataStore

SMALL: Final = 8 * 2**20
"""Bytes of a file that is put together with others."""
MANY: Final = 100
"""So many small files become one."""


class StreamFiles:
    """Rewrites files of one table, each time in one commit; no row comes or goes by that.

    Args:
        store: the data store.
        project: the folder in it.
        table: its name.
        scratch: a local folder for work in progress.
    """

    def __init__(self, store: DataStore, project: str, table: str, scratch: Path) -> None:
        self._store = store
        self._project = project
        self._table = table
        self._scratch = scratch
        self._folder = f"{project}/{table}/"

    def compact(self, held: TableContents, head: str) -> None:
        """Put small files together, if there are many.

        Args:
            held: what `main` holds of the table,
            head: at this commit.
        """
        import pyarrow.parquet as pq

        entries = self._store.ls(head, self._folder)
        small = [entry for entry in entries if entry.size < SMALL and entry.path.endswith(".parquet")]
        if len(small) < MANY:
            return
        name = f"{Path(small[-1].path).stem}-{len(small)}.parquet"
        with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
            path = Path(folder) / name
            first = pq.read_schema(self._store.local(head, small[0].path))
            with pq.ParquetWriter(path, first, compression="zstd", compression_level=1) as writer:
                for entry in small:
                    writer.write_table(pq.read_table(self._store.local(head, entry.path)))
            gone = [Path(entry.path).name for entry in small]
            self._replace(held, head, {name: path}, gone, held.columns, f"{len(small)} files in one")

    def fit(self, held: TableContents, head: str, columns: Mapping[str, str]) -> None:
        """Give all files the columns that are declared: new ones are null, types are cast.

        Raises:
            ConfigError: a column is not declared any more, or a value does not fit its new type.
        """
        import pyarrow.parquet as pq

        gone = sorted(held.columns.keys() - columns.keys())
        if gone:
            raise ConfigError(
                f"table {self._table!r}: {MAIN} has a column {gone[0]!r}, which its stream does not declare",
                accepted=f"all of {', '.join(held.columns)} under `columns`, and more",
                next_step=f"add it in config/projects/{self._project}/project.yaml; messages may leave it out",
            )
        if held.columns == dict(columns) or not held.files:
            return
        with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
            files = {}
            for name in held.files:
                rows = self._cast(pq.read_table(self._store.local(head, self._folder + name)), held.columns, columns)
                files[name] = Path(folder) / name
                pq.write_table(rows, files[name], compression="zstd", compression_level=1)
            self._replace(held, head, files, [], columns, "other columns")

    def _cast(self, rows: pa.Table, before: Mapping[str, str], columns: Mapping[str, str]) -> pa.Table:
        import pyarrow as pa

        made = []
        for field in schema_of(columns):
            if field.name not in rows.column_names:
                made.append(pa.nulls(rows.num_rows, field.type))
                continue
            try:
                made.append(rows[field.name].cast(field.type))
            except pa.ArrowException as error:
                raise ConfigError(
                    f"table {self._table!r}: column {field.name!r} is {before[field.name]} on {MAIN}, and cannot "
                    f"become {columns[field.name]}: {str(error).splitlines()[0]}",
                    accepted="a type that all its values fit",
                    next_step=f"correct `columns` in config/projects/{self._project}/project.yaml",
                ) from error
        return pa.Table.from_arrays(made, schema=schema_of(columns))

    def _replace(
        self,
        held: TableContents,
        head: str,
        files: Mapping[str, Path],
        gone: Sequence[str],
        columns: Mapping[str, str],
        why: str,
    ) -> None:
        """One commit of `main` with other files for the same rows."""
        digests = {name: sha256(path) for name, path in files.items()}
        kept = {name: digest for name, digest in held.files.items() if name not in gone}
        update = {"columns": dict(columns), "declared": tuple(sorted(columns)), "files": {**kept, **digests}}
        key = digest(["files", self._project, self._table, held.files, digests])
        branch = f"stream/{self._project}/{self._table}/{key[:12]}"
        described = self._scratch / f"{key}.json"
        described.write_text(held.model_copy(update=update).model_dump_json(indent=1, exclude_defaults=True))
        puts = {self._folder + name: path for name, path in files.items()}
        message, metadata = f"Rewrite {self._project}/{self._table}: {why}", {"project": self._project}
        self._store.branch(branch, head)
        made = self._store.commit(
            branch,
            {**puts, stream_manifest(self._project, self._table): described},
            deletes=[self._folder + name for name in gone],
            message=message,
            metadata=metadata,
            key=key,
            move=True,
        )
        as_before = {**metadata, VALIDATION: f"as of {head}"}  # the same rows
        self._store.merge(made.id, MAIN, message=message, metadata=as_before, key=key)
        self._store.delete_branch(branch)
