"""How good are decisions on several labels at once? F1 and average precision of each label, and their means.

Labels (N, C) mark each class of a sample with 1, 0, or -1 where it is not known, and what is not known does
not count. A mean is over the labels that some sample has. The letters are those of `onnxtweak.types`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxtweak.metric.bootstrap import RESAMPLES, drawn_together
from onnxtweak.metric.kinds import Metric, Predictions, Weighing, known_means, shares, weighed_counts
from onnxtweak.sample_counts import LabelCounts
from onnxtweak.types import LabelMetrics

# Numbers of a strip of labels, of all samples, that are summed up at a time.
_STRIP = 2**20


@dataclass(frozen=True, eq=False)
class LabelMean(Metric):
    """A metric of each label, and its mean. only (c,) int64 : the labels that count; None: all."""

    only: np.ndarray | None = None

    def counted(self, labels: np.ndarray) -> np.ndarray:
        """Which labels the mean is over, (C,) bool."""
        found: np.ndarray = (labels == 1).any(axis=0)
        if self.only is not None:
            found &= np.isin(np.arange(labels.shape[1]), self.only)
        return found


class MacroF1(LabelMean):
    """2 right / (shown + there) of each label, at the model's own thresholds, and the mean."""

    @property
    def is_overall(self) -> bool:
        return True

    def weighed(self, made: Predictions) -> Weighing:
        use = self.counted(made.labels)
        hit, both = _hits(made.predicted[:, use], made.labels[:, use])
        return lambda weights: known_means(shares(2 * (weights @ hit), weights @ both))


class MicroF1(Metric):
    """2 right / (shown + there) of all decisions together: a label counts as often as samples have it."""

    def weighed(self, made: Predictions) -> Weighing:
        hit, both = (each.sum(axis=1) for each in _hits(made.predicted, made.labels))
        return lambda weights: shares(2 * (weights @ hit), weights @ both)


class MeanAveragePrecision(LabelMean):
    """Average precision of each label, whatever the threshold, and the mean.

    It is the sum over all cuts of the recall that each adds times the precision there (as scikit-learn's
    `average_precision_score`); equal scores are cut together.
    """

    def weighed(self, made: Predictions) -> Weighing:
        each = [_Sorted.of(made.Z[:, c], made.labels[:, c]) for c in self._numbers(made.labels)]

        def value(weights: np.ndarray) -> np.ndarray:
            found = np.empty((len(weights), len(each)))
            for number, one in enumerate(each):
                found[:, number] = one.average_precision(weights)
            return known_means(found)

        return value

    def _numbers(self, labels: np.ndarray) -> np.ndarray:
        return np.flatnonzero(self.counted(labels))


@dataclass(frozen=True, eq=False)
class _Sorted:
    """The samples whose label is known, by falling score. order (n,) : their rows. there (n,) float: 1 or 0.

    ends (k,) : place of the last sample of each score.
    """

    order: np.ndarray
    there: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, score: np.ndarray, labels: np.ndarray) -> _Sorted:
        known = np.flatnonzero(labels >= 0)
        order = known[np.argsort(-score[known], kind="stable")]
        ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True)) if len(order) else order
        return cls(order, (labels[order] == 1).astype(np.float64), ends)

    def average_precision(self, weights: np.ndarray) -> np.ndarray:
        """In each resample, (R,). weights (R, N) : how much each sample counts.

        NaN where none that has the label does.
        """
        if not len(self.order):
            return np.full(len(weights), np.nan)
        own = weights.take(self.order, axis=1)
        taken = np.cumsum(own, axis=1).take(self.ends, axis=1)
        found = np.cumsum(own * self.there, axis=1).take(self.ends, axis=1)
        precision = np.divide(found, taken, out=np.zeros_like(found), where=taken > 0)
        return shares((np.diff(found, axis=1, prepend=0.0) * precision).sum(axis=1), found[:, -1])


def label_metrics(made: Predictions, targets: np.ndarray) -> LabelMetrics:
    """All figures of decisions on several labels. targets (c,) int64 : the labels that should do better."""
    known, there = made.labels >= 0, made.labels == 1
    shown = (made.predicted == 1) & known
    hit = (shown & there).sum(axis=0)
    taken, support = shown.sum(axis=0), there.sum(axis=0)
    absent = known.sum(axis=0) - support
    confusion = np.array([[absent - (taken - hit), taken - hit], [support - hit, hit]]).transpose(2, 0, 1)
    f1 = _share(2 * hit, taken + support)
    f1[support == 0] = np.nan
    once = np.ones((1, len(made)))
    precision = [
        _Sorted.of(made.Z[:, c], made.labels[:, c]).average_precision(once) for c in range(made.classes)
    ]
    return LabelMetrics(
        samples=len(made),
        overall=_known_mean(f1),
        target=_known_mean(f1[targets]),
        per_class=f1,
        confusion=confusion,
        precision=_share(hit, taken),
        recall=_share(hit, support),
        average_precision=np.concatenate(precision),
    )


def f1_of(predicted: np.ndarray, labels: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """The F1 of each label, (C,) float64; 0 where nothing is shown or there. predicted, labels (N, C).

    weight (N,) : how much each sample counts; None: all alike.
    """
    hit, both = _small_hits(predicted, labels)
    found: np.ndarray
    if weight is not None:
        found = 2 * (weight @ hit) / np.maximum(weight @ both, 1e-9)
        return found
    found = 2 * hit.sum(axis=0) / np.maximum(both.sum(axis=0), 1)
    return found


def f1_of_groups(predicted: np.ndarray, labels: np.ndarray, codes: np.ndarray, count: int) -> np.ndarray:
    """The F1 of all decisions on the samples of each group, (count,) float64. codes (N,) : their groups."""
    hit, both = (np.bincount(codes, each.sum(axis=1), count) for each in _hits(predicted, labels))
    found: np.ndarray = 2 * hit / np.maximum(both, 1)
    return found


def drawn_f1_of_groups(
    shown: Sequence[np.ndarray],
    labels: np.ndarray,
    codes: np.ndarray,
    count: int,
    groups: np.ndarray | None,
    *,
    many: int = RESAMPLES,
) -> np.ndarray:
    """`f1_of_groups` in resamples, (resamples, len(shown), count) float64; groups : as of `drawn_f1`."""
    counts = [[each.sum(axis=1) for each in _hits(one, labels)] for one in shown]

    def together(weights: np.ndarray) -> np.ndarray:
        hits, wholes = ([weighed_counts(codes, weights * each[k], count) for each in counts] for k in (0, 1))
        return 2 * np.stack(hits, axis=1) / np.maximum(np.stack(wholes, axis=1), 1e-9)

    blocks = drawn_together(len(labels), labels.size, groups, many=many)
    return np.concatenate([together(weights) for weights in blocks])


def drawn_f1(
    shown: Sequence[np.ndarray], labels: np.ndarray, groups: np.ndarray | None, *, many: int = RESAMPLES
) -> np.ndarray:
    """The F1 of each label in resamples, (resamples, len(shown), C) float64.

    shown : of several models, each (N, C). The rest as of `resampled`.
    """
    counts = [_small_hits(one, labels) for one in shown]
    strip = max(_STRIP // max(len(labels), 1), 1)  # of labels: as numbers they are eight times as large

    def drawn(weights: np.ndarray, count: np.ndarray) -> np.ndarray:
        parts = (count[:, start : start + strip] for start in range(0, count.shape[1], strip))
        return np.concatenate([weights @ part.astype(np.float64) for part in parts], axis=1)

    def together(weights: np.ndarray) -> np.ndarray:  # of whole numbers, which sum up alike in any order
        each = [2 * drawn(weights, hit) / np.maximum(drawn(weights, both), 1e-9) for hit, both in counts]
        return np.stack(each, axis=1)

    blocks = drawn_together(len(labels), labels.size, groups, many=many)
    return np.concatenate([together(weights) for weights in blocks])


def _hits(shown: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each sample and label (N, C) float64: whether it is rightly shown, and shown plus there."""
    hit, both = _small_hits(shown, labels)
    return hit.astype(np.float64), both.astype(np.float64)


def _small_hits(shown: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`_hits` as int8, an eighth as large."""
    there, seen = labels == 1, (shown == 1) & (labels >= 0)
    return (there & seen).view(np.int8), there.view(np.int8) + seen.view(np.int8)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


def _known_mean(each: np.ndarray | Sequence[float]) -> float:
    known = np.asarray(each)[np.isfinite(each)]
    return float(known.mean()) if len(known) else float("nan")


def slice_counts(
    labels: np.ndarray,
    shown: Sequence[np.ndarray],
    codes: np.ndarray,
    count: int,
    groups: np.ndarray | None,
) -> LabelCounts:
    """What became of each of `count` groups: as of `label_counts`, with all decisions on its samples."""
    known, there = labels >= 0, labels == 1
    right = [(each == 1) == there for each in shown]

    def only(one: int, other: int) -> np.ndarray:
        each = (right[one] & ~right[other] & known).sum(axis=1)
        return np.bincount(codes, each, count).astype(np.int64)

    changes = only(1, 0), only(0, 1), only(1, 2), only(2, 1)
    f1 = np.array([f1_of_groups(each, labels, codes, count) for each in shown])
    drawn = drawn_f1_of_groups(shown, labels, codes, count, groups)
    support = np.bincount(codes, there.sum(axis=1), count).astype(np.int64)
    return LabelCounts(support, *changes, f1=f1, drawn=drawn, touched=np.ones(count, bool))


def label_counts(
    labels: np.ndarray, shown: Sequence[np.ndarray], groups: np.ndarray | None, touched: np.ndarray | None
) -> LabelCounts:
    """What became of each label. labels (N, C) : marks. shown : three (N, C), of base, patched model, bias.

    touched (C,) bool : labels whose logit the patch changes; None: it may change all.
    groups (N,) int64 : samples that are drawn together in resamples; None: each for itself.
    """
    known, there = labels >= 0, labels == 1
    right = [(each == 1) == there for each in shown]

    def only(one: int, other: int) -> np.ndarray:
        found: np.ndarray = (right[one] & ~right[other] & known).sum(axis=0)
        return found

    f1 = np.array([f1_of(each, labels) for each in shown])
    touched = np.ones(labels.shape[1], bool) if touched is None else touched
    changes = only(1, 0), only(0, 1), only(1, 2), only(2, 1)
    return LabelCounts(
        there.sum(axis=0), *changes, f1=f1, drawn=drawn_f1(shown, labels, groups), touched=touched
    )
