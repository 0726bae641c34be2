"""A model of MLflow's own kind with the same graphs, for `mlflow models serve`; kept as code, not pickled."""

from typing import Any

import mlflow
from graphs import Graphs


class Model(mlflow.pyfunc.PythonModel):
    """What MLflow loads."""

    def load_context(self, context: Any) -> None:  # noqa: ARG002  # MLflow's signature
        self.graphs = Graphs()

    def predict(self, context: Any, model_input: Any, params: Any = None) -> list[dict[str, Any]]:  # noqa: ARG002  # MLflow's signature
        return self.graphs.rows(model_input.to_dict("records"))


mlflow.models.set_model(Model())
