"""What is the value of a metric? Accuracy, balanced or worst-class accuracy, F1, mean cost.

Each of these is a function of the confusion matrix. So along the bias of one class it is piecewise constant:
it changes only where a sample turns to that class, and `along` gives all its values in one sorted sweep.
The letters are those of `onnxtweak.types`; a prediction of -1, none of the classes, is always wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

_ALIKE = np.log(1.5)  # weights whose logarithms differ by less are about the same

# How much each sample counts, (R, N) in each of R resamples: the metric in each of them, (R,).
Weighing = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model says of N samples. labels, predicted (N,) int64 : classes. Z (N, C) : scores.

    With several labels at once, labels and predicted are (N, C) marks of the classes.
    """

    labels: np.ndarray
    predicted: np.ndarray
    Z: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def classes(self) -> int:
        """C."""
        return int(self.Z.shape[1])


@dataclass(frozen=True, eq=False)
class Metric:
    """One number for what a model says of samples. name : as it is asked for. title : in words.

    sign : 1 where higher is better, -1 where lower is.
    """

    name: str
    title: str

    @property
    def sign(self) -> int:
        return 1

    @property
    def promise(self) -> str:
        """The limit that it has of its own, in words; empty without one."""
        return ""

    @property
    def is_overall(self) -> bool:
        """Whether it is what is kept overall anyway, so that keeping that would say nothing more."""
        return False

    def value(self, made: Predictions) -> float:
        """The metric over all samples alike; NaN without any."""
        return float(self.weighed(made)(np.ones((1, len(made))))[0]) if len(made) else float("nan")

    def weighed(self, made: Predictions) -> Weighing:
        """The metric as a function of how much each sample counts, (R, N) float: in each resample, (R,)."""
        raise NotImplementedError

    def need(self, labels: np.ndarray, right: np.ndarray, classes: int) -> np.ndarray:
        """How much more each sample should be learnt from than others, (N,) float64 from 0 to 1.

        labels (N,) int64. right (N,) bool : of the base. A weight `w` of a path counts for `w ** need`.
        """
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class ConfusionMetric(Metric):
    """A metric of decisions."""

    def weighed(self, made: Predictions) -> Weighing:
        C, labels, predicted = made.classes, made.labels, made.predicted
        known, right = np.flatnonzero(predicted >= 0), np.flatnonzero(predicted == labels)

        def value(weights: np.ndarray) -> np.ndarray:
            return self.of(
                weighed_counts(labels[right], weights.take(right, axis=1), C),
                weighed_counts(predicted[known], weights.take(known, axis=1), C),
                weighed_counts(labels, weights, C),
            )

        return value

    def part(self, credit: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """(N,): what `smooth` has to know of each sample. credit (N, C) : parts of it, which sum to 1, that
        are of each class."""
        found: np.ndarray = credit[np.arange(len(credit)), predicted]
        return found

    def smooth(self, parts: np.ndarray, predicted: np.ndarray, support: np.ndarray) -> float:
        """The metric where a sample is of each class to a part. parts (N,) : as of `part`. support (C,) : the
        sum of credit."""
        C = len(support)
        right = np.bincount(predicted, parts, C)
        return float(self.of(right, np.bincount(predicted, minlength=C), support))

    def of(self, right: np.ndarray, shown: np.ndarray, support: np.ndarray) -> np.ndarray:
        """The metric (...) from counts (..., C) of each class: samples that are right, shown as it, of it."""
        raise NotImplementedError

    def along(self, labels: np.ndarray, rival: np.ndarray, j: int, classes: int) -> np.ndarray:
        """The metric, times `sign`, while samples turn one by one from their rival to class j: (N + 1,).

        labels, rival (N,) int64 : in the order in which they turn.
        """
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Utility(ConfusionMetric):
    """A mean over samples of what each decision is worth, which depends on the label: a linear metric."""

    def worth(self, labels: np.ndarray, classes: int) -> np.ndarray:
        """(C, C): what it is worth that a sample of class y (row) is shown as class c, in units of `along`.

        labels (N,) : of all samples.
        """
        raise NotImplementedError

    def along(self, labels: np.ndarray, rival: np.ndarray, j: int, classes: int) -> np.ndarray:
        worth = self.worth(labels, classes)
        now = worth[labels, rival]
        return np.concatenate([[0.0], np.cumsum(worth[labels, j] - now)]) + now.sum()


class Overall(Utility):
    """Accuracy over all samples."""

    @property
    def is_overall(self) -> bool:
        return True

    def of(self, right: np.ndarray, shown: np.ndarray, support: np.ndarray) -> np.ndarray:
        return shares(right.sum(axis=-1), support.sum(axis=-1))

    def worth(self, labels: np.ndarray, classes: int) -> np.ndarray:
        return np.eye(classes) / max(len(labels), 1)

    def need(self, labels: np.ndarray, right: np.ndarray, classes: int) -> np.ndarray:
        return np.zeros(len(labels))


class Balanced(Utility):
    """Mean over the classes that have samples of the accuracy of each."""

    def of(self, right: np.ndarray, shown: np.ndarray, support: np.ndarray) -> np.ndarray:
        return known_means(shares(right, support))

    def worth(self, labels: np.ndarray, classes: int) -> np.ndarray:
        support = np.bincount(labels, minlength=classes)
        return np.diag(1 / np.maximum(support, 1)) / max(int(np.count_nonzero(support)), 1)

    def need(self, labels: np.ndarray, right: np.ndarray, classes: int) -> np.ndarray:
        return _rarity(labels, classes)


class Worst(ConfusionMetric):
    """Accuracy of the class that does worst, of those that have samples."""

    def of(self, right: np.ndarray, shown: np.ndarray, support: np.ndarray) -> np.ndarray:
        each = shares(right, support)
        least = np.where(np.isnan(each), np.inf, each).min(axis=-1)
        return np.where(np.isinf(least), np.nan, least)

    def along(self, labels: np.ndarray, rival: np.ndarray, j: int, classes: int) -> np.ndarray:
        support = np.bincount(labels, minlength=classes)
        (right_now,) = (labels == rival).nonzero()  # samples that are right until they turn
        of = rival[right_now]
        right = np.bincount(of, minlength=classes)
        there = (support > 0) & (np.arange(classes) != j)
        first = (right[there] / support[there]).min(initial=1.0)
        # Other classes only lose: the least of them so far is that of all.
        (lost,) = _earlier(of, classes, np.ones(len(of), np.int64))
        lowest = np.ones(len(labels))
        lowest[right_now] = (right[of] - lost) / support[of]
        others = np.minimum.accumulate(np.concatenate([[first], lowest]))
        own = np.concatenate([[0], np.cumsum(labels == j)]) / max(support[j], 1)
        return np.minimum(others, own) if support[j] else others

    def need(self, labels: np.ndarray, right: np.ndarray, classes: int) -> np.ndarray:
        return behind(labels, right, classes)


@dataclass(frozen=True, eq=False)
class F1(ConfusionMetric):
    """2 right / (shown + there): of class `one`, or the mean over all classes that have samples."""

    one: int | None = None

    def each(self, right: np.ndarray, shown: np.ndarray, support: np.ndarray) -> np.ndarray:
        """The share of each class, from counts as of `of`."""
        found: np.ndarray = 2 * right / np.maximum(shown + support, 1e-12)
        return found

    def of(self, right: np.ndarray, shown: np.ndarray, support: np.ndarray) -> np.ndarray:
        each = np.where(support > 0, self.each(right, shown, support), np.nan)
        return known_means(each) if self.one is None else each[..., self.one]

    def along(self, labels: np.ndarray, rival: np.ndarray, j: int, classes: int) -> np.ndarray:
        support = np.bincount(labels, minlength=classes)
        shown = np.bincount(rival, minlength=classes)
        right = np.bincount(labels[labels == rival], minlength=classes)
        share = (support > 0 if self.one is None else np.arange(classes) == self.one).astype(np.float64)
        share /= max(int(np.count_nonzero(share)), 1)

        def part(c: np.ndarray, right: np.ndarray, shown: np.ndarray) -> np.ndarray:
            found: np.ndarray = share[c] * self.each(right, shown, support[c])
            return found

        hit, every = labels == rival, np.ones(len(labels), bool)
        lost, left = _earlier(rival, classes, hit, every)
        after = part(rival, right[rival] - lost, shown[rival] - left)
        before = part(rival, right[rival] - lost + hit, shown[rival] - left + 1)
        first = part(np.arange(classes), right, shown)
        first[j] = 0
        # A sample whose rival is j itself cannot be: the rival is the best of all others.
        others = first.sum() + np.concatenate([[0.0], np.cumsum(after - before)])
        turned = np.arange(len(labels) + 1)
        return others + part(np.array(j), np.concatenate([[0], np.cumsum(labels == j)]), turned)

    def need(self, labels: np.ndarray, right: np.ndarray, classes: int) -> np.ndarray:
        return _rarity(labels, classes) if self.one is None else (labels == self.one).astype(np.float64)


class Iou(F1):
    """right / (shown + there - right), the intersection over the union: the mean over all classes."""

    def each(self, right: np.ndarray, shown: np.ndarray, support: np.ndarray) -> np.ndarray:
        found: np.ndarray = right / np.maximum(shown + support - right, 1e-12)
        return found


@dataclass(frozen=True, eq=False)
class Cost(Utility):
    """Mean cost per sample, which should be low. cost (C, C) : rows are labels, columns decisions."""

    cost: np.ndarray

    @property
    def sign(self) -> int:
        return -1

    def weighed(self, made: Predictions) -> Weighing:
        # What is shown as none of the classes costs as much as the worst that could be shown.
        paid = np.column_stack([self.cost, self.cost.max(axis=1)])[made.labels, made.predicted]
        return lambda weights: (weights * paid).sum(axis=1) / weights.sum(axis=1)

    def part(self, credit: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        return np.einsum("nc,nc->n", credit, self.cost.T[predicted])

    def smooth(self, parts: np.ndarray, predicted: np.ndarray, support: np.ndarray) -> float:
        return float(parts.mean())

    def worth(self, labels: np.ndarray, classes: int) -> np.ndarray:
        largest = float(np.ptp(self.cost)) or 1.0  # so that it can be mixed with an accuracy
        return -self.cost / largest / max(len(labels), 1)

    def need(self, labels: np.ndarray, right: np.ndarray, classes: int) -> np.ndarray:
        at_stake = (self.cost - self.cost.diagonal()[:, None]).sum(axis=1)
        return _logarithmic(at_stake, labels)


def behind(codes: np.ndarray, right: np.ndarray, many: int, prior: float = 10.0) -> np.ndarray:
    """By how much the group of each sample is below the average, as a share of the worst: (N,) float64.

    codes (N,) int64 : group of each sample, of so many. right (N,) bool : whether it is. prior : samples of
    average accuracy that are added to each group, so that few samples do not make it the worst.
    """
    lacks = np.maximum(float(right.mean()) - drawn_accuracies(codes, right, many, prior), 0)
    found: np.ndarray = (lacks / lacks.max() if lacks.max(initial=0) > 0 else np.zeros(many))[codes]
    return found


def drawn_accuracies(codes: np.ndarray, right: np.ndarray, many: int, prior: float = 10.0) -> np.ndarray:
    """(G,) float64: the share of each group that is right, drawn towards that of all if samples are few."""
    samples, whole = np.bincount(codes, minlength=many), float(right.mean()) if len(right) else 0.0
    found: np.ndarray = (np.bincount(codes, right, many) + prior * whole) / (samples + prior)
    return found


def weighed_counts(codes: np.ndarray, weights: np.ndarray, many: int) -> np.ndarray:
    """How much the samples of each code count together, (R, many) float64. codes (N,) int; weights (R, N)."""
    each = codes + many * np.arange(len(weights))[:, None]
    return np.bincount(each.reshape(-1), weights.reshape(-1), many * len(weights)).reshape(-1, many)


def shares(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, both (...); NaN where the whole is nothing."""
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)


def known_means(each: np.ndarray) -> np.ndarray:
    """The mean (...) of those of (..., k) that are not NaN; NaN where all are."""
    known = ~np.isnan(each)
    return shares(np.where(known, each, 0.0).sum(axis=-1), known.sum(axis=-1))


def _rarity(labels: np.ndarray, classes: int) -> np.ndarray:
    """1 for samples of the rarest class, 0 for those of the most frequent, by the logarithm between."""
    support = np.bincount(labels, minlength=classes)
    return _logarithmic(1 / np.maximum(support, 1), labels)


def _logarithmic(weight: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Where each sample's weight lies between the least and the largest of any, on a log scale: (N,).

    0 for all where these differ by less than half.
    """
    there = np.unique(labels)
    size = np.log(np.maximum(weight, 1e-12))
    low, high = size[there].min(initial=np.inf), size[there].max(initial=-np.inf)
    found: np.ndarray = ((size - low) / (high - low) if high > low + _ALIKE else np.zeros(len(weight)))[
        labels
    ]
    return found


def _earlier(group: np.ndarray, many: int, *counted: np.ndarray) -> Iterator[np.ndarray]:
    """How many counted samples of its group each sample has up to and with itself, (N,) int64 each."""
    # Short integers are sorted by their digits, which takes a tenth of the time.
    order = np.argsort(group.astype(np.int16) if many < 1 << 15 else group, kind="stable")
    grouped = group[order]
    starts = np.searchsorted(grouped, np.arange(many))
    for samples in counted:
        running = np.cumsum(samples[order])
        before = np.concatenate([[0], running])[starts]
        found = np.empty(len(group), np.int64)
        found[order] = running - before[grouped]
        yield found
