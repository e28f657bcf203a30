"""How are the few numbers of each row added up, or their highest found, without delay? Column by column.

NumPy reduces rows one after the other. Of rows of three or ten numbers, as logits of few classes are, it
takes longer to begin each than to go through it: with the columns as rows, a maximum takes a twentieth of the
time. The results are NumPy's own to the last bit, for numbers are added in its order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from onnxtweak.engine.machine.large_arrays import LIGHT, light_parts

# Of more columns than this, rows are as fast.
_NARROW = 24
# So many sums NumPy makes at a time of rows that are at least as long.
_LANES = 8


def row_max(array: Any) -> Any:
    """`array.max(axis=1)`, (N,), of an array (N, C), NumPy's or CuPy's."""
    return _by_columns(_max_of_columns, array) if is_narrow(array) else array.max(axis=1)


def row_sums(array: Any) -> Any:
    """`array.sum(axis=1)`, (N,), of an array (N, C), NumPy's or CuPy's."""
    return _by_columns(sum_of_columns, array) if is_narrow(array) else array.sum(axis=1)


def sum_of_rows(array: Any) -> Any:
    """`array.sum(axis=0, dtype=np.float64)`, (C,), of an array (N, C), NumPy's or CuPy's."""
    if is_narrow(array) and array.shape[1] > 1:  # one column NumPy adds up in pairs
        return np.einsum("nc->c", array, dtype=np.float64, casting="same_kind")
    return array.sum(axis=0, dtype=np.float64)


def is_narrow(array: Any) -> bool:
    """Whether the rows of an array (N, C) are better taken column by column: few floats, in NumPy's hands."""
    return (
        type(array) is np.ndarray
        and array.ndim == 2
        and 0 < array.shape[1] <= _NARROW
        and array.dtype.char in "fd"
        and array.flags.c_contiguous
    )


def sum_of_columns(columns: np.ndarray) -> np.ndarray:
    """The sum (N,) over columns (C, N), each of them contiguous, in the order in which rows are added."""
    if len(columns) < _LANES:
        return np.add.reduce(columns, axis=0)
    whole, sums = len(columns) - len(columns) % _LANES, columns[:_LANES]
    for start in range(_LANES, whole, _LANES):
        sums = sums + columns[start : start + _LANES]
    while len(sums) > 1:
        sums = sums[::2] + sums[1::2]
    total: np.ndarray = sums[0]
    for column in columns[whole:]:
        total += column
    return total


def _max_of_columns(columns: np.ndarray) -> np.ndarray:
    return np.maximum.reduce(columns, axis=0)


def _by_columns(function: Callable[[np.ndarray], np.ndarray], array: np.ndarray) -> np.ndarray:
    """What a function makes of the columns, of as many rows at a time as stay in the cache."""
    if array.size <= LIGHT:
        return function(np.ascontiguousarray(array.T))
    found = np.empty(len(array), array.dtype)
    for part in light_parts(array):
        found[part] = function(np.ascontiguousarray(array[part].T))
    return found
