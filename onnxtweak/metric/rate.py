"""How many samples of class 1 are found while few others are taken for it? Recall at a limit on false alarms.

The value is read off the scores: the best recall at any cut that keeps the limit on these samples. A cut that
keeps it just so on the samples that it was set on would miss it on every second set of new ones. `cut` leaves
a margin instead: on as many new samples the limit is kept with a stated probability (METHOD 7.6).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from onnxtweak.errors import DataError
from onnxtweak.metric.kinds import Metric, Predictions, Weighing, shares
from onnxtweak.sample_counts import GroupedSamples

FalseAlarms = Literal["fpr", "precision"]
PRECISION = "recall@precision"


@dataclass(frozen=True, eq=False)
class RecallAt(Metric):
    """Recall of class 1 of two, at a false-positive rate of at most `limit`, or at such a precision."""

    kind: FalseAlarms
    limit: float

    @property
    def most(self) -> float:
        """The largest share of false alarms: among samples of class 0, or among those taken for class 1."""
        return self.limit if self.kind == "fpr" else 1 - self.limit

    @property
    def promise(self) -> str:
        """The limit, in words."""
        if self.kind == "fpr":
            return f"false-positive rate at most {self.limit * 100:g} %"
        return f"precision at least {self.limit * 100:g} %"

    def weighed(self, made: Predictions) -> Weighing:
        score = scores(made.Z)
        order = np.argsort(-score, kind="stable")
        positive = made.labels[order] == 1
        ends = np.append(score[order][1:] < score[order][:-1], True)

        def value(weights: np.ndarray) -> np.ndarray:
            by_score = weights.take(order, axis=1)
            found = np.cumsum(by_score * positive, axis=1)
            false = np.cumsum(by_score * ~positive, axis=1)
            base = false[:, -1:] if self.kind == "fpr" else found + false
            kept = ends & (false <= self.most * base + 1e-9)
            return shares(np.where(kept, found, 0.0).max(axis=1), found[:, -1])

        return value

    def need(self, labels: np.ndarray, right: np.ndarray, classes: int) -> np.ndarray:
        # Where few false alarms are allowed, samples of class 0 with high scores decide.
        return (labels == 0).astype(np.float64)

    def at_cut(self, made: Predictions) -> tuple[float, int, int]:
        """What the model's own decisions do: recall, false alarms, and samples that they are a share of."""
        flagged, positive = made.predicted == 1, made.labels == 1
        false = int((flagged & ~positive).sum())
        base = int((~positive).sum()) if self.kind == "fpr" else int(flagged.sum())
        recall = float(flagged[positive].mean()) if positive.any() else float("nan")
        return recall, false, base

    def least_samples(self, level: float) -> int:
        """How many samples of class 0 (precision: taken for class 1) the limit can be kept with at all."""
        low, high = 0, 1
        while most_allowed(high, self.most, level) < 0:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if most_allowed(middle, self.most, level) >= 0 else (middle, high)
        return high

    def cut(
        self, Z: np.ndarray, labels: np.ndarray, level: float, groups: np.ndarray | None = None
    ) -> float | None:
        """The score above which samples are to be taken for class 1; None where no cut keeps the limit.

        Z (N, 2) : logits of samples that they were not fitted to. level : probability with which the limit
        is to be kept on as many new samples. groups (N,) int64 : samples that are not independent; they count
        for as many as tell the same. Of cuts that keep the limit the one with the largest recall.
        """
        score = scores(Z)
        order = np.argsort(-score, kind="stable")
        ordered, positive = score[order], labels[order] == 1
        false = np.cumsum(~positive)
        apart = np.append(ordered[:-1] - ordered[1:] > 1e-6 * np.abs(ordered[:-1]), True)
        effect = 1.0 if groups is None else self._effect(groups[order], positive)
        if self.kind == "fpr":
            samples = int(false[-1] / effect) if len(false) else 0
            allowed = most_allowed(samples, self.most, level)
            if allowed < 0:
                return None
            able = np.flatnonzero(apart & (false <= allowed * effect))
        else:
            able = self._precise(np.flatnonzero(apart & positive), false, level, effect)
        if not len(able):
            return float(ordered[0] + 1) if self.kind == "fpr" and len(ordered) else None
        last = int(able[-1])
        if last + 1 == len(ordered):
            return float(ordered[last] - 1)
        return float((ordered[last] + ordered[last + 1]) / 2)

    def _effect(self, groups: np.ndarray, positive: np.ndarray) -> float:
        """The design effect of the rate at the cut that just keeps the limit on these samples, at least 1.

        groups (N,) int64, positive (N,) bool : of samples by falling score.
        """
        false = np.cumsum(~positive)
        taken = np.arange(1, len(false) + 1)
        kept = false <= self.most * (false[-1] if self.kind == "fpr" else taken)
        flagged = np.arange(len(false)) <= np.flatnonzero(kept).max(initial=0)
        wrong = (flagged & ~positive).astype(np.int64)
        return GroupedSamples(groups, wrong, wrong).effect(~positive if self.kind == "fpr" else flagged)

    def _precise(self, places: np.ndarray, false: np.ndarray, level: float, effect: float) -> np.ndarray:
        """The last of the places at which so few are false that the limit holds on new samples; or none.

        A precision rises and falls along the cuts, so the best of many that seem to keep it is often one that
        had luck: the chance of a miss is halved for each. In draws of 500 to 8,000 samples at limits of 50,
        90 and 97 %, at most 11 in 100 then missed the limit on new samples; without it 20 did.
        """
        level = (1 + level) / 2
        for place in places[::-1]:
            taken, wrong = int((place + 1) / effect), math.ceil(false[place] / effect)
            limit = math.floor(self.most * taken + 1e-9)
            if wrong <= limit and _within(taken, wrong, limit) >= level:
                return np.array([place])
        return np.empty(0, np.int64)


class Recall(Metric):
    """The share of class 1 of two that is shown as such."""

    def __init__(self) -> None:
        super().__init__("recall", "recall")

    def weighed(self, made: Predictions) -> Weighing:
        own = (made.labels == 1).astype(np.float64)
        found = own * (made.predicted == 1)
        return lambda weights: shares(weights @ found, weights @ own)


def require_samples(metric: Metric, labels: np.ndarray, role: str, level: float | None = None) -> None:
    """Raise DataError where these samples are too few for the limit of a metric.

    role : of the samples, for the error. level : of the cut that is to be set on them; None: they are only
    measured, and fewer false alarms than one have to be a rate above the limit.
    """
    if not isinstance(metric, RecallAt):
        return
    found = np.bincount(labels, minlength=2)
    if not found[:2].all():
        raise DataError(
            f"no {role} sample is of class {int(found[0] > 0)}",
            where=f"--metric {metric.name}",
            hint="give samples of both classes",
        )
    own = 0 if metric.kind == "fpr" else 1
    least = 1 if own else math.ceil(1 / metric.limit - 1e-9)
    if level is not None:
        least = max(least, metric.least_samples(level))
    if found[own] < least:
        raise DataError(
            f"{found[own]:,} {role} samples of class {own} are too few for a"
            f" {metric.promise}: it takes {least:,}",
            where=f"--metric {metric.name}",
            hint="give more of them, or a limit that is less strict",
        )


def scores(Z: np.ndarray) -> np.ndarray:
    """By how much class 1 is ahead of class 0, (N,) float64. Z (N, 2)."""
    return Z[:, 1].astype(np.float64) - Z[:, 0].astype(np.float64)


def most_allowed(samples: int, most: float, level: float) -> int:
    """How many false alarms a cut may let through among so many samples; -1 where not even none will do.

    A cut just above the (k + 1)-th highest of n scores lets through J of n new ones, and J has the negative
    hypergeometric distribution, whatever that of the scores. k is the largest number for which J is a share
    of at most `most` with probability `level`: between a binomial bound on the rate, which is a little
    larger, and nothing assumed of the new samples but that they are drawn alike.
    """
    limit = math.floor(most * samples + 1e-9)
    low, high = -1, limit  # at k = limit every second set of new samples has more
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _within(samples, middle, limit) >= level else (low, middle - 1)
    return low


def _within(n: int, k: int, limit: int) -> float:
    """Probability that at most `limit` of n new scores lie above the (k + 1)-th highest of n old ones."""
    if k >= n:
        return 1.0 if limit >= n else 0.0
    # P(J = j) = C(k + j, j) C(2n - k - 1 - j, n - j) / C(2n, n), from the ratio of neighbours.
    first = math.lgamma(2 * n - k) - math.lgamma(n + 1) - math.lgamma(n - k)
    first -= math.lgamma(2 * n + 1) - 2 * math.lgamma(n + 1)
    j = np.arange(min(limit, n), dtype=np.float64)
    ratio = np.log(k + j + 1) - np.log(j + 1) + np.log(n - j) - np.log(2 * n - k - 1 - j)
    logs = first + np.append(0.0, np.cumsum(ratio))
    return float(min(1.0, np.exp(logs).sum()))
