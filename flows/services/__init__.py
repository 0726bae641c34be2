"""The background services of a profile: Prefect, MLflow, TensorBoard and Triton on this machine, or elsewhere."""

from __future__ import annotations

from flows.services.registry import SERVICES
from flows.services.supervisor import Status, down, ensure, status

__all__ = ["SERVICES", "Status", "down", "ensure", "status"]
