"""Which few neurons should raise one class (METHOD 7.2, orthogonal matching pursuit)?

Neurons are added one by one, later a few at a time: those that promise most given what the ones before have
already put right, after which all weights are solved anew.
"""

from __future__ import annotations

import numpy as np

from onnxtweak.method.selection.screening import ScreeningSums, scores
from onnxtweak.method.solvers.multinomial import one_target
from onnxtweak.method.solvers.standard import mean_and_scale
from onnxtweak.method.table import Table

# Columns that pursuit looks at: those that promise most before anything is added.
_POOL = 1000
# So many are added one by one; after that, this share of what is there at a time.
_SINGLE, _SHARE = 10, 0.25
_RIDGE = 1e-3
# What a neuron that tells nothing promises on average, in nats over all samples.
_CHANCE = 1.0


def pursued(table: Table, columns: np.ndarray, target: int, count: int) -> np.ndarray:
    """Up to `count` of the columns (K,) for one class, in the order they were added: (k,) int64.

    A column that promises nothing (constant, or a copy of one that is there) is not added.
    """
    own = table.labels == target
    Z, labels = table.Z, table.labels

    def promise(pool: np.ndarray, squared: np.ndarray, shift: np.ndarray) -> np.ndarray:
        logits = Z.astype(np.float64)
        logits[:, target] += shift
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p = p[:, target] / p.sum(axis=1)
        h, r = (p * (1 - p)).astype(np.float32)[:, None], (own - p).astype(np.float32)[:, None]
        sums = ScreeningSums(
            pool.T @ r, squared.T @ h, pool.T @ h, h.sum(axis=0), np.zeros(pool.shape[1], bool)
        )
        return scores(sums)[:, 0]

    def solved(chosen: list[int]) -> np.ndarray:
        found = one_target(X[:, chosen], Z, labels, target, ridge=_RIDGE, tolerance=1e-7, iterations=20)
        return found.scores[:, 0]

    X = _standardised(table.T[:, columns])
    shift = one_target(X[:, :0], Z, labels, target, ridge=_RIDGE).scores[:, 0]
    first = promise(X, X * X, shift)
    pool = np.argsort(-first, kind="stable")[:_POOL]
    columns, X = columns[pool], np.ascontiguousarray(X[:, pool])
    squared, chosen = X * X, []
    while len(chosen) < min(count, len(columns)):
        found = promise(X, squared, shift)
        found[chosen] = 0
        step = 1 if len(chosen) < _SINGLE else int(len(chosen) * _SHARE)
        best = np.argsort(-found, kind="stable")[: min(step, count - len(chosen))]
        best = best[found[best] > _CHANCE]
        if not len(best):
            break
        chosen += best.tolist()
        shift = solved(chosen)
    return columns[chosen]


def _standardised(T: np.ndarray) -> np.ndarray:
    """Columns of mean 0 and deviation 1 (float32); a constant one becomes 0."""
    mean, scale = mean_and_scale(T)
    return ((T - mean.astype(np.float32)) * (1.0 / scale).astype(np.float32)).astype(np.float32)
