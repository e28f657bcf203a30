"""Which operating point, control and gains does a model's head ask for? One label trades, several do not."""

from __future__ import annotations

import numpy as np

from onnxtweak.goal import ResolvedGoal
from onnxtweak.method.tuning.bias_control import best_bias
from onnxtweak.method.tuning.boosted import boost_table, rival_gap
from onnxtweak.method.tuning.label_point import best_thresholds, choose_labels
from onnxtweak.method.tuning.operating_point import OperatingPoint, choose_rising


def choose_point(
    Z: np.ndarray,
    labels: np.ndarray,
    goal: ResolvedGoal,
    prefix: np.ndarray,
    counts: tuple[int, ...],
    scales: tuple[float, ...] | None,
) -> OperatingPoint:
    """n and scale of each target on validation: Z (N, C), labels (N,), or (N, C) marks. Rest: `choose`."""
    if goal.head.several:
        return choose_labels(Z, labels, goal, prefix, counts, scales)
    return choose_rising(boost_table(Z, labels, goal), prefix, counts, scales)


def control_bias(Z: np.ndarray, labels: np.ndarray, goal: ResolvedGoal) -> np.ndarray:
    """The best biases (C,) of the targets alone, for the same goal."""
    return best_thresholds(Z, labels, goal) if goal.head.several else best_bias(boost_table(Z, labels, goal))


def gaps_and_gains(
    Z: np.ndarray, labels: np.ndarray, goal: ResolvedGoal, target: int
) -> tuple[np.ndarray, np.ndarray]:
    """How far each sample is from being shown as a target (its position), and what that would gain.

    Gap (N,) float64. Gain (N,) int64 : 1 where the target is right, -1 where its rival is, else 0.
    """
    if goal.head.several:
        j = goal.targets[target]
        return -Z[:, j].astype(np.float64), np.array([0, -1, 1])[labels[:, j].astype(np.int64) + 1]
    table = boost_table(Z, labels, goal)
    gap, rival = rival_gap(table, np.zeros(table.target_logits.shape), target)
    own = goal.place(labels) == target
    return gap, own.astype(np.int64) - ((labels == rival) & ~own)
