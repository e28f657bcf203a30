"""Which threshold is best for each of several labels? An exact search in one dimension, label by label.

Along the bias of a label its F1 changes only where a sample comes to be shown: sorted by score, one sweep
gives all its values. So few samples have a rare label that the best of many cuts is luck; therefore half of
what a sample counts is its mark, and half the calibrated probability that it has the label (METHOD 7.6, 17).
"""

from __future__ import annotations

import numpy as np

from onnxtweak.engine.machine.columns import columns_of
from onnxtweak.method.softmax import sigmoid

# Between scores that are closer, as a fraction of their size, no bias in float32 can decide.
_ROOM = 1e-6


def best_bias(score: np.ndarray, credit: np.ndarray, counts: np.ndarray | None = None) -> float:
    """The bias with the best F1 of one label, the closest to 0 of equals.

    score (n,) : logits. credit (n,) : how much of each sample has the label, 0 to 1. F1 at the k highest is
    2 sum of their credit / (k + sum of all credit). counts (n,) : how often each sample counts; None: once.
    """
    credit = credit if counts is None else credit * counts
    total = float(credit.sum())
    if not len(score) or total <= 0:
        return 0.0
    order = np.argsort(-score, kind="stable")
    falling = score[order].astype(np.float64)
    shown = np.arange(len(score) + 1.0)
    if counts is not None:
        shown[1:] = np.cumsum(counts[order])
    along = 2 * np.append(0.0, np.cumsum(credit[order], dtype=np.float64)) / (shown + total)
    edges = np.concatenate([[falling[0] + 2], falling, [falling[-1] - 2]])
    room = -np.diff(edges) > _ROOM * np.maximum(1.0, np.abs(edges[1:]))
    now = along[np.count_nonzero(falling > 0)]
    best = float(along[room].max(initial=-np.inf))
    if not best > now + 1e-12:
        return 0.0
    middles = -(edges[1:] + edges[:-1])[room & (along >= best - 1e-12)] / 2
    return float(middles[np.abs(middles).argmin()])


def best_biases(
    Z: np.ndarray, marks: np.ndarray, slope: np.ndarray | float = 1.0, shift: np.ndarray | float = 0.0
) -> np.ndarray:
    """`bias_of_label` of each label, (C,) float64, for logits Z (N, C) and marks (N, C).

    slope, shift (C,) : Z slope + shift are calibrated logits.
    """
    each = zip(columns_of(Z), *(np.broadcast_to(one, Z.shape[1]) for one in (slope, shift)), strict=True)
    return np.array(
        [
            bias_of_label(score, marks[:, c], sigmoid((score * a + b).astype(np.float64)))
            for c, (score, a, b) in enumerate(each)
        ]
    )


def bias_of_label(
    score: np.ndarray, marks: np.ndarray, p: np.ndarray, counts: np.ndarray | None = None
) -> float:
    """`best_bias` of one label, by its marks and probabilities.

    score (N,) : logits. marks (N,) : 1, 0, or -1 for what is not known, which is left out. p (N,) :
    probabilities that the label is there.
    """
    known = marks >= 0
    own = None if counts is None else counts[known]
    return best_bias(score[known], (p[known] + (marks[known] == 1)) / 2, own)
