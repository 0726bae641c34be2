"""qualify: a real Triton loads the bundle and answers the golden requests as the notebook did, within the budget."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from components.answers import LABEL, NUMBERS, answer_names, matrix
from components.errors import GateError
from components.golden import features_of
from components.model_inputs import to_tensors
from components.project import Serve
from components.records import Bundle, Qualification
from components.serving import bring_up, take_down, uncached
from components.versions import check_versions
from components.workspace import open_workspace

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from components.ports import ModelServer

REQUESTS = 300
"""One-row requests that a percentile is taken of."""
ATTEMPTS = 3
"""A machine that does other things too is slow now and then: the best of so many p99 counts."""
SHOWN = 5


def qualify(profile: str, bundle: Bundle, serve: Serve) -> Qualification:
    """Load `bundle`, replay its golden requests in one batch and row by row, and time one-row requests.

    A bundle that fails is taken down again; one that passes stays loaded for its release.

    Raises:
        GateError: the server refuses the bundle, an answer differs from the notebook's by more than the tolerance, or
            the best p99 is over the budget; says where and by how much.
        UnavailableError: the server does not answer.
    """
    import pyarrow.parquet as pq

    workspace = open_workspace(profile)
    server = workspace.server
    golden = pq.read_table(workspace.artifacts.local(bundle.golden))
    project = bundle.model.rsplit("-", 1)[0]
    with workspace.lock(f"serve-{project}"):
        check_settings(server, bundle)
        check_versions(workspace.store, project, bundle)
        fresh = bring_up(workspace, bundle)
        try:
            difference = _replay(server, bundle, golden, serve.tolerance)
            with uncached(workspace, bundle) as model:
                p50, p99 = _measure(server, bundle.model_copy(update={"model": model}), golden, serve.p99_ms)
        except GateError:
            if fresh:
                take_down(server, bundle.model)
            raise
    return Qualification(
        digest=bundle.digest,
        rows=golden.num_rows,
        tolerance=serve.tolerance,
        difference=difference,
        budget_ms=serve.p99_ms,
        p50_ms=p50,
        p99_ms=p99,
        server=server.address,
    )


WANTED = {
    "instance_group": "GPUs that it has, or kind: cpu",
    "rate_limiter": "a server started with --rate-limit=execution_count",
    "response_cache": "a server started with --cache-config",
}
"""Setting -> what a server needs for it."""


def check_settings(server: ModelServer, bundle: Bundle) -> None:
    """Refuse settings that the server has nothing for: it would pass over some of them, or fail when it serves.

    Raises:
        GateError: names the setting, and what the server is without.
    """
    for name, missing in server.lacks(bundle.triton, bundle.target).items():
        setting = "instance_group.rate_limiter" if name == "rate_limiter" else name
        raise GateError(
            f"serve.triton.{setting}: the Triton at {server.address} is without {missing}",
            accepted=WANTED[name],
            next_step="take the setting out of project.yaml, or name another server in the profile",
        )


def _replay(server: ModelServer, bundle: Bundle, golden: pa.Table, tolerance: float) -> float:
    """The largest difference from the notebook's own answers, in one batch and row by row."""
    import numpy as np

    model, task = bundle.model, bundle.task
    inputs = to_tensors(golden, features_of(golden, task))
    batch = server.infer(model, inputs, settings=bundle.triton)
    single = [server.infer(model, row, settings=bundle.triton) for row in _rows(inputs)]
    rows = {name: np.concatenate([answer[name] for answer in single]) for name in answer_names(task)}
    return max(
        _compare(f"{model}, in one batch", batch, golden, task, tolerance),
        _compare(f"{model}, row by row", rows, golden, task, tolerance),
    )


def _rows(inputs: dict[str, npt.NDArray[Any]]) -> list[dict[str, npt.NDArray[Any]]]:
    count = len(next(iter(inputs.values())))
    return [{name: array[row : row + 1] for name, array in inputs.items()} for row in range(count)]


def _compare(what: str, answers: dict[str, npt.NDArray[Any]], golden: pa.Table, task: str, tolerance: float) -> float:
    import numpy as np

    expected = matrix(golden[NUMBERS[task]]).astype(np.float64)
    given = matrix(answers[NUMBERS[task]]).astype(np.float64)
    if given.shape != expected.shape:
        raise GateError(
            f"{what}: {NUMBERS[task]} is {list(given.shape)}, the notebook's is {list(expected.shape)}",
            next_step="look at how the notebook converts the model",
        )
    for values, who in ((expected, "the notebook's own answer"), (given, "the answer")):
        unfit = np.asarray(np.isnan(values).any(axis=1))
        if unfit.any():
            raise GateError(
                f"{what}: {who} is NaN in {unfit.sum()} of {len(unfit)} golden rows",
                accepted="a number in every row" if task == "regression" else "a probability in every row",
                next_step="look at how the notebook deals with missing values",
                details=_table(golden, given, unfit, task),
            )
    difference = np.abs(given - expected)
    if task == "regression":  # of large values, 32 bits hold a share
        difference /= np.maximum(1, np.abs(expected))
    beyond = np.asarray((difference > tolerance).any(axis=1))
    labels = _other_labels(answers, golden, expected, task, tolerance)
    if beyond.any() or labels.any():
        raise GateError(
            f"{what}: {beyond.sum()} of {len(beyond)} golden answers differ from the notebook's, by up to "
            f"{difference.max():.3g}, and {labels.sum()} labels",
            accepted=f"differences up to {tolerance:g} (serve.tolerance), and no other label",
            next_step="see which columns the rows below share; look at how the notebook converts the model",
            details=_table(golden, given, beyond | labels, task),
        )
    return float(difference.max())


def _other_labels(
    answers: dict[str, npt.NDArray[Any]],
    golden: pa.Table,
    expected: npt.NDArray[np.float64],
    task: str,
    tolerance: float,
) -> npt.NDArray[np.bool_]:
    """The rows with another label; of classes that are equally probable within the tolerance, either will do."""
    import numpy as np

    if task == "regression":
        return np.zeros(len(expected), dtype=np.bool_)
    others = np.asarray(golden[LABEL].to_pylist()) != answers[LABEL].ravel()
    if task == "multiclass":
        first, second = np.sort(expected, axis=1)[:, :-3:-1].T
        others &= first - second > 2 * tolerance
    return np.asarray(others, dtype=np.bool_)


def _table(golden: pa.Table, given: npt.NDArray[Any], chosen: npt.NDArray[Any], task: str) -> str:
    """The first of the chosen rows: what was asked, what the notebook said, what came back."""
    lines = []
    for index in chosen.nonzero()[0][:SHOWN]:
        row = golden.slice(int(index), 1).to_pylist()[0]
        said = row[NUMBERS[task]]
        lines.append(
            f"golden row {index}: answered {_shown(given[index])}, the notebook said "
            f"{_shown(said if isinstance(said, list) else [said])}: {row}"
        )
    return "\n".join(lines)


def _shown(numbers: Iterable[float]) -> str:
    return ", ".join(f"{number:.6g}" for number in numbers)


def _measure(server: ModelServer, bundle: Bundle, golden: pa.Table, budget_ms: float) -> tuple[float, float]:
    """p50 and p99 of one-row requests, milliseconds, of the best attempt; `_replay` has warmed the model up.

    Raises:
        GateError: none of the attempts is within the budget.
    """
    import numpy as np

    model, rows = bundle.model, _rows(to_tensors(golden, features_of(golden, bundle.task)))
    best = (np.inf, np.inf)
    for _ in range(ATTEMPTS):
        times = []
        for request in range(REQUESTS):
            begun = time.perf_counter()
            server.infer(model, rows[request % len(rows)], settings=bundle.triton)
            times.append((time.perf_counter() - begun) * 1e3)
        p50, p99 = (float(np.percentile(times, share)) for share in (50, 99))
        best = min(best, (p99, p50))
        if p99 <= budget_ms:
            return p50, p99
    raise GateError(
        f"{model}: p99 of one-row requests is {best[0]:.1f} ms (p50 {best[1]:.1f} ms), the best of {ATTEMPTS} attempts "
        f"of {REQUESTS} requests",
        accepted=f"up to {budget_ms:g} ms (serve.p99_ms)",
        next_step="a smaller model, a faster or quieter machine, or a larger budget in project.yaml",
    )
