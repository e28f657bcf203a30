"""How are columns taken from arrays with many rows, wherever these lie? One in turn, or some of each."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnxtweak.engine.machine.large_arrays import in_blocks, is_mapped, let_go, transposed


def either(chosen: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Those columns of an array (N, C) that are chosen, (C,) bool, and those of another that are not."""

    def of_rows(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.where(chosen, one, other)
        return found

    return in_blocks(of_rows, one, other)


def columns_of(array: np.ndarray) -> Iterator[np.ndarray]:
    """Each column (N,) of an array (N, C), in turn."""
    if not is_mapped(array):
        yield from array.T
        return
    for column in transposed(array):
        yield column
        let_go(column)
