"""The way to a lakeFS server: its client with the credentials in the environment, and a look at what is there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lakefs.client import Client
from lakefs_sdk.exceptions import NotFoundException

from components.adapters.lakefs_terms import border
from components.errors import ConfigError

if TYPE_CHECKING:
    from components.profile import LakeFSStore as Settings

PATIENCE = 3.0
"""Seconds for one question of `look`."""


def connect(settings: Settings) -> Client:
    """A client of the server at `store.url`; it asks nothing yet.

    Raises:
        ConfigError: the credentials are not in the environment.
    """
    names = (settings.access_key_env, settings.secret_key_env)
    for name in names:
        if not os.environ.get(name):
            raise ConfigError(
                f"the environment variable {name} is not set",
                accepted=f"a key of lakeFS at {settings.url}: its id in {names[0]}, its secret in {names[1]}",
                next_step=f"export {name}=...",
            )
    return Client(host=settings.url, username=os.environ[names[0]], password=os.environ[names[1]])


def look(settings: Settings) -> str:
    """What is at the profile's `store`; nothing is made.

    Raises:
        ConfigError: the credentials are missing, or refused.
        NotFoundError: what answers is no lakeFS.
        UnavailableError: nobody answers.
    """
    client, url = connect(settings).sdk_client, settings.url
    try:
        with border(url):
            client.health_check_api.health_check(_request_timeout=PATIENCE)
            try:
                found = client.repositories_api.get_repository(settings.repository, _request_timeout=PATIENCE)
            except NotFoundException:
                return f"lakeFS at {url}; a run makes repository {settings.repository!r} in {settings.namespace}"
    except ConfigError as error:
        command = f"export {settings.access_key_env}=... {settings.secret_key_env}=..."
        raise ConfigError(error.problem, accepted=error.accepted, next_step=command) from error
    return f"repository {found.id!r} of lakeFS at {url}, in {found.storage_namespace}"
