"""How are softmax, sigmoid, log-sum-exp and log-loss computed from logits without overflow?"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

from onnxtweak.engine.machine.large_arrays import LIGHT, let_go_rows, light_parts
from onnxtweak.engine.machine.narrow_rows import is_narrow, row_max, row_sums, sum_of_columns

# Numbers of a block of rows on a GPU: it is worth the start of an operation.
_ON_GPU = 2**26


def row_blocks(Z: Any) -> Iterator[slice]:
    """Blocks of the rows of Z (N, C), NumPy's or CuPy's, for arithmetic that takes each row alone."""
    return light_parts(Z, numbers=None if isinstance(Z, np.ndarray) else _ON_GPU)


def softmax(logits: Any, xp: ModuleType = np) -> Any:
    """Probabilities (N, C) of logits (N, C), in their dtype. xp : NumPy or CuPy."""
    if is_narrow(logits) and logits.size <= LIGHT:
        columns = np.ascontiguousarray(logits.T)
        columns = np.exp(columns - columns.max(axis=0))
        columns /= sum_of_columns(columns)
        return np.ascontiguousarray(columns.T)
    p = xp.exp(logits - row_max(logits)[:, None])
    p /= row_sums(p)[:, None]
    return p


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), of x's shape and dtype, float64 for choice: others overflow."""
    found: np.ndarray = 1 / (1 + np.exp(-np.clip(x, -700, 700)))
    return found


def log_sum_exp(logits: Any, xp: ModuleType = np) -> Any:
    """log of the sum over classes of exp(logits): (N,) for logits (N, C). xp : NumPy or CuPy."""
    top = row_max(logits)
    return top + xp.log(row_sums(xp.exp(logits - top[:, None])))


def log_losses(Z: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Cross-entropy of each sample in nats, (N,) float64, for logits Z (N, C).

    labels : (N,) int64, or (N, C) float, shares of the classes that sum to 1.
    """
    losses = np.empty(len(Z))
    for part in row_blocks(Z):
        place = labels[part]
        shifted = Z[part].astype(np.float64)
        shifted -= row_max(Z[part])[:, None]
        own = shifted[np.arange(len(place)), place] if labels.ndim == 1 else (place * shifted).sum(axis=1)
        losses[part] = np.log(row_sums(np.exp(shifted, out=shifted))) - own
        let_go_rows(part, Z, labels)
    return losses


def log_loss(Z: np.ndarray, labels: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Mean cross-entropy of logits Z (N, C) in nats. weight (N,) : how much a sample counts; None: alike."""
    return float(np.average(log_losses(Z, labels), weights=weight))
