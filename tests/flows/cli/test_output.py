"""What commands write to files that a user names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from components.errors import ConfigError
from components.workspace import open_workspace
from flows.cli import main
from flows.cli.output import save

Trilha = Callable[..., None]


@pytest.fixture
def trilha(monkeypatch: pytest.MonkeyPatch) -> Trilha:
    """`trilha ...` in this process, to its end."""

    def call(*words: str) -> None:
        monkeypatch.setattr("sys.argv", ["trilha", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2

    return call


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("data get main parcels.csv --to", "--to"),
        ("notebook export small --to", "--to"),
        ("kubeflow compile small --output", "--output"),
        ("prefect compile -o", "--output"),
    ],
)
@pytest.mark.parametrize("place", ["nowhere/file", "/proc/file", "data"])
def test_a_file_that_cannot_be_written(
    small: Path, trilha: Trilha, capsys: pytest.CaptureFixture[str], command: str, option: str, place: str
) -> None:
    """The file, what would do, and the option to name another with, in one line."""
    if command.startswith("data"):
        if place == "data":
            pytest.skip("a folder takes the copy")
        puts = {"parcels.csv": small / "data" / "parcels.csv"}
        open_workspace("test").store.commit("main", puts, message="Parcels", metadata={}, key="parcels")
    profile = small / "config" / "profiles" / "test.yaml"
    profile.write_text(profile.read_text() + "kubeflow: {image: 'trilha:1'}\n")
    trilha(*command.split(), place, "--profile", "test")
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith(f"error: {place}: ")
    assert line.endswith(
        f"; accepted: a file in a folder that is there and that you may write to; next: name another one with {option}"
    )


def test_a_file_that_can_be_written(tmp_path: Path) -> None:
    """A text, and a copy of a file that is one's own; onto itself is refused, and the file is as it was."""
    text, copy = tmp_path / "text", tmp_path / "copy"
    save(text, "São", "--to")
    save(copy, text, "--to")
    assert (text.read_text(), copy.read_text()) == ("São", "São")
    with pytest.raises(ConfigError, match="are the same file"):
        save(text, text, "--to")
    assert text.read_text() == "São"
