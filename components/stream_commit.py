"""Batches of a stream as commits of `main`: each message in one of them, whatever is killed when.

A batch is first one commit on a branch of its own, with its rows, its letters and its offsets. All that follows is made
of that commit and can be done again; so what was half done is finished first, before anything else is read:

    branch and commit -> validate -> dead letters -> merge into `main`, with the offsets -> drop the branch
"""

from __future__ import annotations

import tempfile
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from components.adapters.store_rules import VALIDATION
from components.artifacts import sha256
from components.errors import ConflictError, GateError, NotFoundError
from components.ledger import running_as
from components.records import Commit, digest
from components.stream_batch import letters_table
from components.stream_files import MANY, StreamFiles
from components.stream_log import Fed, batch_key, history, told
from components.tables import MAIN, TableContents, contents, data_digest, stream_manifest

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from components.adapters.great_expectations import Verdict
    from components.data_ports import Topic
    from components.ports import DataStore, Revision
    from components.project import Expectation
    from components.stream_batch import Batch
    from components.stream_settings import Stream
    from components.workspace import Workspace

TIDIED: Final = "tidied"
"""The metadata of a commit that took out of a batch what does not go to `main`."""


class StreamTable:
    """One table in the data store, fed by one topic.

    Args:
        workspace: its data store.
        project: the folder in it.
        table: its name.
        settings: its `stream`.
        expectations: the table's; of them, a batch is held to those on rows.
    """

    def __init__(
        self, workspace: Workspace, project: str, table: str, settings: Stream, expectations: tuple[Expectation, ...]
    ) -> None:
        self._workspace = workspace
        self._store: DataStore = workspace.store
        self._project = project
        self._table = table
        self._settings = settings
        self._expectations = expectations

    # --- where it stands ----------------------------------------------------------------------------------------------

    def position(self, topic: Topic) -> Fed:
        """How far the topic was read, once what was half done is finished; its beginning is a commit as well.

        The table's files have the declared columns then.

        Raises:
            ConfigError: they cannot be given them.
            GateError: a batch that was refused is refused again.
        """
        try:
            newest = self._mend(self.newest())
        except (ConflictError, NotFoundError) as error:
            raise self._not_alone() from error
        main = self._store.resolve(MAIN).id
        self._rewrites.fit(self._held(main), main, self._settings.columns)
        return newest or self._begin(topic.start(self._settings.begin))

    def _mend(self, newest: Fed | None) -> Fed | None:
        """Finish the batch that is half done, if it is the next one, and drop what else was left."""
        for branch in self._store.branches(self._branches()):
            head = self._store.resolve(branch)
            left = told(head, self._project, self._table)
            if newest is not None and left is not None and left.number == newest.number + 1:
                try:
                    newest = self._finish(branch, head, left)
                except ConflictError:  # `main` was changed under it, by a revert: its messages are read again
                    self._store.delete_branch(branch)
                    newest = self.newest()
            else:
                self._store.delete_branch(branch)
        return newest

    def newest(self) -> Fed | None:
        """What the newest commit of the topic says; None where there is none."""
        found = next(history(self._store, self._project, self._table, self._settings.topic), None)
        return found[1] if found else None

    def _begin(self, offsets: dict[str, str]) -> Fed:
        settings = self._settings
        fed = Fed(
            table=self._table,
            connection=settings.connection,
            topic=settings.topic,
            number=0,
            first=offsets,
            next=offsets,
        )
        key = batch_key(self._project, self._table, settings.topic, {})
        message = f"Begin {self._project}/{self._table} with topic {settings.topic}"
        made = self._store.commit(MAIN, {}, message=message, metadata=fed.metadata(self._project), key=key)
        return told(made, self._project, self._table) or fed

    # --- a batch ------------------------------------------------------------------------------------------------------

    def commit(self, batch: Batch, after: Fed) -> Fed:
        """Bring a batch to `main`; returns what its commit says.

        Args:
            batch: begins where `after` ends.
            after: the newest commit of the topic.

        Raises:
            GateError: its rows do not meet the expectations, and the stream is to stop then.
            ConflictError: another process feeds the table.
        """
        fed = after.model_copy(
            update={
                "number": after.number + 1,
                "connection": self._settings.connection,
                "first": dict(batch.first),
                "next": dict(batch.next),
                "messages": batch.messages,
                "rows": batch.rows,
                "late": batch.late,
                "dead": len(batch.letters),
                "newest": batch.newest.isoformat() if batch.newest else None,
                "refused": None,
            }
        )
        key = batch_key(self._project, self._table, fed.topic, fed.first)
        branch = f"{self._branches()}{key[:12]}"
        head = self._store.resolve(MAIN).id
        rows = self._joined(batch)
        try:
            self._store.branch(branch, head)
            with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
                made = self._store.commit(
                    branch,
                    self._files(Path(folder), head, fed, rows, batch),
                    message=self._message(fed),
                    metadata=fed.metadata(self._project),
                    key=key,
                    move=True,
                )
            if told(made, self._project, self._table) != fed:  # somebody else's, which was there first
                raise self._not_alone()
            done = self._finish(branch, made, fed, rows)
        except (ConflictError, NotFoundError) as error:  # of the branch, which somebody else has made or dropped
            raise self._not_alone() from error
        if done.number % MANY == 0:
            head = self._store.resolve(MAIN).id
            self._rewrites.compact(self._held(head), head)
        return done

    def _files(self, folder: Path, head: str, fed: Fed, rows: pa.Table | None, batch: Batch) -> dict[str, Path]:
        """Path in the store -> file, of what the batch's own commit holds."""
        import pyarrow.parquet as pq

        files: dict[str, Path] = {}
        if rows is not None:
            path = files[self._data(fed)] = folder / "rows"
            pq.write_table(rows, path, compression="zstd", compression_level=1)
            held = self._held(head)
            described = files[stream_manifest(self._project, self._table)] = folder / "manifest"
            name = Path(self._data(fed)).name
            grown = held.model_copy(
                update={"rows": held.rows + rows.num_rows, "files": {**held.files, name: sha256(path)}}
            )
            described.write_text(grown.model_dump_json(indent=1, exclude_defaults=True))
        if batch.letters:
            path = files[self._dead(fed)] = folder / "dead"
            pq.write_table(letters_table(batch.letters), path, compression="zstd", compression_level=1)
        return files

    def _finish(self, branch: str, head: Revision, fed: Fed, rows: pa.Table | None = None) -> Fed:
        """All that follows from a batch's commit, however much of it is done already."""
        key = batch_key(self._project, self._table, fed.topic, fed.first)
        if TIDIED not in head.metadata:
            refused = f"refused/{self._project}/{self._table}/{key[:12]}"
            error = self._judge(branch, head, fed, rows) if fed.rows else None
            if error is not None and self._settings.refused == "stop":
                raise error
            if error is not None:
                self._store.branch(refused, head.id)
                fed = fed.model_copy(update={"refused": refused})
            if fed.dead:
                self._bury(head, fed, key)
            if fed.dead or fed.refused:
                head = self._tidy(branch, head, fed, key)
        held_to = {VALIDATION: digest(self._suite[1])}
        merged = self._store.merge(
            head.id, MAIN, message=self._message(fed), metadata={**fed.metadata(self._project), **held_to}, key=key
        )
        self._store.delete_branch(branch)
        done = told(merged, self._project, self._table)
        if done is None or done.next != fed.next:
            raise self._not_alone()
        return done

    def _not_alone(self) -> ConflictError:
        return ConflictError(
            f"another process feeds {self._project}/{self._table}: it reads topic {self._settings.topic!r} as well",
            accepted="one process for one project",
            next_step=f"trilha stream stop {self._project}, on every machine but one",
        )

    def _judge(self, branch: str, head: Revision, fed: Fed, rows: pa.Table | None) -> GateError | None:
        """Hold the batch's rows to the expectations; returns why it is refused."""
        import pyarrow.parquet as pq

        from components.adapters.great_expectations import check
        from components.validate import refuse

        suite, expectations = self._suite
        if not expectations:
            return None
        if rows is None:  # an earlier process made this commit
            rows = pq.read_table(self._store.local(head.id, self._data(fed)))
        verdict: Verdict = check(self._table, suite(), expectations, rows)
        if all(outcome.success for outcome in verdict.outcomes):
            return None
        tree = data_digest(self._project, self._store.ls(head.id, self._project))
        commit = Commit(id=head.id, branch=branch, tree=tree, tables={self._table: fed.rows})
        with running_as(digest([batch_key(self._project, self._table, fed.topic, fed.first), "refused"])):
            return refuse(self._workspace, self._project, commit, self._table, self._data(fed), verdict)

    def _bury(self, head: Revision, fed: Fed, key: str) -> None:
        """Put the batch's letters on the branch of dead letters."""
        branch = dead_branch(self._project)
        if branch not in self._store.branches(branch):
            self._store.branch(branch, list(self._store.log(MAIN))[-1].id)
        self._store.commit(
            branch,
            {self._dead(fed): self._store.local(head.id, self._dead(fed))},
            message=f"{fed.dead:,} dead letters of {self._project}/{self._table}",
            metadata=fed.metadata(self._project),
            key=digest([key, fed.next, "dead"]),
        )

    def _tidy(self, branch: str, head: Revision, fed: Fed, key: str) -> Revision:
        """A commit on the branch without what does not go to `main`."""
        puts: dict[str, Path] = {}
        deletes = [self._dead(fed)] if fed.dead else []
        if fed.refused:
            described, base = stream_manifest(self._project, self._table), head.parents[0]
            deletes.append(self._data(fed))
            if any(entry.path == described for entry in self._store.ls(base, described.rpartition("/")[0])):
                puts[described] = self._store.local(base, described)
            else:
                deletes.append(described)
        return self._store.commit(
            branch,
            puts,
            deletes=deletes,
            message=f"{self._message(fed)}, without what does not go to {MAIN}",
            metadata={**fed.metadata(self._project), TIDIED: "yes"},
            key=digest([key, TIDIED]),
        )

    # --- inside -------------------------------------------------------------------------------------------------------

    @cached_property
    def _suite(self) -> tuple[Callable[[], Any], tuple[Expectation, ...]]:
        """What makes Great Expectations' suite for one batch, and the expectations in it."""
        from components.adapters.great_expectations import suites
        from components.validate import row_by_row

        kept = row_by_row(self._expectations)
        return lambda: suites(self._project, {self._table: kept})[self._table], kept

    @cached_property
    def _rewrites(self) -> StreamFiles:
        return StreamFiles(self._store, self._project, self._table, self._scratch)

    @cached_property
    def _scratch(self) -> Path:
        path = self._workspace.home / "scratch"
        path.mkdir(exist_ok=True)
        return path

    def _held(self, head: str) -> TableContents:
        """What a commit of `main` holds of the table."""
        found = contents(self._store, head, self._project)
        held = found.tables.get(self._table) if found else None
        columns = dict(self._settings.columns)
        return held or TableContents(rows=0, columns=columns, declared=tuple(sorted(columns)), files={})

    def _joined(self, batch: Batch) -> pa.Table | None:
        import pyarrow as pa

        return pa.concat_tables(batch.parts).combine_chunks() if batch.parts else None

    def _branches(self) -> str:
        return f"stream/{self._project}/{self._table}/"

    def _data(self, fed: Fed) -> str:
        return f"{self._project}/{self._table}/{self._name(fed)}"

    def _dead(self, fed: Fed) -> str:
        return f"{self._project}.dead/{self._table}/{self._name(fed)}"

    def _name(self, fed: Fed) -> str:
        """In the order of the batches, and no other topic's."""
        return f"{fed.number:010}-{batch_key(self._project, self._table, fed.topic, fed.first)[:8]}.parquet"

    def _message(self, fed: Fed) -> str:
        return f"Stream {self._project}/{self._table}: {fed.messages:,} messages of {fed.topic}"


def dead_branch(project: str) -> str:
    """Where a project's dead letters are."""
    return f"dead/{project}"
