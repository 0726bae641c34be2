"""The three graphs in one process, one thread each, as every peer runs them; `inputs.json` says where they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime


class Graphs:
    """Answers columns: name -> `[rows, 1]`, texts as objects, numbers as 32-bit floats."""

    def __init__(self) -> None:
        found = json.loads((Path(__file__).parent / "inputs.json").read_text())
        self.texts: list[str] = found["texts"]
        self.numbers: list[str] = found["numbers"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.sessions = [onnxruntime.InferenceSession(path, options) for path in found["graphs"]]

    def answer(self, values: dict[str, Any]) -> dict[str, Any]:
        for session in self.sessions:
            names = [node.name for node in session.get_outputs()]
            values = dict(zip(names, session.run(names, values), strict=True))
        return values

    def rows(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Answers to rows as objects."""
        values = {name: np.array([[row[name] or ""] for row in rows], dtype=object) for name in self.texts}
        values |= {name: np.array([[row[name]] for row in rows], dtype=np.float32) for name in self.numbers}
        found = self.answer(values)
        pairs = zip(found["probability"].ravel().tolist(), found["label"].ravel().tolist(), strict=True)
        return [{"probability": probability, "label": label} for probability, label in pairs]
