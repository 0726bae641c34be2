"""Whether anybody is there: asked with short limits, whatever patience the client of a service would have."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from components.errors import ConfigError, UnavailableError

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

LIMIT = 3.0
"""Seconds for a connection, and for an answer over HTTP."""
TALK = 10.0
"""Seconds for all that one look asks through a client of its own."""
PORTS = {"http": 80, "https": 443, "grpc": 8001, "tcp": 2375, "postgres": 5432, "postgresql": 5432, "mysql": 3306}
BETWEEN = "look at its log, and at the network between"
PROXIED = {"http": "http", "https": "https", "grpc": "https"}
"""Scheme -> whose proxy its clients use."""


def limited(ask: Callable[[], T], what: str, seconds: float = TALK) -> T:
    """What `ask` returns; after so many seconds it is left to itself, and does not keep the command from ending.

    Raises:
        UnavailableError: it took longer.
    """
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:  # noqa: BLE001  # raised where it is waited for
            answer.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        return answer.result(seconds)
    except TimeoutError:
        if answer.done():  # its own
            raise
        raise UnavailableError(f"{what} does not answer within {seconds:g} s", next_step=BETWEEN) from None


def reach(url: str, profile: str) -> None:
    """Return once a connection was taken at `url`, or at the proxy that stands before it.

    Args:
        url: what names host and port.
        profile: the one that names it, for what to do next.

    Raises:
        ConfigError: it is no address.
        UnavailableError: the name is not known, or nobody is there.
    """
    file = f"config/profiles/{profile}.yaml"
    host, port = _address(url, file)
    inside = host.split(".")[1] if host.endswith((".svc", ".cluster.local")) else ""
    proxy = getproxies().get(PROXIED.get(urlsplit(url).scheme, ""))
    if proxy and not proxy_bypass(host):
        host, port = _address(proxy if "://" in proxy else f"http://{proxy}", "the environment")
    where = f"{host}:{port}"
    try:
        limited(lambda: socket.create_connection((host, port), LIMIT).close(), where, LIMIT)
    except socket.gaierror:
        if inside:
            raise UnavailableError(
                f"no host {host!r}: the cluster's names are known inside it",
                next_step=f"kubectl exec -n {inside} deploy/triggers -- trilha doctor --profile {profile}",
            ) from None
        problem = f"no host {host!r}"
    except ConnectionRefusedError:
        problem = f"nothing listens at {where}"
    except UnavailableError as error:
        problem = error.problem
    except OSError as error:
        problem = f"{where}: {error.strerror or error}"
    else:
        return
    wake = f"kubectl get pods -n {inside}" if inside else "start it there"
    raise UnavailableError(problem, next_step=f"{wake}, or correct its address in {file}")


def get(url: str, profile: str, method: str = "GET", **options: Any) -> httpx.Response:
    """The answer over HTTP, whatever its status.

    Raises:
        ConfigError, UnavailableError: as `reach`; or there is no answer in time, or none in HTTP.
    """
    import httpx

    reach(url, profile)
    try:
        return httpx.request(method, url, timeout=LIMIT, **options)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UnavailableError(f"{shown(url)}: {str(error) or type(error).__name__}", next_step=BETWEEN) from None


def hear(url: str, profile: str) -> None:
    """Return once anybody answers at `url` in HTTP, whatever: where nobody does, no client has to be imported.

    Whether a certificate is good is left to the client, which is told of others'; nothing of ours is sent here.

    Raises:
        ConfigError, UnavailableError: as `get`.
    """
    get(url, profile, verify=False)


def shown(url: str) -> str:
    """A URL without the password that some carry."""
    scheme, separator, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path.partition('?')[0]}"


def _address(url: str, file: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or PORTS.get(parts.scheme.partition("+")[0])
    except ValueError:  # a port beyond 65535, half a bracket
        host = port = None
    if not host or not port:
        raise ConfigError(
            f"{shown(url)} is no address", accepted="http://HOST:PORT, https://HOST", next_step=f"correct it in {file}"
        )
    return host, port
