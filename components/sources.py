"""Where tables come from: a table's `path` as the files that it means now. It only looks, so it takes milliseconds."""

from __future__ import annotations

import glob
import importlib.metadata
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from components import config
from components.addresses import file_system
from components.disk import is_full
from components.errors import ConfigError, NotFoundError, TrilhaError, UnavailableError
from components.object_stores import CREDENTIALS, misses, refuses, words
from components.records import FileStamp

PACKAGE = "package://"


def find(table: str, path: str, inside: Sequence[str] = ()) -> tuple[FileStamp, ...]:
    """The files that `path` means now, sorted by URL. Of addresses inside, URLs may point at those of `inside`.

    Raises:
        ConfigError: the path is not accepted.
        NotFoundError: it means no file.
        UnavailableError: a remote file system does not answer.
    """
    if path.startswith(PACKAGE):
        found = _in_package(table, path)
    elif "::" in path or ("://" in path and not path.startswith("file://")):
        found = _remote(table, path, inside)
    else:
        found = _on_disk(table, path)
    return tuple(sorted(found, key=lambda stamp: stamp.url))


def _on_disk(table: str, path: str) -> list[FileStamp]:
    """Relative paths start at the repository's root and stay relative, so that two checkouts have the same URLs."""
    plain = path.removeprefix("file://")
    _refuse_escape(table, path, plain)
    stamps = []
    for name in _matches(table, path, config.root(), plain):
        status = (config.root() / name).stat()
        url = f"file://{name}" if path.startswith("file://") else name
        stamps.append(FileStamp(url=url, size=status.st_size, stamp=f"mtime {status.st_mtime_ns}"))
    return stamps


def _in_package(table: str, path: str) -> list[FileStamp]:
    """Stamped by the package's version, so that the same package has the same stamp on every machine."""
    package, _, plain = path.removeprefix(PACKAGE).partition("/")
    _refuse_escape(table, path, plain)
    folder = _package_folder(table, path, package)
    version = _version(package)
    stamps = []
    for name in _matches(table, path, folder, plain):
        status = (folder / name).stat()
        stamp = f"version {version}" if version else f"mtime {status.st_mtime_ns}"
        stamps.append(FileStamp(url=f"{PACKAGE}{package}/{name}", size=status.st_size, stamp=stamp))
    return stamps


def _package_folder(table: str, path: str, package: str) -> Path:
    """The folder of an installed package, which is found and not imported."""
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    folders = list(spec.submodule_search_locations or []) if spec else []
    if not folders:
        raise NotFoundError(
            f"table {table!r}: {path}: no package {package!r} is installed",
            accepted=f"{PACKAGE}NAME/FILE, NAME being what Python imports",
            next_step="install it, or correct `path` in project.yaml",
        )
    return Path(folders[0])


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # the distribution has another name; finding it is slow, and rare
        distributions = importlib.metadata.packages_distributions().get(package, [])
        return importlib.metadata.version(distributions[0]) if distributions else None


def _refuse_escape(table: str, path: str, plain: str) -> None:
    if ".." in PurePosixPath(plain).parts:
        raise ConfigError(
            f"table {table!r}: path {path!r} has '..'", accepted="a path below the repository, or an absolute one"
        )


def _matches(table: str, path: str, base: Path, plain: str) -> list[str]:
    """The files below `base` that `plain`, a name or a pattern, means; an absolute pattern gives absolute names."""
    names = [plain]
    if glob.has_magic(plain):
        names = glob.glob(plain, root_dir=base, recursive=True)  # noqa: PTH207  # Path.glob refuses absolute patterns
    files = [PurePosixPath(name).as_posix() for name in names if (base / name).is_file()]
    if not files:
        looked = base / plain
        problem = f"{looked} is a folder" if looked.is_dir() else f"no file {looked}"
        raise NotFoundError(
            f"table {table!r}: {path}: {problem}",
            accepted="a file, or a pattern such as data/*.csv",
            next_step="put the file there, or correct `path` in project.yaml",
        )
    return files


def _remote(table: str, url: str, inside: Sequence[str]) -> list[FileStamp]:
    """Any fsspec URL; the stamp is the best that its file system offers."""
    with remote_errors(table, url):
        if any(urlsplit(part).password for part in url.split("::")):
            raise ConfigError(
                f"table {table!r}: `path` holds a password",
                accepted=CREDENTIALS,
            )
        fs, path = file_system(table, url, inside)
        infos = fs.glob(path, detail=True) if glob.has_magic(path) else {path: fs.info(path)}
        found = [(name, info) for name, info in infos.items() if info.get("type", "file") == "file"]
        if not found:
            raise FileNotFoundError(url)
        return [
            FileStamp(url=_url(fs, url, name), size=info.get("size") or 0, stamp=_stamp(info)) for name, info in found
        ]


def _url(fs: Any, url: str, name: str) -> str:
    """The URL of one match of the URL `url`; what a chain such as `zip://*.csv::s3://...` goes through stays."""
    first, *through = url.split("::")
    if through:
        return "::".join([f"{first.split('://')[0]}://{name}", *through])
    parts = urlsplit(url)
    container, account, _ = parts.netloc.partition("@")
    if account and name.startswith(f"{container}/"):  # Azure's own notation: the file system forgets whose it is
        return f"{parts.scheme}://{parts.netloc}/{name.removeprefix(f'{container}/')}"
    return str(fs.unstrip_protocol(name))


def _stamp(info: Mapping[str, Any]) -> str:
    for name in ("ETag", "etag", "version_id", "CRC", "md5", "mtime", "LastModified", "last_modified", "created"):
        if info.get(name) is not None:
            return f"{name} {info[name]}"
    return ""


@contextmanager
def remote_errors(table: str, url: str) -> Iterator[None]:
    """What a remote file system raises, as ours: each library has errors of its own."""
    try:
        yield
    except TrilhaError:
        raise
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"table {table!r}: path {url!r}: {words(error)}",
            accepted="a URL that fsspec knows",
            next_step="correct it, or install what the error names (extras: aws, gcp, azure)",
        ) from error
    except Exception as error:
        true = _true(error)
        if isinstance(true, TrilhaError):
            raise true from error
        if is_full(error):
            raise
        if misses(true):
            raise _no_file(table, url) from error
        if refuses(true):
            raise ConfigError(
                f"table {table!r}: {url}: {words(true)}",
                accepted=CREDENTIALS,
                next_step="correct the credentials, and what their user may do",
            ) from error
        raise UnavailableError(
            f"table {table!r}: {url}: {type(true).__name__}: {words(true)}",
            next_step="check the address, the credentials and the network, then run again",
        ) from error


def _true(error: Exception) -> BaseException:
    """What went wrong: over HTTP, fsspec takes whatever it is for a file that is not there."""
    behind = (error.__cause__, error.__context__) if isinstance(error, FileNotFoundError) else ()
    whose = (one for one in behind if isinstance(one, TrilhaError) or type(one).__module__.startswith("aiohttp."))
    return next(whose, None) or error


def _no_file(table: str, url: str) -> NotFoundError:
    return NotFoundError(
        f"table {table!r}: no file {url}", next_step="put the file there, or correct `path` in project.yaml"
    )


def on_this_machine(url: str) -> Path | None:
    """The file on this machine that a stamp's URL names, or None for a remote one."""
    if url.startswith(PACKAGE):
        package, _, plain = url.removeprefix(PACKAGE).partition("/")
        return _package_folder(package, url, package) / plain
    if "::" in url or ("://" in url and not url.startswith("file://")):
        return None
    return config.root() / url.removeprefix("file://")
