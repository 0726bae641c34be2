"""What the page says of a model is what the numbers say."""

from __future__ import annotations

import pytest

from components.records import Release
from flows.page import words


def weighed(release: Release, metric: str, own: float, **baselines: float) -> Release:
    """The release, with one metric for the model and its baselines."""
    decision = release.decision.model_copy(
        update={
            "metrics": {metric: own},
            "baselines": {name: {metric: value} for name, value in baselines.items()},
        }
    )
    candidate = release.candidate.model_copy(update={"metric": metric})
    return release.model_copy(update={"decision": decision, "candidate": candidate})


@pytest.mark.parametrize(
    ("metric", "own", "expected"),
    [
        ("auc", 0.7, "On 81,157 held-out rows it ranks a positive above a negative 70.0% of the time"),
        ("accuracy", 0.7, "It labels 70.0% of 81,157 held-out rows right"),
        ("log_loss", 0.7, "On 81,157 held-out rows its log loss (lower is better) is 0.7000"),
        ("average_precision", 0.7, "On 81,157 held-out rows its average precision is 0.7000"),
    ],
)
def test_verdict(release: Release, metric: str, own: float, expected: str) -> None:
    """One sentence a metric, the baselines beside it where they were measured."""
    assert words.verdict(weighed(release, metric, own)) == f"{expected}."
    with_peers = words.verdict(weighed(release, metric, own, logistic=0.6, majority=0.5, champion=0.65))
    assert with_peers.startswith(f"{expected}, a logistic regression ")
    assert with_peers.count("majority") == 1


def test_verdict_without_the_metric(release: Release) -> None:
    """A metric that nobody measured is said to be missing."""
    candidate = release.candidate.model_copy(update={"metric": "brier"})
    decision = release.decision.model_copy(update={"metrics": {}})
    missing = release.model_copy(update={"candidate": candidate, "decision": decision})
    assert words.verdict(missing) == "Nobody measured the Brier score of this model."


def test_worse_than_a_baseline(release: Release) -> None:
    """A model that does not beat a baseline is said not to, whichever way the metric points."""
    assert words.caveats(weighed(release, "auc", 0.66, logistic=0.68, majority=0.5)) == [
        "In AUC that is 32% of the way from the majority's answer to a perfect one; the logistic regression goes 36%.",
        "It is no better than a logistic regression in AUC.",
    ]
    worse = words.caveats(weighed(release, "log_loss", 0.6, logistic=0.5, majority=0.55))
    assert worse[1:] == [
        "It is no better than a logistic regression in log loss.",
        "It is no better than always answering the majority in log loss.",
    ]


def test_better_than_all(release: Release) -> None:
    """A model that beats both baselines has nothing more to admit."""
    [skill] = words.caveats(weighed(release, "brier", 0.1, logistic=0.15, majority=0.2))
    assert skill.startswith("In Brier score that is 50% of the way")
    assert words.caveats(weighed(release, "auc", 0.9)) == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [(0.0381, "38 ms"), (0.31, "0.3 s"), (9.96, "10 s"), (61.2, "61 s"), (200, "3 min 20 s"), (7_300, "2 h 1 min")],
)
def test_duration(given: float, expected: str) -> None:
    """As long as a person would say it."""
    assert words.duration(given) == expected


@pytest.mark.parametrize(
    ("given", "expected"), [(0, "0 B"), (999, "999 B"), (12_345, "12.3 kB"), (9_012_345, "9.0 MB"), (2e11, "200.0 GB")]
)
def test_size(given: int, expected: str) -> None:
    """In decimal units, as disks are sold."""
    assert words.size(given) == expected


def test_moment() -> None:
    """A time for people; what is none stays as it is."""
    assert words.moment("2026-11-22T14:03:31+00:00") == "22 Nov 2026, 14:03 UTC"
    assert words.moment("yesterday") == "yesterday"


def test_setting() -> None:
    """Parameters as they were given."""
    assert [words.setting(value) for value in (None, 0.1, 1e-05, 7, True, "gbdt")] == [
        "\N{EN DASH}", "0.1", "1e-05", "7", "True", "gbdt",
    ]  # fmt: skip
    assert words.signed(-0.5) == "\N{MINUS SIGN}0.5000"


def test_command() -> None:
    """A command line can be pasted into a shell."""
    assert words.command("trilha", "predict", "--row", '{"a": 1}') == """trilha predict --row '{"a": 1}'"""


@pytest.mark.parametrize(
    ("task", "metric", "own", "baselines", "expected"),
    [
        (
            "multiclass",
            "balanced_accuracy",
            0.9,
            {"logistic": 0.8, "majority": 0.1},
            "Of each class it finds 90.0% on average",
        ),
        ("multiclass", "macro_f1", 0.9, {"logistic": 0.8, "majority": 0.1}, "its macro F1 is 0.9000"),
        (
            "regression",
            "rmse",
            2.0,
            {"linear": 3.0, "mean": 4.0},
            "its root mean squared error (lower is better) is 2.0000",
        ),
    ],
)
def test_other_tasks(
    release: Release, task: str, metric: str, own: float, baselines: dict[str, float], expected: str
) -> None:
    """Classes and values are said in words of their own, each against its own baselines."""
    found = weighed(release, metric, own, **baselines)
    assert expected in words.verdict(found)
    assert words.verdict(found).count(", ") >= 2
    [skill] = words.caveats(found)
    assert skill.endswith(
        {"multiclass": "the logistic regression goes 78%.", "regression": "the linear regression goes 25%."}[task]
    )
    prepared = release.prepared.model_copy(update={"task": task, "classes": ("a", "b", "c")})
    assert words.task_words(prepared) == {"multiclass": " (one of 3 classes)", "regression": " (a number)"}[task]
