"""qualify: a real Triton loads the bundle and answers the golden requests as the notebook did, within the budget."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from components.errors import GateError
from components.golden import features_of
from components.model_inputs import to_tensors
from components.project import Serve
from components.records import Bundle, Qualification
from components.serving import bring_up, take_down
from components.workspace import open_workspace

if TYPE_CHECKING:
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
    with workspace.lock(f"serve-{bundle.model.rsplit('-', 1)[0]}"):
        fresh = bring_up(workspace, bundle)
        try:
            difference = _replay(server, bundle.model, golden, serve.tolerance)
            p50, p99 = _measure(server, bundle.model, golden, serve.p99_ms)
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


def _replay(server: ModelServer, model: str, golden: pa.Table, tolerance: float) -> float:
    """The largest difference from the notebook's own answers, in one batch and row by row."""
    import numpy as np

    inputs = to_tensors(golden, features_of(golden))
    batch = server.infer(model, inputs)
    single = [server.infer(model, row) for row in _rows(inputs)]
    rows = {name: np.concatenate([answer[name] for answer in single]) for name in ("probability", "label")}
    return max(
        _compare(f"{model}, in one batch", batch, golden, tolerance),
        _compare(f"{model}, row by row", rows, golden, tolerance),
    )


def _rows(inputs: dict[str, npt.NDArray[Any]]) -> list[dict[str, npt.NDArray[Any]]]:
    count = len(next(iter(inputs.values())))
    return [{name: array[row : row + 1] for name, array in inputs.items()} for row in range(count)]


def _compare(what: str, answers: dict[str, npt.NDArray[Any]], golden: pa.Table, tolerance: float) -> float:
    import numpy as np

    expected = golden["probability"].to_numpy()
    given = answers["probability"].ravel().astype(np.float64)
    labels = golden["label"].to_numpy() != answers["label"].ravel()
    difference = np.abs(given - expected)
    for unfit, who in ((np.isnan(expected), "the notebook's own answer"), (np.isnan(given), "the answer")):
        if unfit.any():
            raise GateError(
                f"{what}: {who} is NaN in {unfit.sum()} of {len(unfit)} golden rows",
                accepted="a probability in every row",
                next_step="look at how the notebook deals with missing values",
                details=_table(golden, given, unfit),
            )
    beyond = difference > tolerance
    if beyond.any() or labels.any():
        raise GateError(
            f"{what}: {beyond.sum()} of {len(beyond)} golden answers differ from the notebook's, by up to "
            f"{difference.max():.3g}, and {labels.sum()} labels",
            accepted=f"differences up to {tolerance:g} (serve.tolerance), and no other label",
            next_step="see which columns the rows below share; look at how the notebook converts the model",
            details=_table(golden, given, beyond | labels),
        )
    return float(difference.max())


def _table(golden: pa.Table, given: npt.NDArray[Any], chosen: npt.NDArray[Any]) -> str:
    """The first of the chosen rows: what was asked, what the notebook said, what came back."""
    lines = []
    for index in chosen.nonzero()[0][:SHOWN]:
        row = golden.slice(int(index), 1).to_pylist()[0]
        lines.append(
            f"golden row {index}: answered {given[index]:.6g}, the notebook said {row['probability']:.6g}: {row}"
        )
    return "\n".join(lines)


def _measure(server: ModelServer, model: str, golden: pa.Table, budget_ms: float) -> tuple[float, float]:
    """p50 and p99 of one-row requests, milliseconds, of the best attempt; `_replay` has warmed the model up.

    Raises:
        GateError: none of the attempts is within the budget.
    """
    import numpy as np

    rows = _rows(to_tensors(golden, features_of(golden)))
    best = (np.inf, np.inf)
    for _ in range(ATTEMPTS):
        times = []
        for request in range(REQUESTS):
            begun = time.perf_counter()
            server.infer(model, rows[request % len(rows)])
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
