"""From a release and a commit of the data to predictions for every row: the DAG of a night."""

from __future__ import annotations

from components.collect import collect
from components.pick import pick
from components.project import Policy, Project
from components.score import score
from components.scores import Predictions, Scored
from components.scoring_settings import WHOLE
from flows.dag import Do

STEPS = ("pick", "score", "collect")
"""What it is made of; where there are several nodes of a step, their names begin so."""

POLICIES = {
    "pick": Policy(cache=False),
    "score": Policy(retries=1),
    "collect": Policy(retries=2),
}
"""What holds unless `policy:` in project.yaml says otherwise."""


def scoring(
    do: Do, project: Project, profile: str, release: int | None = None, commit: str | None = None
) -> Predictions:
    """Answer for every row of the project's query, and commit all answers at once.

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
        keep=settings.keep,
    )
    scored: list[Scored] = [
        do.named("score" if settings.shards == 1 else f"score-{shard:02}")(
            score,
            project=name,
            profile=profile,
            picked=picked,
            query=project.scored,
            keep=settings.keep,
            part=settings.part,
            through=settings.through,
            shard=shard,
            shards=settings.shards,
        )
        for shard in range(settings.shards)
    ]
    return do(collect, project=name, profile=profile, picked=picked, scored=scored)
