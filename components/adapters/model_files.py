"""Models as frameworks keep them in files: which suffix is read by whom, in formats that run nothing when read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from components.errors import ConfigError
from components.servables import read


def _keras(path: Path) -> Any:
    import keras

    return keras.models.load_model(path, compile=False, safe_mode=True)


def _lightgbm(path: Path) -> Any:
    import lightgbm

    return lightgbm.Booster(model_file=path)


def _skops(path: Path) -> Any:
    from skops import io

    unknown = io.get_untrusted_types(file=path)
    if unknown:
        raise ConfigError(f"{path.name} holds {', '.join(unknown)}", accepted="what scikit-learn and NumPy bring")
    return io.load(path, trusted=[])


def _tensorflow(folder: Path) -> Any:
    from components.adapters.from_tensorflow import load

    return load(folder)


def _torch(path: Path) -> Any:
    import torch

    program = torch.export.load(path)
    module = program.module()
    module.in_features = program.example_inputs[0][0].shape[1]
    return module


def _xgboost(path: Path) -> Any:
    """XGBoost's own model behind the interface of scikit-learn."""
    import json

    import xgboost

    settings = json.loads(xgboost.Booster(model_file=path).save_config())
    objective = settings["learner"]["objective"]["name"]
    model = xgboost.XGBClassifier() if objective.startswith(("binary:", "multi:")) else xgboost.XGBRegressor()
    model.load_model(path)
    return model


SAVED: Final = "saved_model.pb"
"""What a folder that is a SavedModel of TensorFlow has in it."""

FILES: Final[dict[str, Callable[[Path], Any]]] = {
    ".json": _xgboost,
    ".keras": _keras,
    ".npz": read,
    ".onnx": Path,
    ".pt2": _torch,
    ".skops": _skops,
    ".txt": _lightgbm,
    ".ubj": _xgboost,
}
"""Suffix -> what reads such a file: XGBoost, Keras, our servables, ONNX, PyTorch (torch.export), skops, LightGBM."""

ACCEPTED: Final = f"{', '.join(FILES)}, or a folder with {SAVED}"

PICKLES: Final = frozenset({".joblib", ".pickle", ".pkl", ".pt", ".pth"})


def opened(part: Any) -> Any:
    """A part of a model; of a path, what is in the file, and so in a list.

    Raises:
        ConfigError: as `load`.
    """
    if isinstance(part, list | tuple):
        return [opened(one) for one in part]
    return load(part) if isinstance(part, Path) else part


def load(path: Path) -> Any:
    """The part in a file, or in the folder that TensorFlow keeps one in.

    Raises:
        ConfigError: the format is not known, is a pickle, or is not what its suffix says.
    """
    suffix = path.suffix.lower()
    if suffix in PICKLES:
        raise ConfigError(
            f"{path.name} is a pickle, which runs whatever it holds when it is read",
            accepted=ACCEPTED,
            next_step="save it as ONNX, or with skops.io.dump (scikit-learn), torch.export.save (PyTorch)",
        )
    saved = (path / SAVED).is_file()
    if not saved and (suffix not in FILES or not path.is_file()):
        problem = f"{path.name}: format {suffix or 'none'}" if path.exists() else f"no file {path}"
        raise ConfigError(problem, accepted=ACCEPTED)
    try:
        return _tensorflow(path) if saved else FILES[suffix](path)
    except ConfigError:
        raise
    except ImportError as error:
        raise ConfigError(
            f"{path.name}: {error}", next_step="install the framework: pip install 'trilha[...]'"
        ) from error
    except Exception as error:  # each framework's own
        raise ConfigError(f"{path.name} cannot be read: {str(error).strip().splitlines()[0]}") from error
