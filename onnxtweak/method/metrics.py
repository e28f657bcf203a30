"""How good are predictions, and did a change do more good than harm? Accuracies, metrics, E, McNemar."""

from __future__ import annotations

import math

import numpy as np

from onnxtweak.data.groups import Groups
from onnxtweak.engine.machine.large_arrays import by_rows
from onnxtweak.goal import ResolvedGoal
from onnxtweak.head import Decisions
from onnxtweak.intervals import Interval, wilson
from onnxtweak.method.table import Table
from onnxtweak.metric.bootstrap import interval, resampled
from onnxtweak.metric.kinds import Metric, Predictions
from onnxtweak.metric.rate import Recall, RecallAt
from onnxtweak.metric.several import label_metrics
from onnxtweak.sample_counts import GroupedSamples
from onnxtweak.types import AtCut, GroupMetrics, MetricChange, MetricReading, Metrics, Trial

# With fewer samples the interval of an accuracy is some 30 points wide or more.
_FEW = 30


def measure(predicted: np.ndarray, labels: np.ndarray, goal: ResolvedGoal, Z: np.ndarray) -> Metrics:
    """Metrics of predictions (N,) against labels (N,), both int in [0, C). Z (N, C) : scores.

    A prediction of -1, none of the classes, is wrong, and in no column of the confusion. Of several labels at
    once, both (N, C) marks, `LabelMetrics`.
    """
    if goal.head.several:
        return label_metrics(Predictions(labels, predicted, Z), goal.targets)
    classes = Z.shape[1]
    confusion = np.zeros((classes, classes), np.int64)
    known = predicted >= 0
    np.add.at(confusion, (labels[known], predicted[known]), 1)
    support, right = np.bincount(labels, minlength=classes), confusion.diagonal()
    wanted = goal.wanted(np.arange(classes))
    return Metrics(
        samples=len(labels),
        overall=_share(right.sum(), support.sum()),
        target=_share(right[wanted].sum(), support[wanted].sum()),
        per_class=np.array([_share(r, s) for r, s in zip(right, support, strict=True)]),
        confusion=confusion,
    )


def measure_groups(decided: Decisions, groups: Groups, column: str) -> tuple[GroupMetrics, ...]:
    """How well each group does, worst first; of equals the largest. decided : of the samples."""
    codes = groups.codes[decided.of]
    samples = np.bincount(codes, minlength=len(groups.names))
    correct = np.bincount(codes[decided.right], minlength=len(groups.names))
    seen = np.flatnonzero(samples)
    order = seen[np.lexsort((seen, -samples[seen], correct[seen] / samples[seen]))]
    found = []
    for group, k, n in zip(order.tolist(), correct[order].tolist(), samples[order].tolist(), strict=True):
        interval = wilson(k, n)
        assert interval is not None  # it has samples
        found.append(GroupMetrics(column, groups.names[group], n, k, k / n, interval, n < _FEW))
    return tuple(found)


def before_and_after(table: Table, tweaked: np.ndarray, goal: ResolvedGoal, n: int) -> tuple[Trial, Trial]:
    """The base and logits tweaked (N, C) as trials of the goal's targets."""
    before, after = (
        measure(by_rows(goal.head.predict, Z), table.labels, goal, Z) for Z in (table.Z, tweaked)
    )
    drop = (before.overall - after.overall) * 100
    return Trial(0, 0.0, 0.0, before.target), Trial(n, 1.0, drop, after.target)


def read_metric(metric: Metric, made: Predictions, groups: np.ndarray | None = None) -> MetricReading:
    """A metric of one model. groups (N,) int64 : samples that are not independent; None: all are."""
    found = interval(resampled(metric, [made], groups)[:, 0])
    return reading_of(metric, made, found, groups)


def metric_change(
    metric: Metric, made: tuple[Predictions, Predictions, Predictions], groups: np.ndarray | None = None
) -> MetricChange:
    """What became of a metric. made : of the base, of the patched model, and of the base with best biases."""
    drawn = resampled(metric, made, groups)
    before, after, bias = (
        reading_of(metric, each, interval(values), groups) for each, values in zip(made, drawn.T, strict=True)
    )
    points = 100 * metric.sign
    ahead, more = after.value - bias.value, drawn[:, 1] - drawn[:, 2]
    limit: tuple[str, float, bool] = ("", 1.0, True)
    if isinstance(metric, RecallAt):
        found = resampled(Recall(), made[1:], groups)
        own = [Recall().value(each) for each in made[1:]]
        ahead, more = own[0] - own[1], found[:, 0] - found[:, 1]
        limit = (metric.promise, metric.limit, metric.kind == "fpr")
    return MetricChange(
        before,
        after,
        bias,
        points * (after.value - before.value),
        interval(points * (drawn[:, 1] - drawn[:, 0])),
        points * ahead,
        interval(points * more),
        *limit,
    )


def reading_of(
    metric: Metric, made: Predictions, found: Interval | None = None, groups: np.ndarray | None = None
) -> MetricReading:
    """A metric of one model. found : its interval, where one is known. groups : as of `read_metric`."""
    at_cut = None
    if isinstance(metric, RecallAt):
        recall, false, samples = metric.at_cut(made)
        kept = samples == 0 or false <= metric.most * samples + 1e-9
        right = false if metric.kind == "fpr" else samples - false
        rate = _share(right, samples)
        own = made.labels == 0 if metric.kind == "fpr" else made.predicted == 1
        wrong = ((made.labels == 0) & (made.predicted == 1)).astype(np.int64)
        effect = 1.0 if groups is None else GroupedSamples(groups, wrong, wrong).effect(own)
        between = wilson(right / effect, samples / effect)
        at_cut = AtCut(recall, rate, between, false, samples, kept)
    return MetricReading(metric.name, metric.title, metric.value(made), found, metric.sign, at_cut)


def _share(part: int, whole: int) -> float:
    return float(part) / float(whole) if whole else math.nan


def harm(before: Metrics, after: Metrics) -> float:
    """E (Eq. 3.3, METHOD 8) in percentage points: root mean square over all classes of what each lost."""
    change = np.nan_to_num(after.per_class - before.per_class)
    return float(np.sqrt(np.mean(np.minimum(change, 0.0) ** 2)) * 100)


def fixed_and_broken(was: np.ndarray, now: np.ndarray) -> tuple[int, int]:
    """Decisions that became right, and those that became wrong. was, now (M,) bool : which are right."""
    return int((~was & now).sum()), int((was & ~now).sum())


def mcnemar(fixed: int, broken: int) -> float:
    """Exact two-sided McNemar p-value: fixed ~ Binomial(fixed + broken, 1/2) under no effect."""
    n, k = fixed + broken, min(fixed, broken)
    if n == 0:
        return 1.0
    # In logarithms: 2^-n underflows at the thousands of changes that large test sets give.
    terms = [math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) for i in range(k + 1)]
    top = max(terms)
    tail = math.exp(top - n * math.log(2)) * math.fsum(math.exp(term - top) for term in terms)
    return min(1.0, 2.0 * tail)
