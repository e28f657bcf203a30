"""Which biases of all classes are best for a metric (METHOD 7.6)? An exact search, one class after the other.

Along the bias of one class a metric changes only where a sample turns to that class: with these places
sorted, one sweep gives all its values. What biases do is judged on samples that they were not set on.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from onnxtweak.goal import ResolvedGoal
from onnxtweak.head import Head
from onnxtweak.method.temperature import calibrated
from onnxtweak.method.tuning.target_bias import standard_error
from onnxtweak.metric.kinds import ConfusionMetric, Metric, Overall, Predictions
from onnxtweak.metric.rate import RecallAt

# How often the classes take turns at most.
_TURNS = 5
# How much of the metric is sought, the rest being accuracy: less where the drops allowed are not kept.
_SHARES = (1.0, 0.75, 0.5, 0.25, 0.0)
_ACCURACY = Overall("overall", "accuracy")
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


def metric_bias(
    Z: np.ndarray, labels: np.ndarray, metric: ConfusionMetric, head: Head, share: float = 1.0
) -> np.ndarray:
    """Biases (C,) float64 with the best metric. Z (N, C); labels (N,) int64.

    Each is exact while the others stay as they are; the classes take turns until none gains. share : of the
    metric in what is sought, beside the accuracy.
    """
    logits, classes = Z.astype(np.float64), Z.shape[1]
    bias = np.zeros(classes)
    movable = range(classes) if classes > 2 else [1]
    for _ in range(_TURNS):
        gained = False
        for j in movable:
            own = logits[:, j].copy()
            logits[:, j] = -np.inf
            value, rival = head.best(logits)
            gap = value - own
            order = np.argsort(gap, kind="stable")
            turned = labels[order], rival[order], j, classes
            along = share * metric.along(*turned) + (1 - share) * _ACCURACY.along(*turned)
            step = _best_step(gap[order], along)
            logits[:, j] = own + step
            bias[j] += step
            gained |= step != 0
        if not gained:
            break
    return bias


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
    Z: np.ndarray, base: np.ndarray, labels: np.ndarray, goal: ResolvedGoal, fold: np.ndarray, margin: float
) -> TunedBias:
    """The best biases for the goal's metric within its limits.

    Z (N, C) : logits under a patch, held out, or the base's own. base (N, C) : without a patch. fold (N,)
    int : samples that are held out together from biases. margin : standard errors by which to stay clear of
    a limit.
    """
    metric = goal.metric
    assert metric is not None  # this is what is tuned for
    if isinstance(metric, RecallAt):
        return _at_limit(Z, labels, metric, fold, NormalDist().cdf(margin))
    assert isinstance(metric, ConfusionMetric)
    was, credit = goal.head.right(base, labels), _credit(Z, labels)
    found = [_judged(np.zeros(Z.shape[1]), Z, credit, metric, goal, (was, labels, margin))]
    for share in _SHARES:
        bias = metric_bias(Z, labels, metric, goal.head, share)
        held_out = Z.copy()
        for k in np.unique(fold):
            rest, out = fold != k, fold == k
            shift = metric_bias(Z[rest], labels[rest], metric, goal.head, share)
            held_out[out] += shift.astype(Z.dtype)
        found.append(_judged(bias, held_out, credit, metric, goal, (was, labels, margin)))
        if found[-1].holds:
            break
    return max(found, key=lambda one: (one.holds, one.rating))


def _judged(
    bias: np.ndarray,
    held_out: np.ndarray,
    credit: np.ndarray,
    metric: ConfusionMetric,
    goal: ResolvedGoal,
    facts: tuple[np.ndarray, np.ndarray, float],
) -> TunedBias:
    """facts : which samples the base has right (N,) bool, labels (N,), margin."""
    was, labels, margin = facts
    predicted = goal.head.predict(held_out)
    right = predicted == labels
    gained = float(right.mean() - was.mean()) + goal.max_overall_drop / 100
    holds = gained >= margin * standard_error(was, right) - 1e-12
    holds = holds and goal.classes_hold(was, right, labels, held_out.shape[1])
    return TunedBias(bias, held_out, metric.sign * metric.smooth(credit, predicted), holds)


def _at_limit(
    Z: np.ndarray, labels: np.ndarray, metric: RecallAt, fold: np.ndarray, level: float
) -> TunedBias:
    """The bias of class 1 that puts the cut where new samples keep the limit, which is the only one."""
    cut, held_out = metric.cut(Z, labels, level), Z.copy()
    if cut is None:
        return TunedBias(np.zeros(2), Z, -np.inf, False)
    for k in np.unique(fold):
        rest = fold != k
        own = metric.cut(Z[rest], labels[rest], level)
        held_out[fold == k, 1] -= Z.dtype.type(cut if own is None else own)
    now = Predictions(labels, held_out.argmax(axis=1), held_out)
    return TunedBias(np.array([0.0, -cut]), held_out, metric.at_cut(now)[0], True)


def _credit(Z: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(N, C): of which class each sample is, half by its label and half by calibrated probabilities."""
    credit, _ = calibrated(Z, labels)
    credit /= 2
    credit[np.arange(len(labels)), labels] += 0.5
    return credit


def predictions(Z: np.ndarray, labels: np.ndarray, head: Head) -> Predictions:
    """What logits (N, C) say."""
    return Predictions(labels, head.predict(Z), Z)


def rating(metric: Metric, made: Predictions) -> float:
    """The metric, higher is better; of decisions where it has a limit."""
    return metric.at_cut(made)[0] if isinstance(metric, RecallAt) else metric.sign * metric.value(made)
