"""rank: of many answers the best of each, a household's products, say; and the best on the whole for everybody else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from components import sql_engine
from components.answers import NUMBERS
from components.errors import ConfigError, GateError
from components.ledger import effect_key
from components.scores import RECEIPT, Picked, Ranked, Scored
from components.scoring_settings import Rank
from components.workspace import open_workspace

if TYPE_CHECKING:
    import pyarrow as pa

    from components.workspace import Workspace

FILE: Final = "best.parquet"
EVERYBODY: Final = ""
"""The key of the best on the whole."""

QUERY: Final = """
with answers as (
    select cast({by} as varchar) as key, {item} as item, cast({number} as double) as score, {receipt} as receipt
    from scores
),
placed as (
    select *, row_number() over (partition by key order by score desc, item) as place from answers
),
summed as (
    select item, sum(score) as score, arg_max(receipt, (score, receipt)) as receipt from answers group by item
),
overall as (
    select *, row_number() over (order by score desc, item) as place from summed
),
best as (
    select key, item, score, receipt, place from placed where place <= {best}
    union all
    select '' as key, item, score, receipt, place from overall where place <= {best}
)
select
    key as {by},
    list(item order by place) as items,
    list(score order by place) as scores,
    list(receipt order by place) as receipts
from best
group by key
"""


def rank(profile: str, picked: Picked, scored: list[Scored], rules: Rank) -> Ranked:
    """The best of each, by the number that the model answers: one row a key, its items in their order.

    The row of key "" is for whoever is not known: the items with the largest sum over all, which for probabilities is
    how many are expected.

    Args:
        profile: names the SQL engine and the files.
        picked: the release, whose task says which number counts.
        scored: the answers of every shard.
        rules: whose best, of what, how many.

    Raises:
        ConfigError: the task's answer is no single number.
        GateError: a row does not say whose it is.
    """
    import pyarrow.parquet as pq

    workspace, task = open_workspace(profile), picked.release.prepared.task
    if task == "multiclass":
        raise ConfigError("scoring.rank with task multiclass", accepted="binary or regression: one number a row")
    table = _ranked(workspace, [part for one in scored for part in _paths(workspace, one)], rules, NUMBERS[task])
    keys = table[rules.by].to_pylist()
    if None in keys or keys.count(EVERYBODY) != 1:
        raise GateError(f"rows without {rules.by!r}", accepted="a value in every row", next_step="look at scoring.rows")
    with workspace.output() as out:
        pq.write_table(table, out.folder / FILE, compression="zstd")
        return Ranked(count=table.num_rows - 1, file=out.publish()[FILE])


def _paths(workspace: Workspace, one: Scored) -> list[Path]:
    return [workspace.artifacts.local(part.file) for part in one.parts]


def _ranked(workspace: Workspace, paths: list[Path], rules: Rank, number: str) -> pa.Table:
    import pyarrow as pa

    names = {"by": rules.by, "item": rules.item, "number": number, "receipt": RECEIPT}
    quoted = {name: '"' + value.replace('"', '""') + '"' for name, value in names.items()}
    query, tables = QUERY.format(**quoted, best=rules.best), {"scores": paths}
    with (
        workspace.artifacts.folder(f"{effect_key()}-spill") as spill,
        sql_engine.query(
            workspace.profile.sql, tables, query, order=rules.by, source="scoring.rank", scratch=spill
        ) as rows,
    ):
        return pa.Table.from_batches(rows, rows.schema)
