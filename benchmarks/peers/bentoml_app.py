"""BentoML with the same graphs; rows come as plain objects, which is its fastest."""

from typing import Any

import bentoml
from graphs import Graphs


@bentoml.service(workers=2, traffic={"timeout": 30})
class Bench:
    """The service."""

    def __init__(self) -> None:
        self.graphs = Graphs()

    @bentoml.api
    def predict(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        return {"answers": self.graphs.rows(rows)}
