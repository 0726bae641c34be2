"""The files that steps hand on, on a local disk and on a real S3 server."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.artifacts import Artifacts
from components.errors import NotFoundError
from components.records import Artifact


@pytest.fixture(params=["local", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place."""
    return f"{request.getfixturevalue('bucket')}/artifacts" if request.param == "s3" else str(tmp_path / "artifacts")


def made(artifacts: Artifacts, key: str, **files: str) -> dict[str, Artifact]:
    with artifacts.folder(key) as folder:
        (folder / "sub").mkdir()
        for name, text in files.items():
            (folder / "sub" / name).write_text(text)
        return artifacts.publish(key, folder)


def test_published_files_are_there_for_every_machine(url: str, tmp_path: Path) -> None:
    """By relative path, with size and SHA-256; another machine gets the same bytes under the same name."""
    files = made(Artifacts(url, tmp_path / "one"), "k1", a="hello", b="")
    assert files["sub/a"].path == "k1/sub/a"
    assert files["sub/a"].size == 5
    other = Artifacts(url, tmp_path / "two")
    assert all(other.has(file) for file in files.values())
    assert other.local(files["sub/a"]).read_text() == "hello"
    assert other.local(files["sub/a"]).name == "a"
    assert other.local(files["sub/b"]).read_text() == ""


def test_a_second_attempt_replaces_the_first(url: str, tmp_path: Path) -> None:
    """A step that was killed after it published its files publishes them again."""
    artifacts = Artifacts(url, tmp_path / "one")
    first = made(artifacts, "k1", a="first")
    again = made(artifacts, "k1", a="second")
    assert artifacts.has(again["sub/a"])
    assert not artifacts.has(first["sub/a"])
    assert artifacts.local(again["sub/a"]).read_text() == "second"


def test_what_is_gone_is_named(url: str, tmp_path: Path) -> None:
    """A deleted file is an error that says how to get it back."""
    artifacts = Artifacts(url, tmp_path / "one")
    with pytest.raises(NotFoundError, match="k2/a is gone; next: run the project again"):
        artifacts.local(Artifact(path="k2/a", sha256="0" * 64, size=1))
