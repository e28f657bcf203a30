"""Which few neurons should raise one class? Orthogonal matching pursuit (METHOD 7.2).

Neurons are added one by one, later a few at a time: those that promise most given what the earlier ones have
already put right. After each addition all weights are solved anew.
"""

from __future__ import annotations

import numpy as np

from onnxtweak.engine.machine.large_arrays import blocks, filled, in_blocks, of_columns
from onnxtweak.method.selection.screening import ScreeningSums, scores
from onnxtweak.method.softmax import softmax
from onnxtweak.method.solvers.multinomial import one_target
from onnxtweak.method.solvers.standard import mean_and_scale, standardised
from onnxtweak.method.table import Table

# Columns that pursuit looks at: those that promise most before anything is added.
_POOL = 1000
# So many are added one by one; after that, this share of those already chosen at a time.
_SINGLE, _SHARE = 10, 0.25
_RIDGE = 1e-3
# What an uninformative neuron promises on average, in nats over all samples.
_CHANCE = 1.0


def pursued(table: Table, columns: np.ndarray, target: int, count: int) -> np.ndarray:
    """Up to `count` of the columns (K,) for one class, in the order they were added: (k,) int64.

    A column that promises nothing (constant, or a copy of a chosen one) is not added.
    """
    own = table.labels == target
    Z, labels = table.Z, table.labels

    def shifted(Z: np.ndarray, shift: np.ndarray) -> np.ndarray:
        logits = Z.astype(np.float64)
        logits[:, target] += shift
        return np.asarray(softmax(logits)[:, target])

    def promise(pool: np.ndarray, shift: np.ndarray) -> np.ndarray:
        p = in_blocks(shifted, Z, shift)
        h, r = (p * (1 - p)).astype(np.float32)[:, None], (own - p).astype(np.float32)[:, None]
        return scores(ScreeningSums.of_table(pool, r, h))[:, 0]

    def solved(chosen: list[int]) -> np.ndarray:
        found = one_target(
            of_columns(X, np.array(chosen)), Z, labels, target, ridge=_RIDGE, tolerance=1e-7, iterations=20
        )
        return found.scores[:, 0]

    T = of_columns(table.T, columns)
    mean, scale = mean_and_scale(T)
    standard = ((part, standardised(block, mean, 1.0 / scale)) for part, block in blocks(T))
    X = filled(T, standard, len(columns), np.float32)
    shift = one_target(X[:, :0], Z, labels, target, ridge=_RIDGE).scores[:, 0]
    first = promise(X, shift)
    pool = np.argsort(-first, kind="stable")[:_POOL]
    columns, X = columns[pool], of_columns(X, pool)
    chosen: list[int] = []
    while len(chosen) < min(count, len(columns)):
        found = promise(X, shift)
        found[chosen] = 0
        step = 1 if len(chosen) < _SINGLE else int(len(chosen) * _SHARE)
        best = np.argsort(-found, kind="stable")[: min(step, count - len(chosen))]
        best = best[found[best] > _CHANCE]
        if not len(best):
            break
        chosen += best.tolist()
        shift = solved(chosen)
    return columns[chosen]
