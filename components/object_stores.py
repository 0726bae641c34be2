"""What the libraries of object stores raise, told apart: each has errors, statuses and words of its own.

And what they are slow to say: where nobody is, they ask again, for half a minute or three times that. None of them has
a setting for that alone, and less patience with a store that is busy is not wanted. So `knock` asks first.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import time
import urllib.request
from typing import Any
from urllib.parse import urlsplit

AZURE = {"abfs", "abfss", "az"}
"""The schemes of its URLs."""
AMAZON = {"s3", "s3a"}
GOOGLE = {"gcs", "gs"}
CREDENTIALS = "credentials in the environment, where the file system's library looks for them"
"""What is accepted in place of those that are refused."""
REFUSED = {
    "ClientAuthenticationError",
    "CredentialUnavailableError",
    "DefaultCredentialsError",
    "NoCredentialsError",
    "PartialCredentialsError",
    "RefreshError",
}
"""Errors of Azure's, Google's and Amazon's libraries about credentials that are not there or not taken."""

CONNECT = 5.0
"""Seconds for a connection to a store: the system has asked three times by then."""
PAUSES = (0.5, 1.0)
"""Seconds after which a store that is not there is looked for again: it may be about to start."""

_ASKED = re.compile(r", url='[^']*'")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")

# It logs each error with its trace, and where nobody set up logging that goes to the terminal; they come out as ours.
logging.getLogger("gcsfs").addHandler(logging.NullHandler())


def knock(fs: Any) -> None:
    """Raise, within seconds, where nobody is at the address of a store; it may be as slow to answer as it likes.

    Args:
        fs: its file system; others than those of object stores are taken for there.

    Raises:
        ConnectionError: the name does not resolve, or no connection comes about.
    """
    url = urlsplit(_address(fs) or "")
    if not url.hostname or (url.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(url.netloc)):
        return  # behind a proxy, which alone knows
    host, port = url.hostname, url.port or {"http": 80}.get(url.scheme, 443)
    for pause in (*PAUSES, None):
        try:
            socket.create_connection((host, port), CONNECT).close()
        except OSError as error:
            if pause is None or isinstance(error, TimeoutError):
                raise ConnectionError(f"nobody answers at {host}:{port}: {error.strerror or error}") from error
            time.sleep(pause)
        else:
            return


def _address(fs: Any) -> str | None:
    """Where the library of a file system connects to; None for one that is no object store's."""
    schemes = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
    if schemes & AMAZON:  # itself, it has a host for each region and bucket
        return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if schemes & AZURE:
        return str(fs.service_client.primary_endpoint)
    if schemes & GOOGLE:
        return str(fs.base)
    return None


def refuses(error: BaseException) -> bool:
    """Whether it is about credentials that are not there, not taken, or may not do this."""
    forbidden = str(error).startswith("Forbidden: ")  # gcsfs says so in words only
    return (
        isinstance(error, PermissionError)
        or type(error).__name__ in REFUSED
        or _status(error) in {401, 403}
        or forbidden
    )


def misses(error: BaseException) -> bool:
    """Whether there is no such file, or no such bucket."""
    return isinstance(error, FileNotFoundError) or _status(error) == 404


def words(error: BaseException) -> str:
    """What it says, in one line, without a request's number, the answer as it came, and a URL that may be signed."""
    plain = _ASKED.sub("", _COLOURS.sub("", str(error)).partition("\nRequestId:")[0])
    return " ".join(plain.split()) or type(error).__name__


def _status(error: BaseException) -> int | None:
    """The status that a server answered with."""
    found = next((getattr(error, name) for name in ("status_code", "status", "code") if hasattr(error, name)), None)
    return int(found) if isinstance(found, int | str) and str(found).isdigit() else None
