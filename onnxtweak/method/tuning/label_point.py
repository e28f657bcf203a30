"""At which n and scale does each of several labels do best? By its F1 on validation (METHOD 17).

What is added to one label's logit changes the decisions on no other, so that no label pays for another. The
base itself, scale 0, is always among the points: none does worse on validation than it did.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxtweak.goal import ResolvedGoal
from onnxtweak.method.temperature import calibrate_labels
from onnxtweak.method.tuning.label_bias import best_biases
from onnxtweak.method.tuning.operating_point import OperatingPoint
from onnxtweak.metric.several import f1_of
from onnxtweak.theta.line_search import plateaus
from onnxtweak.types import Trial


def choose_labels(
    Z: np.ndarray,
    marks: np.ndarray,
    goal: ResolvedGoal,
    prefix: np.ndarray,
    counts: Sequence[int],
    scales: Sequence[float] | None,
) -> OperatingPoint:
    """The n and scale of each target label with the best F1; of equals the smaller scale, then the smaller n.

    Z (N, C) : logits. marks (N, C) : 1, 0, -1. prefix (N, c, G), counts, scales : as of `choose`; without
    scales the exact best along each boost.
    """
    before = f1_of(goal.head.predict(Z), marks)
    n, scale, f1 = np.full(len(goal), counts[0]), np.zeros(len(goal)), before[goal.targets]
    after = np.zeros((len(goal), len(counts), 0 if scales is None else len(scales)))
    for t, j in enumerate(goal.targets):
        own = Z[:, j], marks[:, j]
        for g, count in enumerate(counts):
            boost = prefix[:, t, g] / count
            tried = _best_along(*own, boost) if scales is None else scales
            for k, size in enumerate(tried):
                reached = _f1(*own, boost * size)
                if scales is not None:
                    after[t, g, k] = reached
                if (reached, -size, -count) > (f1[t], -scale[t], -n[t]):
                    n[t], scale[t], f1[t] = count, size, reached
    present = max(int((marks == 1).any(axis=0).sum()), 1)

    def trial(count: int, size: float, reached: np.ndarray) -> Trial:
        drop = (before[goal.targets] - reached).sum() / present * 100
        return Trial(int(count), float(size), float(drop), float(reached.mean()))

    points = [(g, k) for g in range(len(counts)) for k in range(after.shape[2])]
    grid = (trial(counts[g], (scales or ())[k], after[:, g, k]) for g, k in points)
    base, chosen = trial(counts[0], 0.0, before[goal.targets]), trial(n[0], scale[0], f1)
    return OperatingPoint(n, scale, (base, chosen) if f1.mean() > base.target else (base,), tuple(grid))


def _f1(z: np.ndarray, marks: np.ndarray, boost: np.ndarray) -> float:
    """F1 of one label with a boost (N,), added in the logits' own precision."""
    shown = z + boost.astype(z.dtype) > 0
    return float(f1_of(shown[:, None], marks[:, None])[0])


def _best_along(z: np.ndarray, marks: np.ndarray, boost: np.ndarray) -> list[float]:
    """The scale of the best F1 along a boost: that changes only where a sample comes to be shown, or not."""
    known, there = marks >= 0, marks == 1
    found = plateaus(boost, -z.astype(np.float64), np.where(there, 1, -1) * known, there.astype(np.int64))
    shown = (z > 0) & known
    hit, taken = int((shown & there).sum()), int(shown.sum())
    # A sample that comes to be shown is either a hit, or false: `overall` counts hits less false ones.
    along = 2 * (hit + found.target) / np.maximum(taken + 2 * found.target - found.overall + there.sum(), 1)
    return [float(found.scale[along.argmax()])]


def best_thresholds(Z: np.ndarray, marks: np.ndarray, goal: ResolvedGoal) -> np.ndarray:
    """The control: the bias of each target label with the best F1, (C,) float64; 0 for other labels.

    Half of what a sample counts is its mark, half its calibrated probability (section 17).
    """
    slope, shift = calibrate_labels(Z, marks)
    bias = best_biases(Z, marks, slope, shift)
    return goal.on_all_classes(bias[goal.targets], Z.shape[1])
