"""Which bias on each target spends a surplus of overall accuracy without trusting luck (METHOD 7.1)?

A patch that improves every class leaves room: each target's logit is raised by an exactly set bias until the
overall accuracy is down to what is allowed. The best of many points looks better than it is (the winner's
curse), so the points are judged on logits of samples that the weights were not fitted to, and have to hold
the limit with a margin of standard errors.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from onnxtweak.engine.machine.large_arrays import by_rows
from onnxtweak.goal import ResolvedGoal
from onnxtweak.method.folds import Arrays
from onnxtweak.method.tuning.bias_path import BiasPaths
from onnxtweak.method.tuning.boosted import BoostTable, boost_table
from onnxtweak.method.tuning.operating_point import as_array, as_trials, choose, rising
from onnxtweak.method.tuning.spared_classes import Ledger, spare
from onnxtweak.types import Trial

# The margin depends on how many samples the point changes, and the point on the margin.
_ROUNDS = 3
# Bisections in the search for the factor on the biases at which no class loses too much.
_HALVINGS = 20


@dataclass(frozen=True)
class BiasChoice:
    """The chosen biases and what they are expected to do.

    bias (C,) float64 : added to the logits. right (N,) bool : samples right under them. holds :
    whether the limit is kept, margin included; False where not even bias 0 keeps it. trials : the curve of
    overall against target accuracy.
    """

    bias: np.ndarray
    right: np.ndarray
    holds: bool
    trials: tuple[Trial, ...]

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All of it, as `of_arrays` reads it."""
        choice = {"bias": self.bias, "right": self.right, "holds": np.array(self.holds)}
        return {**choice, "trials": as_array(self.trials)}

    @classmethod
    def of_arrays(cls, kept: Arrays) -> BiasChoice:
        """What `arrays` gave."""
        return cls(kept["bias"], kept["right"], bool(kept["holds"]), as_trials(kept["trials"]))


def set_target_bias(
    Z: np.ndarray,
    base: np.ndarray,
    labels: np.ndarray,
    goal: ResolvedGoal,
    *,
    margin: float = 1.0,
    only_targets: bool = False,
    groups: np.ndarray | None = None,
) -> BiasChoice:
    """The biases with the best target accuracy that keep the goal's limits.

    Z (N, C) : logits under the patch, each sample's from weights that have not seen it. base (N, C) : without
    the patch. margin : how far the overall accuracy stays above its limit, in standard errors of the
    difference to the base. Where a class would lose more than it may, it gets a bias of its own; with
    `only_targets` all biases are lowered alike instead, until none does. groups (N,) int64 : samples that are
    not independent, so that errors rest on their sums; None: all are.
    """
    sparing = goal.max_class_drop is not None and not only_targets
    ledger = Ledger(Z, base, labels, goal.head, groups) if sparing else None
    limit = _Clearance(labels, margin, groups)
    if goal.all_are_targets(labels):
        return _without_target_bias(Z, base, goal, limit, ledger)
    paths = BiasPaths(boost_table(Z, labels, goal), np.ones((len(labels), len(goal), 1)), (1,))
    found: BiasChoice | None = None
    for drop in rising(goal.max_overall_drop):
        within = replace(goal, max_overall_drop=drop)
        choice = _set_within(paths, (Z, base), within, limit, ledger)
        if found is not None and _behind(choice, found, paths.of_target):
            choice = replace(found, trials=choice.trials)  # who may lose more does not get less
        found = choice
    assert found is not None  # there is one allowance at least
    return found


def _behind(choice: BiasChoice, other: BiasChoice, of_target: np.ndarray) -> bool:
    """Whether another choice that keeps its limit has more target samples right. of_target (N,) bool."""
    if choice.holds != other.holds:
        return other.holds
    return int(choice.right[of_target].sum()) < int(other.right[of_target].sum())


@dataclass(frozen=True, eq=False)
class _Clearance:
    """How far accuracies keep clear of their limits: labels, margin, groups as of `set_target_bias`."""

    labels: np.ndarray
    margin: float
    groups: np.ndarray | None

    def clear(self, was: np.ndarray, now: np.ndarray) -> float:
        """By how much overall. was, now (N,) bool : right."""
        return self.margin * standard_error(was, now, self.groups)


def _set_within(
    paths: BiasPaths,
    logits: tuple[np.ndarray, np.ndarray],
    goal: ResolvedGoal,
    limit: _Clearance,
    ledger: Ledger | None,
) -> BiasChoice:
    """`set_target_bias` for one allowance. logits : Z and base, (N, C). ledger : None: only targets move."""
    table, labels = paths.table, limit.labels
    unbiased, was = (by_rows(goal.head.right, Z, labels) for Z in logits)
    samples = len(labels)
    clear = limit.clear(was, unbiased)
    for _ in range(_ROUNDS if ledger is None else 1):  # with one, no more is wanted of it than the curve
        room = (int(unbiased.sum()) - int(was.sum())) / samples + goal.max_overall_drop / 100 - clear
        within = replace(goal, max_overall_drop=room * 100, max_class_drop=None)
        found = choose(table, paths.prefix, (1,), None, goal=within, paths=paths)
        right = table.right(found.scale)
        clear = max(clear, limit.clear(was, right))
        holds = float(right.mean() - was.mean()) >= -(goal.max_overall_drop / 100 - clear) - 1e-12
        if holds:
            break
    bias = goal.on_all_classes(found.scale, table.classes)
    floor = goal.class_floor(was, labels, table.classes)
    if ledger is not None:
        bias, right, holds = _spared(ledger, goal, limit.margin)
    elif floor is not None:
        lowered, right, spared = sparing_classes(table, found.scale, floor)
        bias, holds = goal.on_all_classes(lowered, table.classes), holds and spared
    moved = (int(was.sum()) - int(unbiased.sum())) / samples * 100
    trials = tuple(Trial(t.n, t.scale, t.drop + moved, t.target) for t in found.trials)
    return BiasChoice(bias, right, holds, trials)


def _without_target_bias(
    Z: np.ndarray, base: np.ndarray, goal: ResolvedGoal, limit: _Clearance, ledger: Ledger | None
) -> BiasChoice:
    """Where all classes are targets: no bias, for the overall accuracy is the targets' accuracy."""
    labels = limit.labels
    was, right = (by_rows(goal.head.right, logits, labels) for logits in (base, Z))
    bias, spared = np.zeros(Z.shape[1]), goal.classes_hold(was, right, labels, Z.shape[1])
    if ledger is not None:
        bias, right, spared = _spared(ledger, goal, limit.margin)
    gained = float(right.mean() - was.mean())
    holds = gained >= limit.clear(was, right) - goal.max_overall_drop / 100 - 1e-12
    trials = Trial(1, 0.0, 0.0, float(was.mean())), Trial(1, 1.0, -gained * 100, float(right.mean()))
    return BiasChoice(bias, right, holds and spared, trials)


def _spared(ledger: Ledger, goal: ResolvedGoal, margin: float) -> tuple[np.ndarray, np.ndarray, bool]:
    """Biases (C,) under which no class loses too much, right (N,) under them, and whether there are such."""
    bias, holds = spare(ledger, goal, margin)
    shown = by_rows(lambda Z: goal.head.predict_biased(Z, bias), ledger.Z)
    return bias, shown == ledger.labels, holds


def sparing_classes(
    table: BoostTable, bias: np.ndarray, floor: np.ndarray
) -> tuple[np.ndarray, np.ndarray, bool]:
    """The biases times the largest factor up to 1 at which no class loses too much.

    Returns the biases (c,), right (N,) under them, and whether there is such a factor. floor (C,) : how many
    samples of each class must be right.
    """

    def tried(factor: float) -> tuple[np.ndarray, bool]:
        right = table.right(bias * factor)
        return right, bool((np.bincount(table.labels[right], minlength=table.classes) >= floor).all())

    low, high = 0.0, 1.0
    right, spared = tried(high)
    if spared:
        return bias, right, True
    for _ in range(_HALVINGS):  # classes that are not targets only lose as the biases grow
        middle = (low + high) / 2
        low, high = (middle, high) if tried(middle)[1] else (low, middle)
    right, spared = tried(low)
    return bias * low, right, spared


def standard_error(was: np.ndarray, now: np.ndarray, groups: np.ndarray | None = None) -> float:
    """Standard error of the difference between two paired accuracies. was, now (N,) bool : samples right.

    groups : as of `error_of_mean`.
    """
    return error_of_mean(now.astype(np.int8) - was.astype(np.int8), groups)


def error_of_mean(values: np.ndarray, groups: np.ndarray | None = None) -> float:
    """Standard error of the mean of values (N,).

    groups (N,) int64 : samples of one group are not independent, and their sums count (the cluster-robust
    error, at least that of independent samples); None: all are.
    """
    if not len(values):
        return 0.0
    alone = float(values.std() / np.sqrt(len(values)))
    if groups is None:
        return alone
    _, own = np.unique(groups, return_inverse=True)
    sums = np.bincount(own, values - values.mean())
    if len(sums) < 2:
        return float("inf") if alone else 0.0  # one group is one observation
    return max(alone, float(np.sqrt((sums**2).sum() * len(sums) / (len(sums) - 1)) / len(values)))
