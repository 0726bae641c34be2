"""What the libraries of object stores raise, told apart: each has errors, statuses and words of its own."""

from __future__ import annotations

import logging
import re

AZURE = {"abfs", "abfss", "az"}
"""The schemes of its URLs."""
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

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")

# It logs each error with its trace, and where nobody set up logging that goes to the terminal; they come out as ours.
logging.getLogger("gcsfs").addHandler(logging.NullHandler())


def refuses(error: Exception) -> bool:
    """Whether it is about credentials that are not there, not taken, or may not do this."""
    forbidden = str(error).startswith("Forbidden: ")  # gcsfs says so in words only
    return (
        isinstance(error, PermissionError)
        or type(error).__name__ in REFUSED
        or _status(error) in {401, 403}
        or forbidden
    )


def misses(error: Exception) -> bool:
    """Whether there is no such file, or no such bucket."""
    return isinstance(error, FileNotFoundError) or _status(error) == 404


def words(error: BaseException) -> str:
    """What it says, in one line, without a request's number and the answer as it came."""
    plain = _COLOURS.sub("", str(error)).partition("\nRequestId:")[0]
    return " ".join(plain.split()) or type(error).__name__


def _status(error: Exception) -> int | None:
    """The status that a server answered with."""
    found = next((getattr(error, name) for name in ("status_code", "status", "code") if hasattr(error, name)), None)
    return int(found) if isinstance(found, int | str) and str(found).isdigit() else None
