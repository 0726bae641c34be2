"""From raw data to a release: the DAG that every project runs."""

from __future__ import annotations

from components.adopt import adopt
from components.champion import champion
from components.evaluate import evaluate
from components.export import export
from components.ingest import ingest, observe
from components.load import load
from components.online import materialize
from components.prepare import prepare
from components.project import Policy, Project
from components.publish import publish
from components.qualify import qualify
from components.records import OnlineTable, Parameters, Release, Trial
from components.register import register
from components.release import release
from components.search import points, propose
from components.select import select
from components.train import train
from components.validate import validate
from flows.dag import Do

POLICIES = {
    "observe": Policy(cache=False),
    "champion": Policy(cache=False),
    "adopt": Policy(retries=2),
    "ingest": Policy(retries=2),
    "load": Policy(retries=2, cache=False),
    "register": Policy(retries=2),
}
"""What holds unless `policy:` in project.yaml says otherwise."""


FROM_SOURCES, FROM_COMMIT = ("observe", "ingest"), ("adopt",)
"""How data comes in, in steps: one way or the other."""


def lifecycle(do: Do, project: Project, profile: str, commit: str | None = None) -> Release:
    """Ingest, gate, publish, learn, weigh, qualify and release `project` with the parts of `profile`.

    With the id of a `commit`, the tables are that commit's, and the sources are not read.
    """
    name, file = project.name, project.file
    if commit is None:
        seen = do(observe, project=name, profile=profile, sources=file.sources)
        raw = do(ingest, project=name, profile=profile, sources=file.sources, seen=seen)
    else:
        raw = do(adopt, project=name, profile=profile, sources=file.sources, commit=commit)
    report = do(validate, project=name, profile=profile, commit=raw, expectations=project.expectations)
    data = do(publish, project=name, profile=profile, commit=raw, validation=report)
    prepared = do(
        prepare, project=name, profile=profile, commit=data, features=project.features, split=file.split, seed=file.seed
    )

    for sink, where in file.features.sinks.items():
        do.named(f"load-{sink}")(load, project=name, profile=profile, prepared=prepared, name=sink, sink=where)

    trials: list[Trial] = []
    for index, point in enumerate(points(file.search, file.seed)):
        parameters: Parameters
        if point is None:  # the search learns: it asks for the next point when the waves before are done
            wave = index - index % file.search.parallel
            parameters = do.named(f"propose-{index:02}")(
                propose,
                search=file.search,
                index=index,
                earlier=trials[:wave],
                metric=file.evaluate.metric,
                seed=file.seed,
            )
        else:
            parameters = point
        trials.append(
            do.named(f"train-{index:02}")(
                train,
                project=name,
                profile=profile,
                notebook=project.notebook,
                prepared=prepared,
                parameters=parameters,
                timeout=file.search.timeout,
                memory_mb=file.search.memory_mb,
                seed=file.seed,
            )
        )

    best = do(select, project=name, profile=profile, trials=trials, metric=file.evaluate.metric)
    serving = do(champion, project=name, profile=profile, candidate=best)
    decision = do(
        evaluate,
        profile=profile,
        prepared=prepared,
        candidate=best,
        champion=serving,
        rules=file.evaluate,
        seed=file.seed,
    )
    with do.when(decision):
        version = do(register, project=name, profile=profile, candidate=best, prepared=prepared)
        bundle = do(export, project=name, profile=profile, candidate=best, prepared=prepared, serve=file.serve)
        online: dict[str, OnlineTable] = {}
        if file.online.features is not None:
            online["online"] = do(
                materialize,
                project=name,
                profile=profile,
                prepared=prepared,
                features=file.online.features,
                split=file.split,
            )
        report_on_bundle = do(qualify, profile=profile, bundle=bundle, serve=file.serve)
        return do(
            release,
            project=name,
            profile=profile,
            commit=data,
            validation=report,
            prepared=prepared,
            candidate=best,
            decision=decision,
            version=version,
            bundle=bundle,
            qualification=report_on_bundle,
            rollout=file.rollout,
            **online,
        )
