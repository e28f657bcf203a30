"""Which operating point, control and gains does a model's head ask for? One label trades, several do not."""

from __future__ import annotations

import numpy as np

from onnxtweak.goal import ResolvedGoal
from onnxtweak.method.folds import Arrays, KeptArrays, in_full, kept_of, not_kept
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
    kept: KeptArrays = not_kept,
) -> OperatingPoint:
    """n and scale of each target on validation: Z (N, C), labels (N,), or (N, C) marks. Rest: `choose`.

    kept : as of `Folds`.
    """

    def made() -> Arrays:
        if goal.head.several:
            return choose_labels(Z, labels, goal, prefix, counts, scales).arrays
        return choose_rising(boost_table(Z, labels, goal), prefix, counts, scales).arrays

    what = f"point for {in_full(goal)} of {counts} at {scales}"
    return OperatingPoint.of_arrays(kept_of(kept, what, (Z, labels, prefix), made))


def control_bias(
    Z: np.ndarray, labels: np.ndarray, goal: ResolvedGoal, kept: KeptArrays = not_kept
) -> np.ndarray:
    """The best biases (C,) of the targets alone, for the same goal. kept : as of `Folds`."""

    def made() -> Arrays:
        several = goal.head.several
        found = best_thresholds(Z, labels, goal) if several else best_bias(boost_table(Z, labels, goal))
        return {"bias": found}

    return kept_of(kept, f"control for {in_full(goal)}", (Z, labels), made)["bias"]


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
