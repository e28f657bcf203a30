"""What would biases alone do? The control that every patch is shown beside (METHOD 3, 8)."""

from __future__ import annotations

import numpy as np

from onnxtweak.goal import ResolvedGoal
from onnxtweak.method.tuning.boosted import BoostTable
from onnxtweak.method.tuning.operating_point import choose
from onnxtweak.theta.line_search import net_gain

# How often the classes take turns at most.
_TURNS = 5


def overall_bias(
    Z: np.ndarray, labels: np.ndarray, goal: ResolvedGoal, weight: np.ndarray | None = None
) -> np.ndarray:
    """Biases (C,) float64, on the targets, with the best overall accuracy. Z (N, C); labels (N,).

    Each is exact while the others stay as they are; the classes take turns until none gains. weight (N,)
    int64 : how much a sample counts; None: all alike.
    """
    logits = Z.astype(np.float64)
    ones, bias = np.ones(len(Z)), np.zeros(Z.shape[1])
    for _ in range(_TURNS):
        total = 0
        for j in goal.targets:
            own = logits[:, j].copy()
            logits[:, j] = -np.inf
            value, rival = goal.head.best(logits)
            gain = (labels == j).astype(np.int64) - (labels == rival)
            gain = gain if weight is None else gain * weight
            step, gained = net_gain(ones, value - own, gain)
            logits[:, j] = own + step
            bias[j] += step
            total += gained
        if not total:
            break
    return bias


def best_bias(table: BoostTable) -> np.ndarray:
    """The control of every claim: the exactly best bias per target for the same goal, (C,) float64."""
    ones = np.ones((len(table.labels), len(table.goal), 1))
    return table.goal.on_all_classes(choose(table, ones, (1,), None).scale, table.classes)
