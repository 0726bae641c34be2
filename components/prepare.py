"""Prepare: run `features.sql` on the published commit, split its rows, and profile what the model will learn from.

It is one pass over the rows, in the order of their keys: memory does not grow with them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING

from components.errors import ConfigError, GateError, nearest
from components.examples import SQL, Examples, in_batches
from components.project import Features, RandomSplit, TimeSplit
from components.records import Commit, Prepared, Split
from components.reference import reference_profile
from components.sides import GROUP, Sides
from components.sql_engine import Rows, query
from components.tables import local_files
from components.workspace import open_workspace

if TYPE_CHECKING:
    import pyarrow as pa


def prepare(
    project: str, profile: str, commit: Commit, features: Features, split: TimeSplit | RandomSplit, seed: int
) -> Prepared:
    """Model-ready train, valid and test rows of one commit, ordered by their key.

    Args:
        project: the folder of the commit that the tables lie in, one folder a table.
        profile: names the data store and the SQL engine.
        commit: the published data.
        features: the query, and which of its columns mean what.
        split: which rows are learned from, and which are held out.
        seed: draws a random split; a split by time does not depend on it.

    Raises:
        ConfigError: the engine refuses the query, or it does not yield the columns that project.yaml names.
        GateError: the rows are not fit to learn from; names the column and counts.
    """
    with _in_its_folder(project):
        return _prepared(project, profile, commit, features, split, seed)


@contextmanager
def _in_its_folder(project: str) -> Iterator[None]:
    """Errors name `features.sql` with its folder, which what finds them does not know."""
    try:
        yield
    except (ConfigError, GateError) as error:
        where = f"config/projects/{project}/{SQL}"
        error.problem, error.next_step = (text.replace(SQL, where) for text in (error.problem, error.next_step))
        raise


def _prepared(
    project: str, profile: str, commit: Commit, features: Features, split: TimeSplit | RandomSplit, seed: int
) -> Prepared:
    workspace = open_workspace(profile)
    tables = local_files(workspace.store, commit.id, project)
    with workspace.output() as out:
        spilled = out.folder / "spilled"
        spilled.mkdir()
        sides = Sides(out.folder, features, split, seed)
        url = workspace.profile.sql
        with query(url, tables, features.sql, order=features.row, source=SQL, scratch=spilled) as rows:
            inputs = _write(rows, sides, features, split)
        made, classes = sides.checked(), sides.classes()
        profiled = reference_profile(made["train"].path, inputs)
        (out.folder / "reference.json").write_text(json.dumps(profiled, indent=1))
        shutil.rmtree(spilled)
        files = out.publish()
    splits = {name: Split(file=files[side.path.name], rows=side.rows, **side.summary) for name, side in made.items()}
    return Prepared(
        tree=commit.tree,
        commit=commit.id,
        row=features.row,
        target=features.target,
        features=inputs,
        train=splits["train"],
        valid=splits["valid"],
        test=splits["test"],
        reference=files["reference.json"],
        task=features.task,
        classes=classes,
    )


def _write(rows: Rows, sides: Sides, features: Features, split: TimeSplit | RandomSplit) -> dict[str, str]:
    """Write every row to its side, in one pass; returns the inputs with their types.

    Raises:
        ConfigError: a column that project.yaml names is missing, or one has a type that no model takes.
        GateError: the rows are not fit to learn from.
    """
    by = split.column if isinstance(split, TimeSplit) else split.key
    _check_names(rows.schema, features, by)
    batches = in_batches(iter(rows), rows.schema, GROUP)
    first = next(batches)
    examples = Examples(features, by, first)
    try:
        for batch in chain([first], batches):
            taken = examples.take(batch)
            if examples.fit:
                sides.write(taken)
    finally:
        sides.close()
    examples.check()
    return examples.inputs


def _check_names(schema: pa.Schema, features: Features, by: str) -> None:
    """Refuse a query without every column that project.yaml names.

    Raises:
        ConfigError: names the column, and where project.yaml does.
    """
    roles = {"row": features.row, "target": features.target, "split": by}
    roles |= {f"exclude {name!r}": name for name in features.exclude}
    roles |= {f"evaluate.slices {name!r}": name for name in features.slices}
    for role, name in roles.items():
        if name not in schema.names:
            raise ConfigError(
                f"{SQL} yields no column {name!r} (`{role}` in project.yaml){nearest(name, schema.names)}",
                accepted=", ".join(schema.names),
                next_step=f"select it in {SQL}, or correct project.yaml",
            )
