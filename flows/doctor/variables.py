"""The environment variables that a profile names: which are set, and that no value of a secret one is shown."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from components.profile import LakeFSStore, Profile
from components.workspace import Workspace
from flows.doctor.check import Check, lacking

CLIENTS = (
    "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_STORAGE_KEY", "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN", "PREFECT_API_AUTH_STRING", "PREFECT_API_KEY",
)  # fmt: skip
"""What clients read by names of their own."""
SHORTEST = 8
"""Characters of what is hidden; a shorter name of a user may be a word of ours."""


def named(workspace: Workspace) -> Iterator[Check]:
    """Whether each variable that the profile names for a secret is set here."""
    names = secret(workspace.profile)
    if not names:
        return
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        given = sorted({name for keys in workspace.profile.kubeflow.secrets.values() for name in keys.values()})
        inside = " (Kubernetes gives it to steps in the cluster)" if set(missing) <= set(given) else ""
        commands = "; ".join(f"export {name}=..." for name in missing)
        yield lacking("variables", f"not set here: {', '.join(missing)}{inside}", commands, needed=False)
    else:
        yield Check(name="variables", verdict="good", found=f"set: {', '.join(names)}")


def secret(profile: Profile) -> list[str]:
    """The variables that the profile names for secrets, sorted."""
    settings, store, cache = profile.kubeflow, profile.store, profile.services.gateway.cache
    found = {name for keys in settings.secrets.values() for name in keys.values()}
    found |= {name for name in (settings.token_env, profile.services.triggers.token_env) if name}
    found |= {name for name in (profile.features.redis_env, cache.redis_env if cache else None) if name}
    found |= {connection.url_env for connection in profile.connections.values() if connection.url_env}
    if isinstance(store, LakeFSStore):
        found |= {store.access_key_env, store.secret_key_env}
    return sorted(found)


def hidden(profile: Profile, checks: Sequence[Check]) -> list[Check]:
    """The checks without any value of a secret: a server may repeat what it was sent."""
    values = {os.environ.get(name, "").strip() for name in (*secret(profile), *CLIENTS)}

    def clean(text: str) -> str:
        for value in sorted((value for value in values if len(value) >= SHORTEST), key=len, reverse=True):
            text = text.replace(value, "***")
        return text

    return [check.model_copy(update={"found": clean(check.found), "remedy": clean(check.remedy)}) for check in checks]
