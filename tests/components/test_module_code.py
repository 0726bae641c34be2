"""What is kept of a module's code: the same as parsing it, for exactly these bytes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from components import module_code as under_test
from components.module_code import ModuleCode, module_code

SOURCE = "import components.near as near\nONE = 1\n\ndef step(x):\n    return near.other(x) + ONE\n"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = tmp_path / "step.py"
    path.write_text(SOURCE)
    return path


def kept(module: Path) -> list[Path]:
    return list(module.parent.glob("__pycache__/*"))


def unparsed(module: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleCode:
    """The module's code where nothing can be parsed."""
    with monkeypatch.context() as only:
        only.delattr(under_test, "_read")
        return module_code(module)


def test_it_is_parsed_once(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes from the file beside the byte code equals what was parsed."""
    first = module_code(module)
    assert first.symbols["step"].names == [["ONE"], ["near"], ["near", "other"]]
    assert unparsed(module, monkeypatch) == first
    assert len(kept(module)) == 1


def test_an_edit_is_seen_whatever_the_clock_says(module: Path) -> None:
    """Also one of the same length at the same time of change."""
    before, times = module_code(module), module.stat()
    module.write_text(SOURCE.replace("ONE = 1", "ONE = 2"))
    os.utime(module, ns=(times.st_atime_ns, times.st_mtime_ns))
    after = module_code(module)
    assert after.symbols["ONE"].digest != before.symbols["ONE"].digest
    assert after.symbols["step"] == before.symbols["step"]


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"digest": 1}'])
def test_a_damaged_one_is_made_anew(module: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    """It is a copy of what the source says, and no more."""
    first = module_code(module)
    kept(module)[0].write_text(damage)
    assert module_code(module) == first
    assert unparsed(module, monkeypatch) == first


def test_a_folder_that_cannot_be_written_to(module: Path) -> None:
    """Nothing is kept, and nothing is amiss: an image's files are read-only."""
    (module.parent / "__pycache__").write_text("in the way")
    assert module_code(module) == module_code(module)


def test_byte_code_is_not_wanted(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever tells Python to leave no files behind means these as well."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    module_code(module)
    assert kept(module) == []
