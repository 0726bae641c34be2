"""Prefect's work pools: whether anybody is there to take a run."""

from __future__ import annotations

from prefect.client.orchestration import SyncPrefectClient


def hindrance(client: SyncPrefectClient, name: str) -> str:
    """Why a run on the work pool `name` will not begin, and what to do; empty where nothing is known."""
    pool = client.read_work_pool(name)
    if pool.is_paused:
        return f"work pool {name!r} is paused; next: prefect work-pool resume {name}"
    if pool.is_push_pool or pool.is_managed_pool:
        return ""
    online = [worker for worker in client.read_workers_for_work_pool(name) if str(worker.status.value) == "ONLINE"]
    return "" if online else f"work pool {name!r} has no worker; next: prefect worker start --pool {name}"
