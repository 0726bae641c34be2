from __future__ import annotations

import hashlib
import ipaddress
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from components import endpoints
from components.adapters import triton_binary
from components.adapters.triton_binary import command
from components.adapters.triton_server import TritonServer
from components.errors import ConfigError, UnavailableError
from components.servables import Lookup, write
from components.standalone import standalone
from tests.triton import Triton, start

ROOT = Path(__file__).parents[3]


def test_listens_on_loopback_only(triton: Triton) -> None:
    """A server that `command` starts is not seen from other machines."""
    listening = [
        ipaddress.ip_address(connection.laddr.ip.removeprefix("::ffff:"))
        for connection in psutil.Process(triton.process.pid).net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) == 3
    assert all(address.is_loopback for address in listening)


def test_server_on_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full Triton that is installed wins over the wheel's, with its own backends."""
    program = tmp_path / "bin" / "tritonserver"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    arguments, environment = command(tmp_path, tmp_path / "models", 1, 2, 3)
    assert arguments[0] == str(program)
    assert not any(argument.startswith("--backend-directory") for argument in arguments)
    assert environment == dict(os.environ)


@pytest.fixture
def others(tmp_path: Path) -> Path:
    """A folder of backends as a full Triton has it, with one in it."""
    folder = tmp_path / "opt" / "backends"
    (folder / "onnxruntime").mkdir(parents=True)
    (folder / "onnxruntime" / "libtriton_onnxruntime.so").touch()
    return folder


def test_backends_of_the_profile(tmp_path: Path, others: Path) -> None:
    """They lie beside the wheel's own, with the server's library by the name that they were linked against."""
    arguments, environment = command(tmp_path, tmp_path / "models", 1, 2, 3, more=str(others))
    (folder,) = (Path(one.split("=", 1)[1]) for one in arguments if one.startswith("--backend-directory"))
    assert (folder / "python" / "libtriton_python.so").is_file()
    assert (folder / "onnxruntime").resolve() == others / "onnxruntime"
    assert (folder / "libtritonserver.so").is_file()
    assert str(folder) in environment["LD_LIBRARY_PATH"].split(os.pathsep)
    alone, _ = command(tmp_path, tmp_path / "models", 1, 2, 3)
    assert f"--backend-directory={folder}" not in alone


def test_backends_of_the_profile_for_a_server_on_path(
    tmp_path: Path, others: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has them in place of its own."""
    program = tmp_path / "bin" / "tritonserver"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    arguments, _ = command(tmp_path, tmp_path / "models", 1, 2, 3, more=str(others))
    assert f"--backend-directory={others}" in arguments


def test_a_folder_without_a_backend(tmp_path: Path) -> None:
    """It is refused by the setting's name: Triton would say so only when a model is loaded."""
    with pytest.raises(ConfigError, match=r"services\.triton\.backends: no backend in .*opt/tritonserver/backends"):
        command(tmp_path, tmp_path / "models", 1, 2, 3, more=str(tmp_path))


def test_without_any_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has no server says what would be one."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(triton_binary.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnavailableError, match=r"no Triton .* nvidia-pytriton .* services\.triton\.url"):
        command(tmp_path, tmp_path / "models", 1, 2, 3)


def test_python_without_a_stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python that the wheel was not built for is refused with those that it was."""
    newer = SimpleNamespace(version_info=SimpleNamespace(major=3, minor=99), prefix="/", base_prefix="/")
    monkeypatch.setattr(triton_binary, "sys", newer)
    with pytest.raises(UnavailableError, match=r"Python 3\.99; accepted: .*3\.11, 3\.12, 3\.13"):
        command(tmp_path, tmp_path / "models", 1, 2, 3)


def test_a_program_that_is_still_open_for_writing(tmp_path: Path) -> None:
    """A process that another thread begins just then holds the copy open; it is run once that is over."""
    program = Path(shutil.copy2(shutil.which("true") or "/bin/true", tmp_path / "program"))
    held = program.open("ab")
    threading.Timer(0.3, held.close).start()
    assert triton_binary._run(program, {}).returncode == 0
    assert held.closed


def test_missing_library_is_named(tmp_path: Path, triton: Triton) -> None:
    """A stub that the loader cannot start is found out before any model is, and the library is named."""
    backends = next((triton.repository.parent / "triton").glob("backends-*"))
    copy = shutil.copytree(backends, tmp_path / "backends")
    bare = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    with pytest.raises(UnavailableError, match=r"lib\S+\.so\S* cannot open|lib\S+\.so\S*: cannot open") as caught:
        triton_binary._check(copy / "python" / "triton_python_backend_stub", bare)
    assert "apt-get install libpython3" in caught.value.next_step
    assert not copy.exists()


@pytest.fixture
def regions(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A piece of shared memory as a server of this home would make it, and one of another home."""
    mark = hashlib.sha256(str(tmp_path.resolve()).encode()).hexdigest()[:12]
    made = Path(f"/dev/shm/trilha-{mark}-left"), Path(f"/dev/shm/trilha-{'0' * 12}-{os.getpid()}")
    for region in made:
        region.touch()
    yield made
    for region in made:
        region.unlink(missing_ok=True)


def test_killed_server_leaves_no_shared_memory(tmp_path: Path, regions: tuple[Path, Path]) -> None:
    """What a killed server left in shared memory is dropped at the next start, and nothing of others."""
    command(tmp_path, tmp_path / "models", 1, 2, 3)
    assert [region.exists() for region in regions] == [False, True]


def test_shared_memory_of_a_running_server_stays(
    tmp_path: Path, regions: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asking how a server would be started, as `trilha doctor` does, harms none that runs."""
    program = [sys.executable, "-c", "import time; time.sleep(60)"]
    with subprocess.Popen(program, env={**os.environ, endpoints.TOKEN: "token"}) as process:
        entry = endpoints.Endpoint(
            service="triton", url="127.0.0.1:1", ports={}, pid=process.pid, token="token", started=""
        )
        path = endpoints.path(tmp_path, "triton")
        path.parent.mkdir(parents=True)
        path.write_text(entry.model_dump_json())
        command(tmp_path, tmp_path / "models", 1, 2, 3)
        process.kill()
    assert [region.exists() for region in regions] == [True, True]


@pytest.mark.slow
@pytest.mark.parametrize("held", [False, True], ids=["idle", "cannot do anything any more"])
def test_stubs_end_with_a_killed_server(tmp_path: Path, *, held: bool) -> None:
    """`kill -9` of the server, whose exit code nobody asks for yet: what ran its models is gone soon after."""
    server = start(tmp_path)
    try:
        write(Lookup(("a",), np.ones((1, 2), np.float32), np.zeros(2, np.float32)), tmp_path / "it.npz")
        standalone(tmp_path / "it.npz", "lookup", server.repository)
        TritonServer(lambda: server.address, str(server.repository), "test").load("lookup")
        stubs = psutil.Process(server.process.pid).children()
        assert stubs
        if held:
            time.sleep(2)  # until they are children of its main thread, and have found that out
            for stub in stubs:
                stub.suspend()
        server.process.kill()
        _, alive = psutil.wait_procs(stubs, timeout=10)
        assert not alive
    finally:
        server.process.kill()
        server.process.wait()


@pytest.mark.slow
def test_nothing_outlives_a_killed_test_process(tmp_path: Path) -> None:
    """Server and stubs are gone soon after the process that the fixture runs in was killed."""
    script = (
        "import pathlib, sys, time\n"
        "from tests.triton import start\n"
        f"server = start(pathlib.Path({str(tmp_path)!r}))\n"
        "print(server.process.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        server = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while server.is_running() and server.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE
