"""Addresses inside: a URL of a project may point at one only where the profile says so.

A project's files are written by people who need not know the network that runs it. What is checked is the address that
is connected to, not the name: names may mean another address at the next look, and servers may lead to other servers.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from typing import Annotated, Any
from urllib.parse import urlsplit

import fsspec
from pydantic import AfterValidator

from components.errors import ConfigError
from components.object_stores import AMAZON, AZURE, CONNECT, GOOGLE, knock

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

WITH_HOST = {"arrow_hdfs", "dav", "ftp", "hdfs", "root", "sftp", "smb", "ssh", "webdav", "webhdfs"}
"""File systems whose libraries take the host apart from the path, so that no file that is found has a URL of its own.

They look its address up themselves, whatever was checked before, and most take any server for the right one.
"""
FOLLOWING = {"dask", "generic", "jlab", "jupyter", "reference"}
"""File systems that lead to others by what they read."""
OBJECT_STORES = AMAZON | AZURE | GOOGLE
SILENT = 300.0
"""Seconds in which an HTTP server has to say something; all of it may take longer."""
NAT64 = ipaddress.ip_network("64:ff9b::/96")

_HOST = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(\.(?!-)[A-Za-z0-9-]{1,63})*\.?")


def _inside(value: str) -> str:
    """`value`, if it is a host or a network; a ValueError says what is one."""
    try:
        ipaddress.ip_network(value)
    except ValueError:
        if not _HOST.fullmatch(value) or re.fullmatch(r"[0-9.]+", value):
            raise ValueError("a host's name, an address, or a network such as 10.1.0.0/16") from None
    return value


Inside = Annotated[str, AfterValidator(_inside)]
"""A host's name, an address, or a network (`10.1.0.0/16`)."""


def file_system(table: str, url: str, inside: Sequence[str]) -> tuple[Any, str]:
    """The fsspec file system of a URL and the path there; it connects to no address inside but those of `inside`.

    Raises:
        ConfigError: the URL's host is inside, or its file system is none that is read or follows what it reads.
        ConnectionError: nobody is where its object store is.
        ImportError, ValueError: fsspec does not know it.
    """
    options: dict[str, Any] = {}
    for part in url.split("::"):
        protocol, _, rest = part.partition("://")
        if protocol in FOLLOWING:
            raise ConfigError(
                f"table {table!r}: {url}: {protocol}:// leads to other addresses by what is read there",
                accepted="a URL of the files themselves",
            )
        if protocol in WITH_HOST:
            raise ConfigError(
                f"table {table!r}: {protocol}:// is not read",
                accepted="a file, a URL of HTTP (https://...) or of an object store (s3://, gs://, abfs://...)",
                next_step="mount that server's folder on this machine, or have its files copied to an object store",
            )
        if protocol in {"http", "https"} and rest:
            _check_host(table, part, tuple(inside))
        if protocol in OBJECT_STORES:
            options[protocol] = {"use_listings_cache": False}  # who looks again later has to see what changed
            knock(fsspec.core.url_to_fs(part, **options[protocol])[0])
        if protocol in {"http", "https"}:
            options[protocol] = {"get_client": _client(table, tuple(inside))}
    fs, path = fsspec.core.url_to_fs(url, **options)
    return fs, str(path)


def _check_host(table: str, url: str, inside: tuple[str, ...]) -> None:
    """Refuse a host that is inside. One that cannot be found is left to whoever connects."""
    host = urlsplit(url).hostname or ""
    for address in _addresses(host):
        if not allowed(address, inside):
            raise _refused(table, url, address)


def allowed(address: Address, inside: Sequence[str]) -> bool:
    """Whether `address` is outside, or one of `inside`."""
    plain = _unwrapped(address)
    if plain.is_global and not plain.is_multicast:
        return True
    for one in inside:
        try:
            if plain in ipaddress.ip_network(one):
                return True
        except ValueError:  # a host's name
            if plain in {_unwrapped(found) for found in _addresses(one)}:
                return True
    return False


def _unwrapped(address: Address) -> Address:
    """The address that is reached in the end, where an IPv6 address stands for an IPv4 one."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        return address.ipv4_mapped or address.sixtofour or address
    return address


def _addresses(host: str) -> list[Address]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [ipaddress.ip_address(str(one[4][0]).partition("%")[0]) for one in found]


@cache
def _client(table: str, inside: tuple[str, ...]) -> Callable[..., Awaitable[Any]]:
    """What makes the HTTP client of a file system: each connection is checked, those of redirects too."""

    def connect(found: Any) -> socket.socket:
        family, kind, protocol, _, where = found
        address = ipaddress.ip_address(str(where[0]).partition("%")[0])
        if not allowed(address, inside):
            raise _refused(table, "a server that it leads to", address)
        return socket.socket(family, kind, protocol)

    async def get_client(**settings: Any) -> Any:
        import aiohttp

        patience = aiohttp.ClientTimeout(sock_connect=CONNECT, sock_read=SILENT)
        connector = aiohttp.TCPConnector(socket_factory=connect)
        return aiohttp.ClientSession(connector=connector, timeout=patience, **settings)

    return get_client


def _refused(table: str, what: str, address: Address) -> ConfigError:
    return ConfigError(
        f"table {table!r}: {what} is at {address}, an address inside",
        accepted="an address of the public network, or one that the profile allows",
        next_step="if it is meant, list the host or its network under `inside` in config/profiles/NAME.yaml",
    )
