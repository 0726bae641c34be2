"""From a release and a commit of the data to predictions for every row: the DAG of a night."""

from __future__ import annotations

from components.collect import collect
from components.deliver import deliver
from components.pick import pick
from components.project import Policy, Project
from components.rank import rank
from components.score import score
from components.scores import Predictions, Ranked, Scored
from components.scoring_settings import WHOLE
from flows.dag import Do

STEPS = ("pick", "score", "rank", "collect", "deliver")
"""What it is made of; where there are several nodes of a step, their names begin so."""

POLICIES = {
    "pick": Policy(cache=False),
    "score": Policy(retries=1),
    "collect": Policy(retries=2),
    "deliver": Policy(retries=2, cache=False),
}
"""What holds unless `policy:` in project.yaml says otherwise."""


def scoring(
    do: Do, project: Project, profile: str, release: int | None = None, commit: str | None = None
) -> Predictions:
    """Answer for every row of the project's query, commit all answers at once, and deliver them to every sink.

    Without the number of a `release` it is the one that serves; without a `commit`, the data is what `main` holds.
    """
    name, settings = project.name, project.file.scoring or WHOLE
    picked = do(
        pick,
        project=name,
        profile=profile,
        release=release,
        commit=commit,
        query=project.scored,
        keep=settings.kept,
    )
    scored: list[Scored] = [
        do.named("score" if settings.shards == 1 else f"score-{shard:02}")(
            score,
            project=name,
            profile=profile,
            picked=picked,
            query=project.scored,
            keep=settings.kept,
            part=settings.part,
            through=settings.through,
            shard=shard,
            shards=settings.shards,
        )
        for shard in range(settings.shards)
    ]
    ranked: dict[str, Ranked] = {}
    if settings.rank is not None:
        ranked["ranked"] = do(rank, profile=profile, picked=picked, scored=scored, rules=settings.rank)
    predictions = do(collect, project=name, profile=profile, picked=picked, scored=scored, **ranked)
    for sink, where in settings.sinks.items():
        do.named(f"deliver-{sink}")(
            deliver,
            project=name,
            profile=profile,
            predictions=predictions,
            name=sink,
            sink=where,
            what="best" if settings.rank else "scores",
        )
    return predictions


def unused_by(project: Project) -> set[str]:
    """The steps that there are no nodes of: what a policy says of them holds once there are."""
    settings = project.file.scoring or WHOLE
    return {step for step, wanted in (("rank", settings.rank), ("deliver", settings.sinks)) if not wanted}
