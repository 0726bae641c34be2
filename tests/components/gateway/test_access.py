"""Who may ask: keys, tokens of others, scopes, rates; and what a stranger gets, which is 401 and nothing else."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from components.errors import ConfigError, NotFoundError
from components.gateway import keys
from components.gateway.app import _OPEN
from components.gateway.serve import check_binding
from tests.components.gateway.conftest import PROJECT, ROW, Running, Start, key_of, until

pytestmark = pytest.mark.xdist_group("gateway")

SECRET = "a secret of 32 bytes or more, at random"
PATHS = [
    ("POST", f"/v1/projects/{PROJECT}/predict"),
    ("GET", f"/v1/projects/{PROJECT}"),
    ("GET", "/v1/projects"),
    ("GET", "/v2"),
    ("GET", f"/v2/models/{PROJECT}"),
    ("GET", f"/v2/models/{PROJECT}/ready"),
    ("POST", f"/v2/models/{PROJECT}/infer"),
    ("POST", f"/v2/models/{PROJECT}/versions/1/infer"),
    ("GET", f"/v1/models/{PROJECT}"),
    ("GET", f"/v1/models/{PROJECT}/metadata"),
    ("POST", f"/v1/models/{PROJECT}:predict"),
    ("POST", f"/v1/models/{PROJECT}/labels/previous:classify"),
    ("POST", f"/v1/models/{PROJECT}/versions/1:regress"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/docs"),
    ("GET", "/nothing/of/the/kind"),
    ("POST", "/v2/repository/index"),
    ("DELETE", "/"),
]


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_a_stranger(guarded: Running, method: str, path: str) -> None:
    """401 on every path, there or not, with how to come in, and before the body is looked at."""
    answer = guarded.client.request(method, path, content=b"{" if method == "POST" else None)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.json()["accepted"] == "Authorization: Bearer KEY-OR-TOKEN"


@pytest.mark.parametrize("path", sorted(_OPEN))
def test_health_is_for_everybody(guarded: Running, path: str) -> None:
    """What probes ask, and nothing of who serves what is in it."""
    answer = guarded.client.get(path)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize(
    "header",
    [
        "", "Bearer", "Bearer x", "Bearer trilha_000000000000_" + "x" * 43, "Basic eDp5", "Basic ~~",
        "Digest a", "Bearer \xe9", "Bearer " + "x" * 5000,
    ],
)  # fmt: skip
def test_no_key(guarded: Running, header: str) -> None:
    """Whatever is in the header, but a key."""
    answer = guarded.client.get("/v1/projects", headers={"Authorization": header.encode("latin-1")})
    assert answer.status_code == 401


def test_a_key_opens_what_its_scopes_say(guarded: Running) -> None:
    """Verb by verb and project by project; 403 says which scopes there are."""
    may = key_of(guarded, f"predict:{PROJECT}")
    assert guarded.predict(ROW, **may).status_code == 200
    told = guarded.client.get(f"/v1/projects/{PROJECT}", headers=may)
    assert (told.status_code, told.json()["accepted"]) == (403, f"scope read:{PROJECT}")
    other = key_of(guarded, "predict:other", "read:*", name="other")
    assert guarded.predict(ROW, **other).status_code == 403
    assert guarded.client.get(f"/v1/projects/{PROJECT}", headers=other).status_code == 200
    assert guarded.client.get("/metrics", headers=may).status_code == 403
    assert guarded.client.get("/metrics", headers=other).status_code == 200


def test_a_caller_sees_its_own_projects(guarded: Running) -> None:
    """The list and the description have what the scopes cover."""
    other = key_of(guarded, "predict:other")
    assert guarded.client.get("/v1/projects", headers=other).json() == []
    paths = guarded.client.get("/openapi.json", headers=other).json()["paths"]
    assert list(paths) == ["/v1/projects"]


def test_other_ways_to_give_a_key(guarded: Running) -> None:
    """`X-API-Key`, and for a page in a browser the password; a password makes no prediction."""
    text = key_of(guarded, "predict:*", "read:*")["Authorization"].removeprefix("Bearer ")
    basic = {"Authorization": "Basic " + base64.b64encode(f"me:{text}".encode()).decode()}
    assert guarded.predict(ROW, **{"X-API-Key": text}).status_code == 200
    assert guarded.client.get("/docs", headers=basic).status_code == 200
    assert guarded.predict(ROW, **basic).status_code == 401


def test_a_key_that_is_changed_in_one_place(guarded: Running) -> None:
    """Another secret under a known name of a key is refused."""
    text = key_of(guarded, "read:*")["Authorization"]
    changed = text[:-1] + ("A" if text[-1] != "A" else "B")
    assert guarded.client.get("/v1/projects", headers={"Authorization": changed}).status_code == 401


def test_keys_come_and_go_while_it_runs(guarded: Running) -> None:
    """A new key opens, and a revoked one closes, within seconds and without a restart."""
    _, text = keys.add(guarded.workspace, "late", ["read:*"])
    headers = {"Authorization": f"Bearer {text}"}
    until(lambda: guarded.client.get("/v1/projects", headers=headers).status_code == 200, 5)
    keys.revoke(guarded.workspace, "late")
    until(lambda: guarded.client.get("/v1/projects", headers=headers).status_code == 401, 5)


def test_a_spoilt_file_of_keys_changes_nothing(guarded: Running) -> None:
    """What was known stays known, until the file can be read again."""
    may = key_of(guarded, "read:*")
    keys.path_of(guarded.workspace).write_text("{")
    time.sleep(1.5)
    assert guarded.client.get("/v1/projects", headers=may).status_code == 200


def test_keys_are_stored_as_hashes(guarded: Running) -> None:
    """The file has no key in it, and is for its owner only."""
    _, text = keys.add(guarded.workspace, "some", ["read:*"])
    path = keys.path_of(guarded.workspace)
    assert text.split("_", 2)[2] not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("scope", ["", "predict", "predict:", "train:x", "predict:../x", "predict:X", "read:* "])
def test_scope_that_is_none(guarded: Running, scope: str) -> None:
    """Refused when the key is made, with what is one."""
    with pytest.raises(ConfigError) as error:
        keys.add(guarded.workspace, "some", [scope])
    assert "predict:PROJECT" in error.value.accepted


def test_names_of_keys(guarded: Running) -> None:
    """One key a name; a name that is not there cannot be revoked."""
    keys.add(guarded.workspace, "some", ["read:*"])
    with pytest.raises(ConfigError, match="there is a key 'some'"):
        keys.add(guarded.workspace, "some", ["read:*"])
    with pytest.raises(NotFoundError, match="no key 'other'"):
        keys.revoke(guarded.workspace, "other")


def signing(algorithm: str) -> tuple[Any, str]:
    """A key to sign with, and what the gateway is given to check it."""
    if algorithm == "HS256":
        return SECRET, SECRET
    private = rsa.generate_private_key(65537, 2048) if algorithm == "RS256" else ec.generate_private_key(ec.SECP256R1())
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private, public.decode()


@pytest.mark.parametrize("algorithm", ["HS256", "RS256", "ES256"])
def test_tokens_of_others(start: Start, monkeypatch: pytest.MonkeyPatch, algorithm: str) -> None:
    """Signed by the right key, for us, in time, its scopes as text or list: as good as a key. All else is 401 or 403."""
    private, public = signing(algorithm)
    monkeypatch.setenv("TOKEN_KEY", public)
    settings = {"algorithm": algorithm, "key_env": "TOKEN_KEY", "audience": "trilha", "issuer": "us"}
    running = start(authentication=True, jwt=settings)
    good = {"sub": "ana", "aud": "trilha", "iss": "us", "exp": time.time() + 60, "scope": f"predict:{PROJECT} other"}

    def status(claims: dict[str, Any], key: Any = private, kind: str = algorithm) -> int:
        token = jwt.encode({name: value for name, value in claims.items() if value is not None}, key, kind)
        return running.predict(ROW, Authorization=f"Bearer {token}").status_code

    assert status(good) == 200
    assert status({**good, "scope": [f"predict:{PROJECT}"]}) == 200
    assert status({**good, "scope": "read:*"}) == 403
    assert status({**good, "scope": None}) == 403
    assert status({**good, "exp": time.time() - 1}) == 401
    assert status({**good, "exp": None}) == 401
    assert status({**good, "aud": "others"}) == 401
    assert status({**good, "iss": "others"}) == 401
    assert status(good, "another secret of 32 bytes or more ....", "HS256") == 401
    assert status(good, None, "none") == 401
    body = base64.urlsafe_b64encode(json.dumps(good).encode()).decode().rstrip("=")
    assert running.predict(ROW, Authorization=f"Bearer e30.{body}.x").status_code == 401


def test_an_expired_token_says_so(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that was good a moment ago, and is remembered as such."""
    monkeypatch.setenv("TOKEN_KEY", SECRET)
    running = start(authentication=True, jwt={"algorithm": "HS256", "key_env": "TOKEN_KEY"})
    token = jwt.encode({"exp": int(time.time()) + 2, "scope": "read:*"}, SECRET, "HS256")
    headers = {"Authorization": f"Bearer {token}"}
    assert running.client.get("/v1/projects", headers=headers).status_code == 200
    until(lambda: running.client.get("/v1/projects", headers=headers).status_code == 401, 5)
    assert "expired" in running.client.get("/v1/projects", headers=headers).json()["detail"]


def test_token_s_secret_that_is_not_there(start: Start) -> None:
    """A variable that is not set, or is too short to be a secret, stops the start."""
    with pytest.raises(ConfigError, match="NOWHERE holds no key"):
        start(authentication=True, jwt={"algorithm": "HS256", "key_env": "NOWHERE"})


def test_too_often(start: Start) -> None:
    """Beyond its burst a caller gets 429 and when to come again; others are not held up, and time heals."""
    running = start(authentication=True, limits={"rate": 2, "burst": 3})
    one, other = key_of(running, "predict:*"), key_of(running, "predict:*", name="other")
    answers = [running.predict(ROW, **one) for _ in range(6)]
    assert [answer.status_code for answer in answers][:3] == [200, 200, 200]
    last = answers[-1]
    assert (last.status_code, last.headers["retry-after"]) == (429, "1")
    assert running.predict(ROW, **other).status_code == 200
    until(lambda: running.predict(ROW, **one).status_code == 200, 5)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "", "example.org"])
def test_beyond_loopback(host: str) -> None:
    """Without authentication nothing listens there; with it, it may."""
    with pytest.raises(ConfigError, match="ask nobody who they are"):
        check_binding(host, authentication=False)
    check_binding(host, authentication=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_loopback(host: str) -> None:
    """There it may be open."""
    check_binding(host, authentication=False)


def test_file_that_others_can_write(start: Start, repository: Path) -> None:
    """Whoever can write the file of keys could make one, so the start is refused."""
    path = repository / "keys.json"
    path.write_text('{"keys": []}')
    path.chmod(0o666)
    with pytest.raises(ConfigError, match="others than its owner can write"):
        start(authentication=True, keys="keys.json")
