"""Which samples does each step of gradient descent see, and how are they read? From files, many at a time.

The rows of a minibatch lie anywhere in a file: those of several are read together, in the file's order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

from onnxtweak.engine.machine import large_arrays
from onnxtweak.engine.machine.large_arrays import is_mapped, let_go


def minibatches(
    xp: ModuleType, arrays: tuple[Any, Any], rng: np.random.Generator, batch: int, iterations: int
) -> Iterator[tuple[Any, Any, Any]]:
    """Rows of each minibatch, and what two arrays hold of them: shuffled anew for every epoch, the incomplete
    last one left out. Those of arrays in files are read for several minibatches at a time."""
    done, samples = 0, len(arrays[0])
    ahead = max(large_arrays.ROWS // 2 // batch, 1) * batch  # half a block of rows, which is then copied
    while done < iterations:
        order = rng.permutation(samples)
        known = xp.asarray(order)
        near: list[Any] = []
        for start in range(0, samples - batch + 1, batch):
            if start % ahead == 0:
                soon = order[start : start + ahead]
                near = [one.read(soon) if isinstance(one, _RowsOnDemand) else None for one in arrays]
            rows, first = known[start : start + batch], start % ahead
            T, Z = (
                one.take(rows, axis=0) if held is None else held[first : first + batch]
                for one, held in zip(arrays, near, strict=True)
            )
            yield rows, T, Z
            done += 1
            if done == iterations:
                return


def made_of_rows(xp: ModuleType, array: np.ndarray, make: Callable[[np.ndarray], np.ndarray]) -> Any:
    """What is made of an array (N, ...), whose rows may be asked for: in `xp`, unless it lies in a file."""
    return _RowsOnDemand(xp, array, make) if is_mapped(array) else xp.asarray(make(array))


class _RowsOnDemand:
    """What is made of the rows of an array in a file, when they are asked for."""

    def __init__(self, xp: ModuleType, array: np.ndarray, make: Callable[[np.ndarray], np.ndarray]) -> None:
        self.xp, self.array, self.make = xp, array, make

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, part: slice) -> Any:
        found = self.xp.asarray(self.make(self.array[part]))
        let_go(self.array[part])
        return found

    def read(self, rows: np.ndarray) -> Any:
        """Some rows (n,) int64, in any order: they are read in that of the file, which takes fewer of its
        pages at a time."""
        order = np.argsort(rows)
        made = self.make(self.array[rows[order]])
        let_go(self.array)
        found = np.empty_like(made)
        found[order] = made
        return self.xp.asarray(found)
