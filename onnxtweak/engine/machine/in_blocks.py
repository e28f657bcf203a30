"""How is much made of arrays with little memory, wherever they lie? A few rows, or a column, at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from onnxtweak.engine.machine.large_arrays import added, beside, is_mapped, let_go, light_parts, transposed


def in_blocks(
    function: Callable[..., np.ndarray], *arrays: np.ndarray, like: np.ndarray | None = None
) -> np.ndarray:
    """What a function that looks at each row alone makes of arrays with as many rows: (N, F), or a vector.

    Block by block in memory too, where copies in passing would be several arrays as large. It lies where
    `like` does; None: in a file where one of the arrays does.
    """
    if not len(arrays[0]):
        return function(*arrays)
    where = next(filter(is_mapped, arrays), arrays[0]) if like is None else like
    found: np.ndarray | None = None
    for part in light_parts(*arrays):
        made = function(*(array[part] for array in arrays))
        if found is None:
            shape = len(arrays[0]), *made.shape[1:]
            found = np.empty(shape, made.dtype) if made.ndim == 1 else beside(where, shape, made.dtype)
        found[part] = made
        for array in (*arrays, found):
            let_go(array[part])
    assert found is not None
    return found


def summed(function: Callable[..., np.ndarray], *arrays: np.ndarray) -> np.ndarray:
    """The sum over rows, (C,) float64, of what a function, as of `in_blocks`, makes of arrays: (N, C)."""
    total: np.ndarray | None = None
    for part in light_parts(*arrays):
        total = added(total, function(*(array[part] for array in arrays)))
        for array in arrays:
            let_go(array[part])
    return function(*arrays).sum(axis=0, dtype=np.float64) if total is None else total


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
