"""Which few neurons are enough (METHOD 7.2, orthogonal matching pursuit)?

Neurons are added a batch at a time: those that promise most given what the ones before have already put
right, after which all weights are solved anew.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxtweak.method.fit_linear import Candidate, log_loss
from onnxtweak.method.screen import Sums, scores
from onnxtweak.method.solve import multinomial
from onnxtweak.method.table import Table
from onnxtweak.types import Linear

# Few rounds: within one, neurons that tell the same are both taken.
_ROUNDS = 10
RIDGES = (0.1, 0.01, 1e-3)


def fit_small(
    table: Table,
    columns: np.ndarray,
    budget: int,
    fold: np.ndarray,
    *,
    judged: np.ndarray | None = None,
    ridges: Sequence[float] = RIDGES,
) -> Candidate:
    """A linear patch of all classes with at most `budget` numbers: weights and biases.

    The neurons are chosen anew for every fold, so that the held-out logits know nothing of their samples.
    """
    judged = np.ones(len(table.labels), bool) if judged is None else judged
    free = np.unique(table.labels)
    count = min(max(budget // len(free) - 1, 0), len(columns))
    best = None
    for ridge in ridges:
        logits = table.Z.copy()
        for k in np.unique(fold):
            chosen = columns[pursue(table.columns(columns).rows(np.flatnonzero(fold != k)), count, ridge)]
            found = multinomial(
                table.T[:, chosen],
                table.Z,
                table.labels,
                ridge=ridge,
                free=free,
                sample_weight=(fold != k).astype(np.float64),
                tolerance=1e-6,
            )
            rows = np.flatnonzero(fold == k)
            logits[np.ix_(rows, free)] += found.scores[rows].astype(logits.dtype)
        loss = log_loss(logits[judged], table.labels[judged])
        if best is None or loss < best[0]:
            best = loss, ridge, logits
    loss, ridge, logits = best
    chosen = columns[pursue(table.columns(columns), count, ridge)]
    whole = multinomial(table.T[:, chosen], table.Z, table.labels, ridge=ridge, free=free)
    weight, bias = np.zeros((count, table.Z.shape[1])), np.zeros(table.Z.shape[1])
    weight[:, free], bias[free] = whole.weight, whole.bias
    return Candidate(
        f"{count} neurons by pursuit, ridge {ridge:g}", chosen, Linear(weight, bias), logits, loss
    )


def pursue(table: Table, count: int, ridge: float) -> np.ndarray:
    """`count` columns (count,) int64 of a table, each batch chosen on what the last ones left wrong."""
    chosen = np.empty(0, np.int64)
    free = np.unique(table.labels)
    squared = table.T * table.T
    for step in np.array_split(np.arange(count), min(_ROUNDS, max(count, 1))):
        if not len(step):
            continue
        found = multinomial(table.T[:, chosen], table.Z, table.labels, ridge=ridge, free=free, tolerance=1e-4)
        logits = table.Z.astype(np.float64)
        logits[:, free] += found.scores
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        h = (p * (1 - p)).astype(np.float32)
        r = -p.astype(np.float32)
        r[np.arange(len(r)), table.labels] += 1
        sums = Sums(
            table.T.T @ r, squared.T @ h, table.T.T @ h, h.sum(axis=0), np.zeros(table.T.shape[1], bool)
        )
        promise = scores(sums).sum(axis=1)
        promise[chosen] = -1
        chosen = np.concatenate([chosen, np.argsort(-promise, kind="stable")[: len(step)]])
    return np.sort(chosen)
