"""A table that lies in another repository of the data store's lakeFS server: referred to where it is, not copied."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import lakefs
from lakefs.models import ObjectInfo

from components.adapters.duckdb_reader import described
from components.adapters.lakefs_client import connect
from components.adapters.lakefs_others import Others
from components.adapters.lakefs_terms import border
from components.adapters.object_folder import ObjectFolder
from components.data_ports import Arrived, Held
from components.errors import ConfigError, NotFoundError
from components.ports import Address, Entry
from components.profile import LakeFSStore
from components.records import FileStamp
from components.source_settings import ImportedTable, Table

if TYPE_CHECKING:
    from components.workspace import Workspace

COMMIT = "commit "
"""Before the commit's id, in a stamp."""


class LakeFSSource:
    """A `components.data_ports.Source`.

    Args:
        workspace: whose data store it is.
        table: its name, for errors.
        source: where the table lies.

    Raises:
        ConfigError: the data store is no lakeFS, or its credentials are not in the environment.
    """

    def __init__(self, workspace: Workspace, table: str, source: ImportedTable) -> None:
        settings = workspace.profile.store
        if not isinstance(settings, LakeFSStore):
            raise ConfigError(
                f"table {table!r} is referred to on a lakeFS server, and the data store of profile "
                f"{workspace.name!r} is none",
                accepted="a profile with `store: {kind: lakefs, ...}`",
                next_step="take such a profile, or read the files by `path`",
            )
        self._table = table
        self._source = source
        self._url = settings.url
        self._repository = lakefs.Repository(source.lakefs.repository, connect(settings))
        self._home = workspace.home / "lakefs"
        self._folder = source.lakefs.path.strip("/") + "/"

    def look(self) -> tuple[FileStamp, ...]:
        where = self._source.lakefs
        with border(self._url):
            commit = self._repository.ref(where.ref).get_commit().id
        url = f"lakefs://{where.repository}/{where.ref}/{self._folder}"
        return (FileStamp(url=url, size=0, stamp=f"{COMMIT}{commit}"),)

    def read(
        self,
        stamps: tuple[FileStamp, ...],
        held: Held | None,  # noqa: ARG002  # nothing is read again: objects are known by where they are
        folder: Path,
    ) -> Arrived:
        with border(self._url):
            found = list(self._objects(stamps[0]))
        if not found:
            raise NotFoundError(
                f"table {self._table!r}: no .parquet below {stamps[0].url}",
                next_step="commit the files there, or correct `lakefs` in project.yaml",
            )
        files = {f"part-{number:05}.parquet": path for number, (path, _) in enumerate(found)}
        known = described(self._table, Table(path=stamps[0].url, columns=self._source.columns), files, folder)
        addresses = dict(zip(files, (address for _, address in found), strict=True))
        return Arrived(known.rows, known.columns, files, stamps, addresses=addresses)

    def here(self) -> tuple[str, ...]:
        return ()

    def _objects(self, stamp: FileStamp) -> Iterator[tuple[Path, Address]]:
        """The table's objects as files of this machine, each fetched when it is met for the first time.

        What they say of themselves is not believed: others wrote them.
        """
        cache = ObjectFolder(self._home)
        others = Others(cache, self._home / "others")
        commit = self._repository.ref(stamp.stamp.removeprefix(COMMIT))
        for info in commit.objects(prefix=self._folder):
            if isinstance(info, ObjectInfo) and info.path.endswith(".parquet"):
                stored = commit.object(info.path)
                entry: Entry = others.entry(stored, info)
                if not cache.holds(entry.sha256, entry.size):
                    with stored.reader("rb") as source:
                        cache.receive(entry, source)
                yield cache.path(entry.sha256), Address(info.physical_address, info.checksum)
