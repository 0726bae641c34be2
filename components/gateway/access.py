"""Who asks, and what they may: API keys, tokens of others (JWT), and how much of it in a second."""

from __future__ import annotations

import base64
import binascii
import os
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from components.errors import ConfigError, TrilhaError
from components.gateway import keys
from components.gateway.problems import Problem

if TYPE_CHECKING:
    from components.gateway.requests import Request
    from components.profile import GatewayLimits, Jwt
    from components.workspace import Workspace

REMEMBERED: Final = 1024
"""Credentials that need not be checked again while the keys stay as they are, and callers whose rate is known."""
SHORTEST: Final = 32
"""Bytes of a secret for HS256, as RFC 7518 wants it."""

_ACCEPTED: Final = "Authorization: Bearer KEY-OR-TOKEN"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `until` is when its credential ends, seconds since the epoch."""

    name: str
    scopes: frozenset[str]
    until: float = float("inf")

    def check(self, verb: str, project: str) -> None:
        """Whether it may.

        Raises:
            Problem: 403.
        """
        if f"{verb}:{project}" not in self.scopes and f"{verb}:*" not in self.scopes:
            scopes = ", ".join(sorted(self.scopes)) or "none"
            raise Problem(
                403, f"{self.name} may not {verb} {'everything' if project == '*' else project}; its scopes: {scopes}",
                field="Authorization", accepted=f"scope {verb}:{project}",
            )  # fmt: skip

    def sees(self, project: str) -> bool:
        """Whether a project is there for it at all."""
        return not self.scopes.isdisjoint({f"predict:{project}", f"read:{project}", "predict:*", "read:*"})


class Access:
    """Tells callers apart.

    Args:
        workspace: the profile whose keys and tokens count.

    Raises:
        ConfigError: a variable is not set, or the file of keys is not one.
    """

    def __init__(self, workspace: Workspace) -> None:
        settings = workspace.profile.services.gateway
        self._on = settings.authentication
        self._path = keys.path_of(workspace)
        self._stamp: tuple[int, int] | None = None
        self._keys: dict[str, keys.Key] = {}
        self._callers: dict[str, Caller] = {}
        self._known: OrderedDict[bytes, Caller] = OrderedDict()
        self._jwt = _Tokens(settings.jwt) if settings.jwt and self._on else None
        self.refresh()

    def refresh(self) -> str:
        """Read the keys again if their file has changed; where that fails they stay, and what is wrong is said."""
        if not self._on:
            return ""
        try:
            found = self._path.stat()
            stamp = (found.st_mtime_ns, found.st_ino)
        except OSError:
            stamp = (0, 0)
        if stamp == self._stamp:
            return ""
        try:
            known = keys.read(self._path).keys
        except (TrilhaError, OSError) as error:
            if self._stamp is None:
                raise
            return str(error)
        self._stamp = stamp
        self._known.clear()
        self._keys = {key.id: key for key in known}
        self._callers = {key.id: Caller(key.name, frozenset(key.scopes), _seconds(key.expires)) for key in known}
        return ""

    def caller(self, request: Request) -> Caller:
        """Who asks.

        Raises:
            Problem: 401; says why.
        """
        if not self._on:
            return Caller(request.client, frozenset({"predict:*", "read:*", "feedback:*"}))
        header = request.header(b"authorization")
        caller = self._known.get(header)  # by a keyed hash, so how long it takes tells nothing of a secret
        if caller is None:
            caller = self._looked_up(_credential(request))
            if header[:7].lower() == b"bearer ":  # a password opens pages only, and is looked at each time
                self._remember(header, caller)
        if caller.until <= time.time():
            raise _refused(f"expired at {datetime.fromtimestamp(caller.until, UTC):%Y-%m-%dT%H:%M:%SZ}")
        return caller

    def _looked_up(self, text: str) -> Caller:
        if text.startswith("trilha_"):
            key = keys.match(self._keys, text)
            if key is None:
                raise _refused("this key is not known, or no longer")
            return self._callers[key.id]
        if self._jwt:
            return self._jwt.read(text)
        raise _refused("this is not a key")

    def _remember(self, header: bytes, caller: Caller) -> None:
        self._known[header] = caller
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)


class _Tokens:
    """Reads JWTs that somebody else signed."""

    def __init__(self, settings: Jwt) -> None:
        self._settings = settings
        self._key = os.environ.get(settings.key_env, "")
        if not self._key or (settings.algorithm == "HS256" and len(self._key.encode()) < SHORTEST):
            raise ConfigError(
                f"the environment variable {settings.key_env} holds no key for {settings.algorithm}",
                accepted=f"{SHORTEST} bytes or more" if settings.algorithm == "HS256" else "a public key in PEM",
            )

    def read(self, token: str) -> Caller:
        """The caller that a token names; raises `Problem` 401."""
        import jwt

        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._key,
                algorithms=[self._settings.algorithm],
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                options={"require": ["exp"]},
            )
        except jwt.ExpiredSignatureError:
            raise _refused("the token has expired") from None
        except jwt.PyJWTError as error:
            raise _refused(f"the token is not accepted: {error}") from None
        given = claims.get("scope", claims.get("scopes", ()))
        scopes = given.split() if isinstance(given, str) else given if isinstance(given, list) else []
        known = frozenset(scope for scope in scopes if isinstance(scope, str) and keys.SCOPE.fullmatch(scope))
        return Caller(f"token of {claims.get('sub', 'nobody')}", known, float(claims["exp"]))


class Rates:
    """A bucket of tokens for each caller.

    Args:
        limits: how fast it fills, and how much it holds.
    """

    def __init__(self, limits: GatewayLimits) -> None:
        self._rate = limits.rate
        self._burst = float(limits.burst)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: Caller) -> None:
        """One request of a caller.

        Raises:
            Problem: 429.
        """
        if self._rate is None:
            return
        now = time.monotonic()
        left, then = self._buckets.pop(caller.name, (self._burst, now))
        left = min(self._burst, left + (now - then) * self._rate)
        self._buckets[caller.name] = (left - 1 if left >= 1 else left, now)
        if len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        if left < 1:
            raise Problem(
                429, f"{caller.name} asks too often",
                accepted=f"{self._rate:g} requests a second, {self._burst:g} at once",
                retry_after=(1 - left) / self._rate,
            )  # fmt: skip


def _credential(request: Request) -> str:
    """The text behind `Authorization: Bearer`, or `X-API-Key`; a browser's page may also come with a password."""
    header = request.header(b"authorization")
    scheme, _, text = header.partition(b" ")
    kind = scheme.lower()
    try:
        if kind == b"bearer":
            return text.strip().decode("ascii")
        if kind == b"basic" and request.method == "GET":  # a password is sent along unasked, so it opens pages only
            return base64.b64decode(text.strip(), validate=True).decode("ascii").partition(":")[2]
        if not header and (key := request.header(b"x-api-key")):
            return key.decode("ascii")
    except (UnicodeDecodeError, binascii.Error):
        raise _refused("the credential is not text") from None
    raise _refused("no credential", error="")


def _refused(reason: str, error: str = "invalid_token") -> Problem:
    words = f', error="{error}", error_description="{reason}"' if error else ""
    offers = f'Bearer realm="trilha"{words}, Basic realm="trilha"'
    return Problem(
        401, reason, field="Authorization", accepted=_ACCEPTED, headers={"WWW-Authenticate": offers.replace("\n", " ")}
    )


def _seconds(moment: str | None) -> float:
    return datetime.fromisoformat(moment).timestamp() if moment else float("inf")
