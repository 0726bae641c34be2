"""Evaluate: weigh the candidate against thresholds, slices, baselines and the champion, on rows nobody learned from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from components.answers import Answers, AnyAnswers, ClassAnswers, ValueAnswers, numbered, read_answers
from components.baselines import baselines
from components.errors import ConfigError, GateError
from components.metrics import HIGHER_IS_BETTER, all_metrics, at_least_as_good, difference, metric
from components.model_inputs import to_tensors
from components.project import Evaluate
from components.records import Candidate, Champion, Decision, Prepared, Slice
from components.workspace import Workspace, open_workspace

if TYPE_CHECKING:
    import pyarrow as pa

    from components.answers import Target

SLICE_ROWS = 500
"""Smaller slices say nothing."""

Verdict = tuple[bool, str]
"""Whether a rule holds, and why, in words."""


def evaluate(
    profile: str, prepared: Prepared, candidate: Candidate, champion: Champion, rules: Evaluate, seed: int
) -> Decision:
    """Whether the candidate may serve. It does not raise where the answer is no: the decision is a gate.

    Args:
        profile: names where the files are.
        prepared: the rows; the test split judges.
        candidate: its answers on those rows are the notebook's own, which `qualify` holds the bundle to.
        champion: the release to beat; its graphs answer the same rows here.
        rules: what is asked for.
        seed: of the bootstrap.

    Raises:
        ConfigError: the rules name a column that does not exist.
    """
    import pyarrow.parquet as pq

    workspace = open_workspace(profile)
    train, test = (pq.read_table(workspace.artifacts.local(split.file)) for split in (prepared.train, prepared.test))
    target = numbered(test[prepared.target].to_numpy(zero_copy_only=False), prepared.task, prepared.classes)
    ours = _answers(workspace, candidate, test, prepared)
    theirs, verdict_on_champion = _champion_answers(workspace, champion, test, prepared)
    models = {
        "candidate": ours,
        **baselines(train, test, prepared),
        **({"champion": theirs} if theirs else {}),
    }
    metrics = {name: all_metrics(target, answers) for name, answers in models.items()}
    found = _slices(test, target, ours, rules)
    interval = None
    if theirs:
        interval = difference(
            rules.metric,
            target,
            ours,
            theirs,
            resamples=rules.resamples,
            confidence=rules.confidence,
            seed=seed,
        )
        verdict_on_champion = _against_champion(interval, rules)
    verdicts = [
        *_thresholds(metrics["candidate"], rules),
        *_floors(found, rules),
        verdict_on_champion,
        *_against_baselines(metrics, rules.metric),
    ]
    with workspace.output() as out:
        _draw(out.folder, target, models, found, rules)
        plots = out.publish()
    return Decision(
        passed=all(holds for holds, _ in verdicts),
        reasons=tuple(why for _, why in verdicts),
        metrics=metrics.pop("candidate"),
        baselines=metrics,
        difference=interval,
        slices=tuple(found),
        plots=tuple(plots.values()),
    )


def _answers(workspace: Workspace, candidate: Candidate, test: pa.Table, prepared: Prepared) -> AnyAnswers:
    import pyarrow.parquet as pq

    predictions = pq.read_table(workspace.artifacts.local(candidate.trial.predictions))
    if not predictions["row"].equals(test[prepared.row]):
        raise GateError(
            "the candidate's predictions are not for the rows of the test split, one by one",
            next_step="let the notebook save its model with `t.save`",
        )
    return read_answers(predictions, prepared.task, prepared.classes)


def _champion_answers(
    workspace: Workspace, champion: Champion, test: pa.Table, prepared: Prepared
) -> tuple[AnyAnswers | None, Verdict]:
    """The champion's answers; or None, and why there are none."""
    from components.adapters.onnx_graphs import run_graphs

    if champion.graphs is None:
        return None, (True, "there is no champion to beat yet")
    paths = [
        workspace.artifacts.local(graph) for graph in (champion.graphs.pre, champion.graphs.model, champion.graphs.post)
    ]
    try:
        found = run_graphs(paths, to_tensors(test, prepared.features))
        return read_answers(found, prepared.task, prepared.classes), (True, "")
    except GateError as error:
        return None, (True, f"the champion cannot answer these rows ({error.problem}): the other rules decide alone")


def _slices(test: pa.Table, target: Target, ours: AnyAnswers, rules: Evaluate) -> list[Slice]:
    """The metric in each slice that is large enough and has more than one value of the target."""
    import numpy as np
    import pyarrow.compute as pc

    found = []
    known = {column.casefold(): column for column in test.column_names}  # the engine says `id` where a query says `ID`
    for name in rules.slices:
        column = known.get(name.casefold())
        if column is None:
            raise ConfigError(f"evaluate.slices: no column {name!r}", accepted=", ".join(test.column_names))
        texts = pc.fill_null(pc.cast(test[column], "string"), "(missing)").combine_chunks().dictionary_encode()
        numbers = texts.indices.to_numpy()
        for number, value in sorted(enumerate(texts.dictionary.to_pylist()), key=lambda item: item[1]):
            rows = numbers == number
            if rows.sum() >= SLICE_ROWS and len(np.unique(target[rows])) > 1:
                score = metric(rules.metric, target[rows], ours.take(rows))
                found.append(Slice(column=column, value=value, rows=int(rows.sum()), metric=score))
    return found


# --- the rules --------------------------------------------------------------------------------------------------------


def _thresholds(metrics: dict[str, float], rules: Evaluate) -> list[Verdict]:
    verdicts = []
    for name, bound in rules.thresholds.items():
        holds = at_least_as_good(name, metrics[name], bound)
        verdicts.append((holds, f"{name} {metrics[name]:.4f} {'meets' if holds else 'misses'} the threshold {bound:g}"))
    return verdicts


def _floors(found: list[Slice], rules: Evaluate) -> list[Verdict]:
    if rules.slice_floor is None or not found:
        return []
    below = [one for one in found if not at_least_as_good(rules.metric, one.metric, rules.slice_floor)]
    if not below:
        return [(True, f"{rules.metric} meets the floor {rules.slice_floor:g} in all {len(found)} slices")]
    return [
        (
            False,
            f"{rules.metric} {one.metric:.4f} misses the floor {rules.slice_floor:g} where {one.column} = {one.value}",
        )
        for one in below
    ]


def _against_champion(interval: tuple[float, float, float], rules: Evaluate) -> Verdict:
    low, estimate, high = interval
    gain = low if rules.metric in HIGHER_IS_BETTER else -high
    holds = gain >= -rules.loss
    ask = f"at most {rules.loss:g} worse" if rules.loss else "not worse"
    return holds, (
        f"{rules.metric} {estimate:+.4f} against the champion ({rules.confidence:.0%} interval "
        f"{low:+.4f} to {high:+.4f}): {'surely' if holds else 'not surely'} {ask}"
    )


def _against_baselines(metrics: dict[str, dict[str, float]], name: str) -> list[Verdict]:
    """For information: nothing is asked of them."""
    return [
        (True, f"for comparison, {name} of the {baseline} baseline is {metrics[baseline][name]:.4f}")
        for baseline in metrics
        if baseline not in ("candidate", "champion")
    ]


def _draw(folder: Path, target: Target, models: dict[str, AnyAnswers], found: list[Slice], rules: Evaluate) -> None:
    from components import plots

    ours = models["candidate"]
    if isinstance(ours, ClassAnswers):
        plots.confusion(target, ours).savefig(folder / "confusion.png")
    elif isinstance(ours, ValueAnswers):
        plots.foretold(target, ours).savefig(folder / "foretold.png")
    else:
        curves = {name: one for name, one in models.items() if name != "majority" and isinstance(one, Answers)}
        plots.roc(target, curves).savefig(folder / "roc.png")
        plots.calibration(target, curves).savefig(folder / "calibration.png")
    if found:
        plots.slices(rules.metric, found, rules.slice_floor).savefig(folder / "slices.png")
