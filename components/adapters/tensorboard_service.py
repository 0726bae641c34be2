"""TensorBoard's server, told to read files by its own means: `python -m components.adapters.tensorboard_service`.

Where TensorFlow is installed it would be imported, which takes seconds, and read for it, which knows no `s3://`.
"""

from __future__ import annotations

import sys
import types

SWITCH = "tensorboard.compat.notf"
"""TensorBoard's own switch: a module of this name, and TensorFlow is left alone."""


def spare_tensorflow() -> None:
    """Have TensorBoard do without TensorFlow in this process."""
    sys.modules.setdefault(SWITCH, types.ModuleType(SWITCH))


if __name__ == "__main__":
    spare_tensorflow()
    from tensorboard.main import run_main

    run_main()
