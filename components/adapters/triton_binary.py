"""Where a real `tritonserver` is, and how to start it: the one on PATH, else the one in the `nvidia-pytriton` wheel.

The wheel's server brings the Python backend only. That backend starts one `triton_python_backend_stub` a model, which
is built for one Python version and finds its packages through the first `python3` on PATH. The wheel keeps backend and
stubs apart and stays as it was installed, so both are copied side by side into the profile's home, once; backends that
the profile names are linked beside them.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

from components import endpoints
from components.errors import ConfigError, UnavailableError

LOOPBACK: Final = "127.0.0.1"
CACHE_BYTES: Final = 64 * 2**20
"""For the answers of projects with `response_cache`; it is taken from the system as it fills."""
REPAIRS: Final = {
    "triton_numpy": "from triton_numpy import tensor_from_numpy",
    "triton_stub": "import triton_stub; triton_stub.watch()",
}
"""Module of ours that is put beside the Python backend in the copy -> the line by which each of its processes has it.

One lets it work with NumPy 2, the other has it end with its server.
"""


def command(
    home: Path,
    repository: Path | str,
    grpc_port: int,
    http_port: int,
    metrics_port: int,
    host: str = LOOPBACK,
    more: str | None = None,
) -> tuple[list[str], dict[str, str]]:
    """The arguments and the whole environment that start a Triton server under explicit model control.

    Args:
        home: the profile's home, which one server at a time belongs to; the wheel's backends are copied below it.
        repository: the folder of models, made if it is not there; it may stay empty. Text is a URL in Triton's words.
        grpc_port: a free port, for inference and control.
        http_port: a free port, for health checks (`/v2/health/ready`).
        metrics_port: a free port, for Prometheus.
        host: the address that it listens on, which is loopback but in a container.
        more: the profile's folder of backends (`services.triton.backends`).

    Raises:
        ConfigError: there is no backend in `more`.
        UnavailableError: there is no server here, or its Python backend cannot run; says what to install.
    """
    if isinstance(repository, Path):
        repository.mkdir(parents=True, exist_ok=True)
    found = shutil.which("tritonserver")
    others = _others(Path(more)) if more else []
    if found:
        server, options, environment = found, [f"--backend-directory={more}"] if more else [], dict(os.environ)
    else:
        server, options, environment = _from_wheel(home, others)
    caches = Path(server).resolve().parents[1] / "caches"
    if (caches / "local").is_dir():  # else Triton would not start
        options += [f"--cache-config=local,size={CACHE_BYTES}", f"--cache-directory={caches}"]
    return [
        server,
        f"--model-repository={repository}",
        "--model-control-mode=explicit",
        f"--grpc-address={host}",
        f"--grpc-port={grpc_port}",
        f"--http-address={host}",
        f"--http-port={http_port}",
        f"--metrics-address={host}",
        f"--metrics-port={metrics_port}",
        "--allow-gpu-metrics=false",  # models run on the CPU, and looking for a GPU fills the log with errors
        "--exit-timeout-secs=5",
        "--disable-auto-complete-config",  # bundles say all; completing would start every Python model twice
        "--rate-limit=execution_count",  # without it, a project's `rate_limiter` would do nothing, and nothing be said
        *options,
    ], environment


def _others(folder: Path) -> list[Path]:
    """The backends in a folder like `/opt/tritonserver/backends`.

    Raises:
        ConfigError: there is none.
    """
    found = sorted(library.parent for library in folder.glob("*/libtriton_*.so"))
    if not found:
        raise ConfigError(
            f"services.triton.backends: no backend in {folder}",
            accepted="a folder with a folder for each, a libtriton_NAME.so in it, as /opt/tritonserver/backends",
            next_step="correct services.triton.backends in the profile, or take it out",
        )
    return found


def _from_wheel(home: Path, others: Sequence[Path]) -> tuple[str, list[str], dict[str, str]]:
    """The wheel's server with its own Python backend and others, its options and its environment."""
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        raise UnavailableError(
            "no Triton Inference Server on this machine",
            accepted="`tritonserver` on PATH, or the package nvidia-pytriton (Linux on x86-64)",
            next_step="install one of them, or set services.triton.url in the profile to a server elsewhere",
        )
    wheel = Path(spec.submodule_search_locations[0])
    environment = _environment(wheel.parent / "nvidia_pytriton.libs")
    backends = _backends(wheel / "tritonserver", home, environment, others)
    if others:
        environment["LD_LIBRARY_PATH"] += f"{os.pathsep}{backends}"
    regions = _shared_memory(home)
    options = [f"--backend-directory={backends}", f"--backend-config=python,shm-region-prefix-name={regions}"]
    return str(wheel / "tritonserver" / "bin" / "tritonserver"), options, environment


def _shared_memory(home: Path) -> str:
    """How the names of this home's shared memory begin; what a server left there that was killed is dropped."""
    prefix = f"trilha-{hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:12]}-"
    running = endpoints.read(home, "triton")
    if running is None or not running.alive:
        for region in Path("/dev/shm").glob(f"{prefix}*"):  # noqa: S108  # where Linux keeps it, not a place we choose
            region.unlink(missing_ok=True)
    return prefix


def _environment(libraries: Path) -> dict[str, str]:
    """This process' environment, with this Python first on PATH and the libraries on the loader's path."""
    environment = dict(os.environ)
    environment["PATH"] = os.pathsep.join([str(Path(sys.prefix, "bin")), environment.get("PATH", os.defpath)])
    python = [sysconfig.get_config_var("LIBDIR"), str(Path(sys.base_prefix, "lib"))]
    given = environment.get("LD_LIBRARY_PATH")
    environment["LD_LIBRARY_PATH"] = os.pathsep.join(
        dict.fromkeys(path for path in [*python, str(libraries), given] if path)
    )
    return environment


def _backends(source: Path, home: Path, environment: dict[str, str], others: Sequence[Path]) -> Path:
    """The folder of backends with this Python's stub in it, made whole or not at all; other backends are linked."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    repairs = [Path(__file__).with_name(f"{name}.py") for name in REPAIRS]
    content = [*(repair.read_bytes() for repair in repairs), *(str(other.resolve()).encode() for other in others)]
    mark = hashlib.sha256(b"".join(content)).hexdigest()[:8]
    target = home / "triton" / f"backends-{version('nvidia-pytriton')}-{python}-{mark}"
    if target.is_dir():
        return target
    stub = source / "python_backend_stubs" / python / "triton_python_backend_stub"
    if not stub.is_file():
        known = sorted(path.name for path in stub.parent.parent.iterdir())
        raise UnavailableError(
            f"nvidia-pytriton has no Python backend for Python {python}",
            accepted="Python " + ", ".join(known),
            next_step="make the environment with one of these",
        )
    part = target.with_name(f"{target.name}.{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(source / "backends", part, ignore=shutil.ignore_patterns("__pycache__"))
    for repair in repairs:
        shutil.copy2(repair, part / "python")
    with (part / "python" / "triton_python_backend_utils.py").open("a") as utilities:
        utilities.writelines(f"\n{line}  # put here by Trilha\n" for line in REPAIRS.values())
    _check(Path(shutil.copy2(stub, part / "python")), environment)
    _link(part, source, others)
    try:
        part.rename(target)
    except OSError:
        shutil.rmtree(part)
        if not target.is_dir():  # else another process was first
            raise
    return target


def _link(folder: Path, source: Path, others: Sequence[Path]) -> None:
    """Other backends beside the wheel's own, and the library of its server by the name that they look for it by.

    The wheel has it under another name; the loader sees by the file that it is the one that is there already.
    """
    for other in others:
        if not (folder / other.name).exists():
            (folder / other.name).symlink_to(other.resolve())
    if others:
        library = next((source.parents[1] / "nvidia_pytriton.libs").glob("libtritonserver-*.so"))
        (folder / "libtritonserver.so").symlink_to(library)


def _run(stub: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a program that was written just now.

    A process that another thread began meanwhile has the file open for writing until it becomes its own program, and
    Linux runs no file that somebody writes.
    """
    for _ in range(100):
        try:
            return subprocess.run([stub], env=environment, capture_output=True, text=True, timeout=30, check=False)
        except OSError as error:
            if error.errno != errno.ETXTBSY:
                raise
            time.sleep(0.05)
    return subprocess.run([stub], env=environment, capture_output=True, text=True, timeout=30, check=False)


def _check(stub: Path, environment: dict[str, str]) -> None:
    """Start the stub without arguments: it complains and leaves, unless the loader lacks one of its libraries.

    A Python that is linked statically, as Debian's is, has its shared library in a package of its own, or not at all.
    """
    done = _run(stub, environment)
    if done.returncode != 127:
        return
    shutil.rmtree(stub.parent.parent)
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}"
    raise UnavailableError(
        f"Triton's Python backend cannot start: {done.stderr.strip().removeprefix(f'{stub}: ')}",
        accepted=f"{name}.so.1.0 in {sysconfig.get_config_var('LIBDIR')}, or anywhere the loader looks",
        next_step=f"install it (Debian and Ubuntu: apt-get install {name}; pyenv: build Python with --enable-shared)",
    )
