"""How are the columns of a table standardised, so that one penalty suits them all? Mean 0, deviation 1."""

from __future__ import annotations

import numpy as np

from onnxtweak.engine.machine.large_arrays import blocks, column_sums

# A column that varies less than this against its size is float32's noise around a constant.
_CONSTANT = 1e-6


def column_scale(deviation: np.ndarray, size: np.ndarray) -> np.ndarray:
    """What each column is divided by, (K,) float64: its deviation; inf for a constant one, which becomes 0.

    deviation (K,). size (K,) : how large the column's values are, such as |mean|.
    """
    return np.where(deviation > _CONSTANT * np.maximum(size, 1e-12), deviation, np.inf)


def mean_and_scale(T: np.ndarray, columns: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and `column_scale` of T (N, K), or of some of its columns (k,) int64, float64; constant against
    the mean."""
    mean = column_sums(T, columns) / max(len(T), 1)
    square = np.zeros(len(mean))
    centre = mean.astype(T.dtype)
    for _, block in blocks(T):
        centred = (block if columns is None else np.take(block, columns, axis=1)) - centre
        square += np.einsum("nk,nk->k", centred, centred, dtype=np.float64)
    return mean, column_scale(np.sqrt(square / max(len(T), 1)), np.abs(mean))


def standardised(T: np.ndarray, mean: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """(T - mean) * inverse, (N, K) float32. mean, inverse (K,) : of the columns, the latter 1 / scale."""
    columns = np.subtract(T, mean.astype(np.float32), dtype=np.float32)
    columns *= inverse.astype(np.float32)
    return columns


def scale_of_uncentred(T: np.ndarray) -> np.ndarray:
    """`column_scale` of T (N, K) where means may stay in; constant against the largest value."""
    mean, square, largest = column_sums(T) / max(len(T), 1), np.zeros(T.shape[1]), np.zeros(T.shape[1])
    for _, block in blocks(T):
        square += np.square(block - mean).sum(axis=0)
        largest = np.maximum(largest, np.abs(block).max(axis=0))
    return column_scale(np.sqrt(square / max(len(T), 1)), largest)
