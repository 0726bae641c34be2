"""Where a person finds things in MLflow's pages, without MLflow's client, whose import takes seconds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from urllib.error import URLError
from urllib.parse import quote, urlencode
from urllib.request import urlopen

TIMEOUT = 2.0
"""Seconds that a link is worth."""
VIEW = "?workflowType=machine_learning"
"""Without it MLflow 3 shows a run as one of a language model's evaluation."""


@dataclass(frozen=True)
class MlflowPages:
    """Addresses of MLflow's pages.

    Args:
        url: where MLflow is.
        experiment: whose runs are asked for.
    """

    url: str
    experiment: str

    def run(self, run_id: str) -> str:
        """The page of a run."""
        return f"{self.url}/#/experiments/{self._id}/runs/{run_id}{VIEW}" if self._id else f"{self.url}/#/runs/{run_id}"

    def file(self, run_id: str, path: str) -> str:
        """A file of a run, shown beside the others of the run; the run's page where that cannot be told."""
        page, _, view = self.run(run_id).rpartition("?")
        return f"{page}/artifacts/{quote(path)}?{view}" if page else self.run(run_id)

    def version(self, name: str, version: str) -> str:
        """The page of a model version."""
        return f"{self.url}/#/models/{quote(name)}/versions/{version}{VIEW}"

    @cached_property
    def _id(self) -> str:
        """The experiment's id, which MLflow's pages are under; empty where MLflow does not say."""
        if not self.url.startswith(("http://", "https://")):
            return ""
        query = urlencode({"experiment_name": self.experiment})
        address = f"{self.url}/api/2.0/mlflow/experiments/get-by-name?{query}"
        try:
            with urlopen(address, timeout=TIMEOUT) as answer:  # noqa: S310  # http, looked at above
                return str(json.load(answer)["experiment"]["experiment_id"])
        except (URLError, OSError, ValueError, KeyError, TypeError):  # a link is not worth failing for
            return ""
