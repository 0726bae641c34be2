"""What is no model and is served all the same: a vocabulary, an embedding table, a lookup.

Each is made of plain data, answers in NumPy, and becomes an ONNX graph (`components.adapters.from_servable`). It is a
part of a model (`t.save(pre=[vocabulary, embedding], ...)`), or it stands alone (`trilha export`). `write` keeps one as
`.npz`, which NumPy reads without running anything.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Tensor = npt.NDArray[Any]

NOTHING, UNKNOWN, FIRST = 0, 1, 2
"""Ids of a place without a word, of a word that the vocabulary lacks, and of its first word."""
_CAPITALS = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")
"""The letters whose case is dropped: ASCII's, as every ONNX Runtime does without a locale of its own."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """From a text `[rows, 1]` to the ids of its first words `[rows, length]`, int64.

    Words stand between spaces, and the case of ASCII letters makes no difference.

    Args:
        words: without repetition; the first one has the id `FIRST`.
        length: ids a row; a shorter text ends in `NOTHING`.
    """

    words: tuple[str, ...]
    length: int

    def __post_init__(self) -> None:
        odd = next((word for word in self.words if split(word) != [word]), None)
        if odd is not None or len(set(self.words)) < len(self.words) or not self.words or self.length < 1:
            raise ConfigError(
                f"a vocabulary of {len(self.words)} words{'' if odd is None else f', such as {odd!r}'}, "
                f"length {self.length}",
                accepted="words without spaces and capitals, each once, and a length of 1 or more",
            )

    @classmethod
    def of(cls, texts: Iterable[str], *, size: int, length: int) -> Vocabulary:
        """The `size` most frequent words of `texts`; of equally frequent ones, the first by the alphabet."""
        counts = Counter(word for text in texts for word in split(text))
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return cls(tuple(word for word, _ in ranked[:size]), length)

    def __call__(self, texts: Tensor) -> npt.NDArray[np.int64]:
        import numpy as np

        known = {word: place for place, word in enumerate(self.words, start=FIRST)}
        ids = np.full((len(texts), self.length), NOTHING, dtype=np.int64)
        for row, text in enumerate(np.asarray(texts).ravel()):
            found = [known.get(word, UNKNOWN) for word in split(text)[: self.length]]
            ids[row, : len(found)] = found
        return ids


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """From ids `[rows, length]` to their vectors, float32: side by side, or their mean over the ids that are words.

    Args:
        table: `[ids, width]`; an id beyond its ends counts as `UNKNOWN`.
        pool: `mean` gives `[rows, width]`; None gives `[rows, length * width]`.
    """

    table: npt.NDArray[np.float32]
    pool: str | None = "mean"

    def __post_init__(self) -> None:
        if self.table.ndim != 2 or len(self.table) <= FIRST or self.pool not in {None, "mean"}:
            raise ConfigError(
                f"an embedding of shape {list(self.table.shape)}, pool {self.pool!r}",
                accepted="a table [ids, width] of more than two ids, and pool mean or None",
            )

    def __call__(self, ids: Tensor) -> npt.NDArray[np.float32]:
        import numpy as np

        table = self.table.astype(np.float32)
        vectors = table[np.where((ids >= 0) & (ids < len(table)), ids, UNKNOWN)]
        if self.pool is None:
            return vectors.reshape(len(ids), -1)
        there = (ids != NOTHING).astype(np.float32)[:, :, None]
        pooled: npt.NDArray[np.float32] = (vectors * there).sum(axis=1) / np.maximum(there.sum(axis=1), np.float32(1))
        return pooled


@dataclass(frozen=True, slots=True, eq=False)
class Lookup:
    """From a key `[rows, 1]`, text, to the row of numbers that belongs to it `[rows, width]`, float32.

    Args:
        keys: each once.
        values: `[keys, width]`.
        default: `[width]`: for a key that is not there.
    """

    keys: tuple[str, ...]
    values: npt.NDArray[np.float32]
    default: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        fits = (
            self.values.ndim == 2 and len(self.values) == len(self.keys) and self.default.shape == self.values.shape[1:]
        )
        if not self.keys or not fits or len(set(self.keys)) < len(self.keys):
            raise ConfigError(
                f"a lookup of {len(self.keys)} keys, values {list(self.values.shape)}, "
                f"default {list(self.default.shape)}",
                accepted="keys, each once, with a row of numbers each, and one such row as the default",
            )

    @classmethod
    def of(cls, rows: Mapping[str, Sequence[float]], default: Sequence[float]) -> Lookup:
        """From key -> its numbers."""
        import numpy as np

        values = np.array(list(rows.values()), dtype=np.float32)
        return cls(tuple(rows), values, np.array(default, dtype=np.float32))

    def __call__(self, keys: Tensor) -> npt.NDArray[np.float32]:
        import numpy as np

        places = {key: place for place, key in enumerate(self.keys)}
        rows = np.vstack([self.values, self.default]).astype(np.float32)
        return rows[[places.get(key, -1) for key in np.asarray(keys).ravel()]]


Servable = Vocabulary | Embedding | Lookup


def split(text: str) -> list[str]:
    """The words of a text, as ONNX Runtime's StringSplit finds them: between spaces; tabs and line ends are none."""
    return [word for word in text.translate(_CAPITALS).split(" ") if word]


def write(servable: Servable, path: Path) -> None:
    """Keep a servable as one `.npz` file."""
    import numpy as np

    said: dict[str, Any]
    arrays: dict[str, Any]
    if isinstance(servable, Vocabulary):
        said, arrays = {"words": servable.words, "length": servable.length}, {}
    elif isinstance(servable, Embedding):
        said, arrays = {"pool": servable.pool}, {"table": servable.table}
    else:
        said, arrays = {"keys": servable.keys}, {"values": servable.values, "default": servable.default}
    text = json.dumps({"kind": type(servable).__name__, **said})
    np.savez(path, about=np.frombuffer(text.encode(), dtype=np.uint8), **arrays)


def read(path: Path) -> Servable:
    """The servable in a file that `write` made.

    Raises:
        ConfigError: there is none in it.
    """
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(file["about"].tobytes())
            kind = about.pop("kind")
            arrays = {name: file[name].astype(np.float32) for name in file.files if name != "about"}
        if kind == "Vocabulary":
            return Vocabulary(tuple(map(str, about["words"])), int(about["length"]))
        if kind == "Embedding":
            return Embedding(arrays["table"], about["pool"])
        if kind == "Lookup":
            return Lookup(tuple(map(str, about["keys"])), arrays["values"], arrays["default"])
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise ConfigError(
            f"{path}: no servable: {error}", accepted="a file that components.servables.write made"
        ) from error
    raise ConfigError(f"{path}: a {kind}", accepted="a Vocabulary, an Embedding or a Lookup")
