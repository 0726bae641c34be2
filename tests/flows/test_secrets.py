"""Secrets are seeded into the environment of whatever runs; then everything that came of it is searched for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.workspace import open_workspace
from flows.services import down
from tests.containers import Containers
from tests.kubeflow import TOKEN, Server
from tests.s3 import SECRET

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("prefect"), pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
SEEDS = {
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "KUBEFLOW_TOKEN": TOKEN,
    "LAKECTL_CREDENTIALS_ACCESS_KEY_ID": "seed-1a07-of-a-name-nobody-may-see",
    "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY": "seed-7c9e-of-a-key-nobody-may-see",
    "MLFLOW_TRACKING_TOKEN": "seed-0d42-of-a-token-nobody-may-see",
    "PREFECT_API_AUTH_STRING": "trilha:seed-83fa-of-a-password-nobody-may-see",
    "TRILHA_TRIGGERS_TOKEN": "seed-b6d1-of-a-token-nobody-may-see",
}
LAKE = "store: {kind: lakefs, url: 'http://127.0.0.1:9', repository: lake, namespace: 'local://lake'}"


@pytest.fixture
def seeded(small: Path, bucket: str, kubeflow: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """`small` with its state in a bucket, and every secret that a profile can ask for in the environment."""
    for name, value in SEEDS.items():
        monkeypatch.setenv(name, value)
    settings = {
        "image": "trilha:test",
        "host": kubeflow.url,
        "token_env": "KUBEFLOW_TOKEN",
        "secrets": {"lake": {"key": "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY"}, "s3": {"key": "AWS_SECRET_ACCESS_KEY"}},
    }
    rest = f"services: {{triggers: {{token_env: TRILHA_TRIGGERS_TOKEN}}}}\nkubeflow: {json.dumps(settings)}\n"
    profiles = small / "config" / "profiles"
    (profiles / "test.yaml").write_text(
        f"state: {bucket}/state\nstore: {{kind: git, path: '{small}/data.git'}}\nengine: prefect\n{rest}"
    )
    (profiles / "lake.yaml").write_text(f"state: .trilha/lake\n{LAKE}\n{rest}")
    open_workspace.cache_clear()
    yield small
    down(open_workspace("test"))


def trilha(repository: Path, *arguments: str, code: int = 0, profile: str = "test", **variables: str) -> bytes:
    """All that a command says; a home of its own keeps what libraries write there in sight."""
    done = subprocess.run(
        [sys.executable, "-c", "from flows.cli import main; main()", *arguments, "--profile", profile],
        env=os.environ | {"HOME": str(repository / "home"), "PYTHONPATH": str(ROOT), "DO_NOT_TRACK": "1"} | variables,
        cwd=repository,
        capture_output=True,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == code, said.decode()
    return said


def leaks(places: dict[str, bytes]) -> list[str]:
    """Which secret is where, also in base64 as HTTP sends it."""
    found = []
    for name, value in SEEDS.items():
        forms = (value.encode(), b64encode(value.encode()).rstrip(b"="))
        found += [f"{name} in {place}" for place, content in places.items() if any(form in content for form in forms)]
    return found


def kept(*folders: Path) -> dict[str, bytes]:
    """Every file below the folders."""
    return {
        str(path): path.read_bytes()
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def test_found_where_they_are(tmp_path: Path) -> None:
    """The search itself: one secret in a file, one in a header as it was sent."""
    (tmp_path / "log").write_text(f"token {TOKEN} has expired")
    header = b64encode(SEEDS["PREFECT_API_AUTH_STRING"].encode())
    assert leaks(kept(tmp_path) | {"header": b"Basic " + header}) == [
        f"KUBEFLOW_TOKEN in {tmp_path}/log",
        "PREFECT_API_AUTH_STRING in header",
    ]


def test_a_whole_run_keeps_none(seeded: Path, s3_server: tuple[str, Path]) -> None:
    """The lifecycle on Prefect, what looks at it, and services: nothing on disk, in the bucket or on the screen."""
    said = {
        " ".join(words): trilha(seeded, *words)
        for words in (
            ("run", "small", "--json"),
            ("plan", "small", "--json"),
            ("why", "last", "prepare"),
            ("trail", "small/1"),
            ("status", "--json"),
            ("up", "triggers"),
            ("logs", "prefect"),
            ("prefect", "compile"),
            ("kubeflow", "compile", "small"),
            ("kubeflow", "submit", "small"),
        )
    }
    files = kept(seeded, s3_server[1])
    for part in ("prefect.db", "mlflow.db", "small.yaml", "triggers.log", "release.json"):
        assert any(name.endswith(part) for name in files), part  # what matters most was looked at
    assert leaks(said | files) == []


def test_nodes_in_containers_keep_none(seeded: Path, podman: Containers) -> None:
    """Containers get secrets as variables; what they log and write has none."""
    profile = seeded / "config" / "profiles" / "test.yaml"
    settings = [line for line in profile.read_text().splitlines() if not line.startswith("kubeflow")]
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "NO_PROXY")
    secrets = {"s3": {name.lower(): name for name in names}}
    profile.write_text("\n".join([*settings, f"kubeflow: {json.dumps({'image': podman.image, 'secrets': secrets})}"]))
    words = ("run", "small", "--engine", "kubeflow", "--until", "prepare")
    said = trilha(seeded, *words, DOCKER_HOST=podman.host)
    assert leaks({"run": said} | kept(seeded)) == []


def test_failures_say_none(seeded: Path, kubeflow: Server) -> None:
    """A server that repeats the expired token; stores, buckets and servers that refuse or are not there."""
    said = {
        "expired": trilha(seeded, "kubeflow", "submit", "small", code=2, KUBEFLOW_TOKEN=f"{TOKEN}-expired"),
        "lake": trilha(seeded, "data", "log", code=6, profile="lake"),
        "bucket": trilha(seeded, "plan", "small", code=2, AWS_SECRET_ACCESS_KEY=f"{SECRET}-wrong"),
        "prefect": trilha(seeded, "prefect", "compile", "--nonsense", code=2),
        "doctor": trilha(seeded, "doctor", code=1, profile="lake", KUBEFLOW_TOKEN=f"{TOKEN}-expired"),
    }
    assert f"{TOKEN}-expired" in kubeflow.tokens  # it was sent
    assert leaks(said | kept(seeded)) == []
