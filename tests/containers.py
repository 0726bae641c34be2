"""Real containers for tests, by podman with runc, on an image that is made in a second and has nothing in it.

What is in such a container is this machine's own: its `/usr`, this Python environment and this repository, mounted when
it starts. So the code under test runs as it is; the image that users build is tested by `make test-kubeflow`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

IMAGE = "trilha:test"
ROOT = Path(__file__).parents[1]

CONF = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime = "chosen"
[engine.runtimes]
chosen = ["{runtime}"]
"""

RUNTIME = """#!{python}
import json, os, sys
arguments = sys.argv[1:]
if "create" in arguments:
    path = os.path.join(arguments[arguments.index("--bundle") + 1], "config.json")
    with open(path) as file:
        settings = json.load(file)
    settings["mounts"][1:1] = {mounts}
    with open(path, "w") as file:
        json.dump(settings, file)
os.execv({runc!r}, ["runc", *arguments])
"""


@dataclass(frozen=True)
class Containers:
    """Where Docker's API is, the image, and the command that runs it."""

    host: str
    image: str = IMAGE
    command: tuple[str, ...] = ()

    @property
    def environment(self) -> dict[str, str]:
        """This process' own, with where the API is."""
        return os.environ | {"DOCKER_HOST": self.host}


@pytest.fixture(scope="session")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    """Podman's service with a store of its own; skips where podman or runc is missing or not allowed to run."""
    podman, runc = shutil.which("podman"), shutil.which("runc")
    if podman is None or runc is None:
        pytest.skip("containers: podman and runc are not installed (apt install podman runc)")
    folder = tmp_path_factory.mktemp("podman")
    runtime = folder / "runtime"
    runtime.write_text(RUNTIME.format(python=shutil.which("python3", path="/usr/bin"), mounts=_mounts(), runc=runc))
    runtime.chmod(0o755)
    (folder / "containers.conf").write_text(CONF.format(runtime=runtime))
    environment = os.environ | {"CONTAINERS_CONF": str(folder / "containers.conf")}
    run = tempfile.mkdtemp(prefix="podman-")  # of 50 characters at most, which pytest's own folders may have more than
    command = [podman, "--root", str(folder / "root"), "--runroot", run, "--storage-driver", "vfs"]
    made = subprocess.run(
        [*command, "import", *_changes(), str(_empty(folder)), IMAGE],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    tried = subprocess.run(
        [*command, "run", "--rm", "--network", "host", IMAGE, "python", "-c", "pass"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode or tried.returncode:
        pytest.skip(f"containers: podman with runc cannot run here: {(made.stderr + tried.stderr).strip()[-300:]}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONTAINERS_CONF", environment["CONTAINERS_CONF"])
        with served(command, folder / "podman.sock") as host:
            yield Containers(host, command=tuple(command))
    subprocess.run([*command, "rm", "--all", "--force"], env=environment, capture_output=True, check=False)
    shutil.rmtree(run, ignore_errors=True)


def _mounts() -> list[dict[str, object]]:
    """This machine's system, this Python and this repository, to read."""
    wanted = [Path(name) for name in ("/usr", "/etc", "/bin", "/lib", "/lib64", sys.base_prefix, sys.prefix, str(ROOT))]
    kept: list[Path] = []
    for path in wanted:
        if path.exists() and not path.is_symlink() and not any(path.is_relative_to(other) for other in kept):
            kept.append(path)
    return [
        {"destination": str(path), "source": str(path), "type": "bind", "options": ["rbind", "ro"]} for path in kept
    ]


def _changes() -> list[str]:
    variables = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return [part for name, value in variables.items() for part in ("--change", f"ENV {name}={value}")]


def _empty(folder: Path) -> Path:
    """A root file system of folders and links."""
    path = folder / "image.tar"
    with tarfile.open(path, "w") as tar:
        for name in ("usr", "etc", "tmp", "proc", "sys", "dev", "var", "opt/trilha"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(entry)
        for name in ("bin", "lib", "lib64"):
            if Path("/", name).is_symlink():
                entry = tarfile.TarInfo(name)
                entry.type, entry.linkname = tarfile.SYMTYPE, f"usr/{name}"
                tar.addfile(entry)
    return path


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    """The image that `make image` built, where it built it: with Docker, else with podman."""
    docker, podman = shutil.which("docker"), shutil.which("podman")
    if docker and subprocess.run([docker, "info"], capture_output=True, check=False).returncode == 0:
        yield Containers(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock"), "trilha:dev", (docker,))
        return
    if podman is None or shutil.which("runc") is None:
        pytest.skip("containers: neither Docker nor podman with runc is here (apt install podman runc)")
    folder = tmp_path_factory.mktemp("built")
    (folder / "containers.conf").write_text(CONF.format(runtime=shutil.which("runc")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONTAINERS_CONF", str(folder / "containers.conf"))
        with served([podman], folder / "podman.sock") as host:
            yield Containers(host, "localhost/trilha:dev", (podman,))


@contextmanager
def served(command: Sequence[str], socket: Path) -> Iterator[str]:
    """Podman's service, which speaks Docker's API; yields where it listens."""
    listening = [*command, "system", "service", "--time=0", f"unix://{socket}"]
    service = subprocess.Popen(listening, stderr=subprocess.DEVNULL)
    try:
        while not socket.exists():
            assert service.poll() is None
            time.sleep(0.02)
        yield f"unix://{socket}"
    finally:
        service.terminate()
        service.wait()


@pytest.fixture
def in_containers(small: Path, podman: Containers, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The repository with `small`, whose profile names the image."""
    from components.workspace import open_workspace

    path = small / "config" / "profiles" / "test.yaml"
    settings = {"image": podman.image, "secrets": {"lake": {"key": "LAKE_KEY"}}}
    path.write_text(f"{path.read_text()}kubeflow: {json.dumps(settings)}\n")
    monkeypatch.setenv("DOCKER_HOST", podman.host)
    open_workspace.cache_clear()
    return small
