"""Triton in a container: `python -m components.adapters.triton_service PROFILE HOST`.

The server is the one of the locked wheel, as on a laptop, so a bundle that was qualified there loads here. It reads
its models from the profile's `services.triton.repository`, and starts with all that lies there: a replica that is added
answers for the same models as the others. One that cannot load them all ends, and gets no requests.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from components.adapters.triton_binary import command
from components.errors import ConfigError
from components.object_stores import AZURE
from components.place import Place
from components.workspace import open_workspace

MARK = ".trilha"
"""A file in a repository, which Triton passes over."""
PORTS = {"grpc": 8001, "http": 8000, "metrics": 8002}


def main(profile: str, host: str) -> None:
    """Become the server."""
    workspace = open_workspace(profile)
    settings = workspace.profile.services.triton
    if settings.repository is None:
        raise SystemExit(f"error: profile {profile!r} names no services.triton.repository")
    address = ready_repository(settings.repository)
    arguments, environment = command(
        workspace.home, address, PORTS["grpc"], PORTS["http"], PORTS["metrics"], host, settings.backends
    )
    os.execve(arguments[0], [*arguments, "--load-model=*"], environment)  # noqa: S606  # no shell is wanted


def ready_repository(url: str) -> Path | str:
    """A model repository as `triton_binary.command` takes it; Triton finds it, though it may be empty.

    Raises:
        ConfigError: as `triton_address`.
    """
    address = triton_address(url, os.environ)
    if "://" not in url:
        return Path(address)
    place = Place(url)
    if place.read(MARK) is None:
        place.write(MARK, b"")  # a folder without a file is not there, and Triton would not start
    return address


def triton_address(url: str, environment: Mapping[str, str]) -> str:
    """A model repository in Triton's words.

    Args:
        url: a folder, or an fsspec URL: `s3://`, `gs://`, `abfs://`, `abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/...`.
        environment: `AWS_ENDPOINT_URL` goes into the address of a bucket that is not Amazon's, and the
            `AZURE_STORAGE_ACCOUNT` into each of Azure's.

    Raises:
        ConfigError: a scheme that Triton does not read, or an Azure account that nobody names.
    """
    parts = urlsplit(url)
    if parts.scheme in {"", "file"}:
        return parts.path
    if parts.scheme == "gs":
        return url
    if parts.scheme == "s3":
        endpoint = environment.get("AWS_ENDPOINT_URL", "")
        if not endpoint:
            return url
        server = urlsplit(endpoint)
        port = server.port or {"http": 80, "https": 443}[server.scheme]
        return f"s3://{server.scheme}://{server.hostname}:{port}/{parts.netloc}{parts.path}"
    if parts.scheme in AZURE:
        container, _, host = parts.netloc.partition("@")
        account = host.partition(".")[0] or environment.get("AZURE_STORAGE_ACCOUNT", "")
        if not account:
            raise ConfigError(f"no AZURE_STORAGE_ACCOUNT for {url}", next_step="set it, and AZURE_STORAGE_KEY")
        return f"as://{account}/{container}{parts.path}"
    raise ConfigError(f"services.triton.repository: {url}", accepted="a folder, s3://, gs:// or abfs://")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
