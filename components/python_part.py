"""A part that is no graph: a class of the project's own, kept as its source and plain arrays, run by Triton itself.

    class Rounded:                               # in a file that project.yaml names under `modules`
        width = 1                                # columns that it yields

        def __init__(self, step):                # from its state, arrays all
            self.step = step

        def state(self):                         # what it takes to be made again
            return {"step": self.step}

        def __call__(self, tensors):             # name -> [rows, width]; yields [rows, self.width]
            return np.round(tensors["scores"] / self.step) * self.step

It stands in the place of `pre` or of `model`. Nothing is pickled: Triton runs the source that the project has, on the
state that the trial had. What it imports has to be where Triton is: the standard library and NumPy.
"""

from __future__ import annotations

import inspect
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.adapters.triton_part import ABOUT, SOURCE, STATE, Opened
from components.errors import ConfigError

if TYPE_CHECKING:
    from components.adapters.onnx_build import Info

SUFFIX = ".zip"
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every file inside: the same part makes the same bytes."""


def is_part(part: Any) -> bool:
    """Whether a part is a class of the project's own."""
    return callable(part) and callable(getattr(part, "state", None)) and isinstance(getattr(part, "width", None), int)


def keep(part: Any, given: Sequence[Info], output: str, modules: Sequence[Path], path: Path) -> None:
    """Write a part as one file.

    Args:
        part: the object.
        given: the tensors that it takes.
        output: the name of what it yields.
        modules: the files that a class may come from.
        path: where to, `.zip`.

    Raises:
        ConfigError: its class comes from another file, or its state is more than arrays.
    """
    import numpy as np

    source = Path(inspect.getfile(type(part))).resolve()
    if source not in {module.resolve() for module in modules}:
        raise ConfigError(
            f"{type(part).__name__} comes from {source.name}, which project.yaml does not name",
            accepted=", ".join(module.name for module in modules) or "a file under `modules:` in project.yaml",
            next_step=f"add it: modules: [notebooks/{source.name}]",
        )
    state = {name: np.asarray(value) for name, value in part.state().items()}
    objects = sorted(name for name, array in state.items() if array.dtype.hasobject)
    if objects:
        raise ConfigError(f"{type(part).__name__}: state {objects[0]!r} is no array of numbers or texts")
    arrays = io.BytesIO()
    np.savez(arrays, allow_pickle=False, **state)
    about = {
        "class": type(part).__name__,
        "inputs": {
            info.name: [info.type.tensor_type.elem_type, info.type.tensor_type.shape.dim[1].dim_value or -1]
            for info in given
        },
        "output": output,
        "width": part.width,
    }
    files = {ABOUT: json.dumps(about, indent=1).encode(), SOURCE: source.read_bytes(), STATE: arrays.getvalue()}
    with zipfile.ZipFile(path, "w") as file:
        for name, content in files.items():
            file.writestr(zipfile.ZipInfo(name, _EPOCH), content)


def files_in(path: Path) -> Mapping[str, bytes]:
    """What a part was kept as."""
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in (ABOUT, SOURCE, STATE)}


def opened(path: Path) -> Opened:
    """A part that was kept, ready to answer."""
    return Opened(files_in(path))
