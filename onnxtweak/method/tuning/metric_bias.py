"""Which biases of all classes are best for a metric (METHOD 7.6)? An exact search, one class after the other.

Along the bias of one class a metric changes only where a sample turns to that class: with these places
sorted, one sweep gives all its values. What biases do is judged on samples that they were not set on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from statistics import NormalDist

import numpy as np

from onnxtweak.engine.machine.large_arrays import (
    by_rows,
    chosen_rows,
    copied,
    let_go,
    light_blocks,
    light_parts,
    rows_of_columns,
    sums_by_rows,
    transposed,
)
from onnxtweak.engine.machine.single_thread import side_by_side
from onnxtweak.goal import ResolvedGoal
from onnxtweak.head import Head
from onnxtweak.method.folds import Arrays
from onnxtweak.method.temperature import calibrated
from onnxtweak.method.tuning.target_bias import standard_error
from onnxtweak.metric.kinds import ConfusionMetric, Metric, Overall, Predictions
from onnxtweak.metric.rate import RecallAt

# How often the classes take turns at most, and where there are more logits than this.
_TURNS, _MANY, _FEW_TURNS = 5, 4_000_000, 2
# How much of the metric is sought, the rest being accuracy, and how strong the biases are: less where the
# drops allowed are not kept.
_SHARES, _STRENGTHS = (1.0, 0.75, 0.5, 0.25, 0.0), (1.0, 0.75, 0.5, 0.25, 0.1)
_ACCURACY = Overall("overall", "accuracy")
# Folds at a time: each copies its part of the logits.
_AT_ONCE = 2
# Between logits that are closer, as a fraction of their size, no bias in float32 can decide.
_ROOM = 1e-6


@dataclass(frozen=True, eq=False)
class TunedBias:
    """Biases for a metric, and what they do.

    bias (C,) float64. held_out (N, C) : logits of each sample with biases that were set without it. rating :
    the metric of those, higher is better, made smooth where it is one of decisions. holds : whether they keep
    the goal's limits.
    """

    bias: np.ndarray
    held_out: np.ndarray
    rating: float
    holds: bool

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All of it, as `of_arrays` reads it."""
        return {name: np.asarray(value) for name, value in vars(self).items()}

    @classmethod
    def of_arrays(cls, kept: Arrays) -> TunedBias:
        """What `arrays` gave."""
        return cls(kept["bias"], kept["held_out"], float(kept["rating"]), bool(kept["holds"]))


def metric_bias(
    Z: np.ndarray,
    labels: np.ndarray,
    metric: ConfusionMetric,
    head: Head,
    share: float = 1.0,
    begin: np.ndarray | None = None,
) -> np.ndarray:
    """Biases (C,) float64 with the best metric. Z (N, C); labels (N,) int64.

    Each is exact while the others stay as they are; the classes take turns until none gains. share : of the
    metric in what is sought, beside the accuracy. begin (C,) : biases for nearly the same; None: none.
    """
    classes = Z.shape[1]
    bias = np.zeros(classes) if begin is None else begin.copy()
    leaders = _Leaders(by_rows(lambda Z: Z + bias, Z), head)
    movable = range(classes) if classes > 2 else [1]
    turns, settled = _TURNS if Z.size <= _MANY else _FEW_TURNS, 0
    for j in islice(cycle(movable), turns * len(movable)):
        value, rival = leaders.without(j)
        gap = value - leaders.columns[j]
        let_go(leaders.columns[j])
        order = np.argsort(gap)  # no step parts samples that turn at once, so that any order of them will do
        step = _best_step(gap[order], _mixed(metric, share, labels[order], rival[order], j, classes))
        if step:
            leaders.raise_class(j, step)
            bias[j] += step
        settled = 0 if step else settled + 1
        if settled == len(movable):  # none gains where all others are now
            break
    return bias


def _mixed(
    metric: ConfusionMetric, share: float, labels: np.ndarray, rival: np.ndarray, j: int, classes: int
) -> np.ndarray:
    """What is sought while samples turn to class j, as of `ConfusionMetric.along`. share : of the metric."""
    along = np.zeros(len(labels) + 1)
    for one, part in ((metric, share), (_ACCURACY, 1 - share)):
        if part:
            along += part * one.along(labels, rival, j, classes)
    return along


class _Leaders:
    """The two best classes of each sample, while the logits of one class after the other are moved.

    columns (C, N) float64 : logits as they are now, where Z lies. best, value (2, N) : the best class and the
    next, and their logits.
    """

    def __init__(self, Z: np.ndarray, head: Head) -> None:
        """Z (N, C) float64."""
        self.columns, self.head = transposed(Z), head
        self.best: np.ndarray = np.empty((2, len(Z)), np.int64)
        self.value: np.ndarray = np.empty((2, len(Z)))
        for part, block in light_blocks(Z):
            self._look(part, block.copy())

    def without(self, j: int) -> tuple[np.ndarray, np.ndarray]:
        """The best class but j: its logit (N,) and number (N,)."""
        own = self.best[0] == j
        return np.where(own, *self.value[::-1]), np.where(own, *self.best[::-1])

    def raise_class(self, j: int, step: float) -> None:
        """Move the logits of class j; only where it leads, or comes to lead, is anything found anew."""
        self.columns[j] += step
        near = (self.best == j).any(axis=0) | (self.columns[j] >= self.value[1])
        rows = np.flatnonzero(near)
        for part in light_parts(rows, self.columns.T):
            own = rows[part]
            self._look(own, rows_of_columns(self.columns, own))

    def _look(self, rows: slice | np.ndarray, logits: np.ndarray) -> None:
        """Find the two best of some samples, of which these are the logits (n, C), to be written over."""
        for place in range(2):
            best = self.head.predict(logits)
            self.best[place, rows], self.value[place, rows] = best, logits[np.arange(len(best)), best]
            logits[np.arange(len(best)), best] = -np.inf


def _best_step(gap: np.ndarray, along: np.ndarray) -> float:
    """The smallest step that is in the middle of a best plateau; 0 where none is better than where it is.

    gap (N,) ascending : where samples turn. along (N + 1,) : the metric before, between and after them.
    """
    edges = np.concatenate([[gap[0] - 2], gap, [gap[-1] + 2]])
    room = np.diff(edges) > _ROOM * np.maximum(np.abs(edges[1:]), np.abs(edges[:-1]))
    now = along[np.searchsorted(gap, 0.0)]
    best = along[room].max(initial=-np.inf)
    if not best > now + 1e-12:
        return 0.0
    middles = (edges[1:] + edges[:-1])[room & (along >= best - 1e-12)] / 2
    return float(middles[np.abs(middles).argmin()])


def tune(
    Z: np.ndarray,
    base: np.ndarray,
    labels: np.ndarray,
    goal: ResolvedGoal,
    fold: np.ndarray,
    margin: float,
    groups: np.ndarray | None = None,
) -> TunedBias:
    """The best biases for the goal's metric within its limits.

    Z (N, C) : logits under a patch, held out, or the base's own. base (N, C) : without a patch. fold (N,)
    int : samples that are held out together from biases. margin : standard errors by which to stay clear of
    a limit. groups (N,) int64 : samples that are not independent; None: all are.
    """
    metric = goal.metric
    assert metric is not None  # this is what is tuned for
    if isinstance(metric, RecallAt):
        return _at_limit(Z, labels, metric, fold, NormalDist().cdf(margin), groups)
    assert isinstance(metric, ConfusionMetric)
    credit, nothing = calibrated(Z, labels).credit(labels), np.zeros(Z.shape[1])
    support = sums_by_rows(lambda credit: credit, credit, kind=credit.dtype)
    limits = _Limits(goal, by_rows(goal.head.right, base, labels), labels, margin, groups)
    folds, place = np.unique(fold, return_inverse=True)

    def judged(bias: np.ndarray, shifts: np.ndarray) -> TunedBias:
        """shifts (folds, C) : the biases of the samples of each, set without them."""
        own = shifts.astype(Z.dtype)
        held_out = by_rows(lambda Z, place: Z + own[place], Z, place)
        predicted = by_rows(goal.head.predict, held_out)
        holds = limits.hold(predicted)
        rating = metric.sign * metric.smooth(by_rows(metric.part, credit, predicted), predicted, support)
        return TunedBias(bias, held_out, rating, holds)

    def without(share: float, of: tuple[int, np.ndarray]) -> np.ndarray:
        """Biases (C,) that have not seen a fold, from those for the share before."""
        rest = fold != of[0]
        return metric_bias(chosen_rows(Z, rest), labels[rest], metric, goal.head, share, of[1])

    bias, of_fold = nothing, [nothing for _ in folds]
    best = judged(bias, np.stack(of_fold))
    for share in _SHARES:  # each from the biases for the last one, on the same samples
        bias = metric_bias(Z, labels, metric, goal.head, share, bias)
        # On new samples the biases would not do better than on those that they were set on.
        held = [s for s in _STRENGTHS if limits.hold(_predicted(Z, bias * s, goal.head))]
        if not held:
            continue
        begun = zip(folds, of_fold, strict=True)
        of_fold = list(side_by_side(partial(without, share), begun, _AT_ONCE))
        shifts = np.stack(of_fold)
        for strength in held:
            found = judged(bias * strength, shifts * strength)
            if (found.holds, found.rating) > (best.holds, best.rating):
                best = found
            if found.holds:
                break
        if found.holds and strength == 1:
            break
    return best


@dataclass(frozen=True, eq=False)
class _Limits:
    """The drops that a goal allows. was (N,) bool : what the base has right. margin : standard errors.

    groups : as of `tune`.
    """

    goal: ResolvedGoal
    was: np.ndarray
    labels: np.ndarray
    margin: float
    groups: np.ndarray | None

    def hold(self, predicted: np.ndarray) -> bool:
        """Whether predictions (N,) keep them."""
        right = predicted == self.labels
        gained = float(right.mean() - self.was.mean()) + self.goal.max_overall_drop / 100
        enough = gained >= self.margin * standard_error(self.was, right, self.groups) - 1e-12
        given = self.labels, int(self.labels.max(initial=0)) + 1, self.margin, self.groups
        return enough and self.goal.classes_hold(self.was, right, *given)


def _at_limit(
    Z: np.ndarray,
    labels: np.ndarray,
    metric: RecallAt,
    fold: np.ndarray,
    level: float,
    groups: np.ndarray | None,
) -> TunedBias:
    """The bias of class 1 that puts the cut where new samples keep the limit, which is the only one."""
    cut, held_out = metric.cut(Z, labels, level, groups), copied(Z)
    if cut is None:
        return TunedBias(np.zeros(2), Z, -np.inf, False)
    for k in np.unique(fold):
        rest = fold != k
        own = metric.cut(chosen_rows(Z, rest), labels[rest], level, None if groups is None else groups[rest])
        held_out[fold == k, 1] -= Z.dtype.type(cut if own is None else own)
    let_go(held_out)
    now = Predictions(labels, by_rows(lambda Z: Z.argmax(axis=1), held_out), held_out)
    return TunedBias(np.array([0.0, -cut]), held_out, metric.at_cut(now)[0], True)


def _predicted(Z: np.ndarray, bias: np.ndarray, head: Head) -> np.ndarray:
    """The classes (N,) that logits (N, C) show with biases (C,)."""
    return by_rows(lambda Z: head.predict_biased(Z, bias), Z)


def predictions(Z: np.ndarray, labels: np.ndarray, head: Head) -> Predictions:
    """What logits (N, C) say."""
    return Predictions(labels, by_rows(head.predict, Z), Z)


def rating(metric: Metric, made: Predictions) -> float:
    """The metric, higher is better; of decisions where it has a limit."""
    return metric.at_cut(made)[0] if isinstance(metric, RecallAt) else metric.sign * metric.value(made)
