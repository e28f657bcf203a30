"""How is a surplus of overall accuracy spent on the targets, without believing lucky counts (METHOD 7.1)?

A patch that improves every class leaves room: each target's logit is raised by an exactly set bias until the
overall accuracy is down to what is allowed. The best of many points looks better than it is (the winner's
curse), so the points are judged on logits of samples that the weights were not fitted to, and have to hold
the limit with a margin of standard errors.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from onnxtweak.goal import Goal
from onnxtweak.method.tuning.bias_path import BiasPaths
from onnxtweak.method.tuning.boosted import BoostTable, boost_table
from onnxtweak.method.tuning.operating_point import choose
from onnxtweak.types import Trial

# The margin depends on how many samples the point changes, and the point on the margin.
_ROUNDS = 3
# Of the factor on the biases that spares every class.
_HALVINGS = 20


@dataclass(frozen=True)
class BiasChoice:
    """The chosen biases and what they are expected to do.

    bias (c,) : added to the target logits. right (N,) bool : samples right under them. holds : whether the
    limit is kept, margin included; where not even bias 0 keeps it this is False. trials : of the curve.
    """

    bias: np.ndarray
    right: np.ndarray
    holds: bool
    trials: tuple[Trial, ...]


def set_target_bias(
    Z: np.ndarray, base: np.ndarray, labels: np.ndarray, goal: Goal, *, margin: float = 1.0
) -> BiasChoice:
    """The biases with the best target accuracy that keep the goal's limits.

    Z (N, C) : logits under the patch, each sample's from weights that have not seen it. base (N, C) : without
    the patch. margin : standard errors of the difference to the base that the overall accuracy keeps clear of
    its limit. Where a class would lose more than it may, all biases are lowered alike until none does.
    """
    samples = len(labels)
    was, here = (goal.head.right(logits, labels) for logits in (base, Z))
    if goal.nobody_else(labels):
        return _without_bias(was, here, labels, goal, margin, Z.shape[1])
    table = boost_table(Z, labels, goal)
    ones = np.ones((samples, len(goal), 1))
    lines = BiasPaths(table, ones, (1,))
    clear = margin * standard_error(was, here)
    for _ in range(_ROUNDS):
        limit = goal.max_overall_drop / 100 - clear
        room = (int(here.sum()) - int(was.sum())) / samples + limit
        within = replace(goal, max_overall_drop=room * 100, max_class_drop=None)
        found = choose(table, ones, (1,), None, goal=within, lines=lines)
        right = table.right(found.scale)
        clear = max(clear, margin * standard_error(was, right))
        holds = float(right.mean() - was.mean()) >= -(goal.max_overall_drop / 100 - clear) - 1e-12
        if holds:
            break
    bias = found.scale
    floor = goal.class_floor(was, labels, Z.shape[1])
    if floor is not None:
        bias, right, kept = _sparing_classes(table, bias, floor)
        holds = holds and kept
    moved = (int(was.sum()) - int(here.sum())) / samples * 100
    trials = tuple(Trial(t.n, t.scale, t.drop + moved, t.target) for t in found.trials)
    return BiasChoice(bias, right, holds, trials)


def _without_bias(
    was: np.ndarray, right: np.ndarray, labels: np.ndarray, goal: Goal, margin: float, classes: int
) -> BiasChoice:
    """All classes are targets: no bias, and the overall accuracy is the targets'."""
    gained = float(right.mean() - was.mean())
    holds = gained >= margin * standard_error(was, right) - goal.max_overall_drop / 100 - 1e-12
    spared = goal.classes_hold(was, right, labels, classes)
    trials = Trial(1, 0.0, 0.0, float(was.mean())), Trial(1, 1.0, -gained * 100, float(right.mean()))
    return BiasChoice(np.zeros(len(goal)), right, holds and spared, trials)


def _sparing_classes(
    table: BoostTable, bias: np.ndarray, floor: np.ndarray
) -> tuple[np.ndarray, np.ndarray, bool]:
    """The largest multiple of the biases that spares every class; right (N,) under it; whether it does.

    floor (C,) : samples of each class that must be right.
    """

    def tried(factor: float) -> tuple[np.ndarray, bool]:
        right = table.right(bias * factor)
        return right, bool((np.bincount(table.labels[right], minlength=table.classes) >= floor).all())

    low, high = 0.0, 1.0
    right, kept = tried(high)
    if kept:
        return bias, right, True
    for _ in range(_HALVINGS):  # classes that are no target only lose as the biases grow
        middle = (low + high) / 2
        low, high = (middle, high) if tried(middle)[1] else (low, middle)
    right, kept = tried(low)
    return bias * low, right, kept


def standard_error(was: np.ndarray, now: np.ndarray) -> float:
    """Of the difference between two paired accuracies; was, now (N,) bool."""
    difference = now.astype(np.int8) - was.astype(np.int8)
    return float(difference.std() / np.sqrt(max(len(was), 1)))
