"""What a bundle is: models whose names carry a digest of what they do, so that two bundles never mix.

    PROJECT-DIGEST          the ensemble: raw inputs -> the task's answer
    PROJECT-DIGEST-pre      one ONNX graph each
    PROJECT-DIGEST-model
    PROJECT-DIGEST-post
    PROJECT-DIGEST-fused    in place of the three, where a project joins them in one graph

Beside them a server keeps the ensemble PROJECT, which names the parts of the bundle that serves.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from components.records import Artifact, Bundle

PARTS: Final = ("pre", "model", "post")
FUSED: Final = "fused"
GOLDEN: Final = "golden.parquet"
CONFIG: Final = "config.pbtxt"
UNCACHED: Final = "uncached"
"""Of an ensemble that stands beside a bundle's while it is measured: the same parts, and no memory of answers."""
VERSION: Final = "1"
KEEP: Final = f"{VERSION}/.keep"
"""In an ensemble's version, which Triton wants to be there and which has no files of its own."""
NO_CACHE: Final = f"{VERSION}/__pycache__"
"""A file where Python would make a folder: byte code beside a model file makes Triton take the model for changed."""

_DIGITS: Final = 12


def bundle_name(project: str, digest: str) -> str:
    """The name of a bundle's ensemble."""
    return f"{project}-{digest[:_DIGITS]}"


def part_names(model: str, parts: Iterable[str] = PARTS) -> dict[str, str]:
    """`pre`, `model`, `post` -> the name of the model that runs it, for the ensemble `model`."""
    return {part: f"{model}-{part}" for part in parts}


def bundle_of(project: str, model: str) -> str | None:
    """The ensemble that a model of `project` is or belongs to; None for the models of others."""
    kinds = "|".join((*PARTS, FUSED, UNCACHED))
    found = re.fullmatch(rf"({re.escape(project)}-[0-9a-f]{{{_DIGITS}}})(-({kinds}))?", model)
    return found.group(1) if found else None


def answering(bundle: Bundle) -> str:
    """The model to ask for a bundle's answers: its ensemble, or the one part of it where there is only one.

    An ensemble of one changes nothing, and costs Triton 50 us a request. But where the server remembers answers, it is
    by the ensemble.
    """
    alone = part_names(bundle.model, [FUSED])[FUSED]
    remembers = bundle.triton.response_cache is not None and bundle.triton.response_cache.enable
    return alone if f"{alone}/{CONFIG}" in bundle.files and not remembers else bundle.model


def models_of(bundle: Bundle) -> dict[str, dict[str, Artifact]]:
    """Model -> path inside the model -> file; the ensemble comes last."""
    models: dict[str, dict[str, Artifact]] = {}
    for path, file in bundle.files.items():
        model, inside = path.split("/", 1)
        models.setdefault(model, {})[inside] = file
    models[bundle.model] = models.pop(bundle.model)
    return models


def content_digest(files: Mapping[str, Path | str | bytes]) -> str:
    """SHA-256 over paths and contents, hex.

    Args:
        files: path inside the bundle -> a file, or what is in one.
    """
    whole = hashlib.sha256()
    for path, content in sorted(files.items()):
        data = content.encode() if isinstance(content, str) else content
        data = data if isinstance(data, bytes) else data.read_bytes()
        whole.update(f"{path}\0{hashlib.sha256(data).hexdigest()}\n".encode())
    return whole.hexdigest()
