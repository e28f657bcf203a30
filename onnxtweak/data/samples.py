"""What does a source of samples hand over? The nouns that every reader of this folder fills in.

A reader turns one source into `Part`s: a part is one array per model input, read forward through a `Column`,
and one raw label per sample. `open_data` turns parts into a `Dataset`. A new kind of source is one new file
with a function `(Source, inputs, preprocess) -> list[Part]` and a line in `READERS` of `open_data.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

Take = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class InputSpec:
    """What the model wants of one input.

    name : tensor name. dtype : NumPy name ("float32"; "object" for strings).
    shape : batch axis first, None where any size will do; None as a whole when the model does not say.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None

    @property
    def sample(self) -> tuple[int | None, ...] | None:
        """Shape of one sample, batch axis left out."""
        return None if self.shape is None else self.shape[1:]


class Column(Protocol):
    """One array of N rows that may be larger than memory.

    shape, dtype : of the whole array, N first. where : how a message names it. axes : axis order of a sample,
    "HWC" say, where the source knows it, else None. apart : several threads may take rows at once, in any
    order.
    """

    where: str
    shape: tuple[int, ...]
    dtype: np.dtype
    axes: str | None
    apart: bool

    def open(self) -> AbstractContextManager[Take]:
        """Begin one pass: gives `take(rows) -> (len(rows), ...)`, rows ascending from call to call."""
        ...

    def locate(self, row: int) -> str:
        """How a message names one row."""
        ...


@dataclass(frozen=True, eq=False)
class Held:
    """A column that is in memory. What `take` gives may be a read-only view."""

    where: str
    array: np.ndarray
    axes: str | None = None
    apart = True

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype

    def open(self) -> AbstractContextManager[Take]:
        return nullcontext(lambda rows: pick(self.array, rows))

    def locate(self, row: int) -> str:
        return f"row {row} of {self.where}"


def pick(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rows of an array: a view where they are contiguous, a copy otherwise. rows strictly ascending int64."""
    if len(rows) and rows[-1] - rows[0] + 1 == len(rows):
        return array[rows[0] : rows[-1] + 1]
    return array[rows]


@dataclass(frozen=True, eq=False)
class Part:
    """A run of samples from one place.

    where : how a message names it. origin : says of two parts whether their rows are the same samples.
    columns : by model input; row 0 of the part is row `start` of each. labels (N, ...) : raw, as stored;
    integers, strings, or one-hot. label_where : how a message names them. files : what the digest reads,
    (role, path) pairs. classes : names, if the source has them. notes : what reading does to the samples.
    """

    where: str
    origin: str
    columns: dict[str, Column]
    labels: np.ndarray
    label_where: str
    files: tuple[tuple[str, Path], ...]
    classes: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    start: int = 0

    def __len__(self) -> int:
        return len(self.labels)
