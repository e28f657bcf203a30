"""How well does a metric do under a candidate of `fit`, at the biases that are best for it (METHOD 7.6)?"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from onnxtweak.engine.machine.large_arrays import by_rows
from onnxtweak.goal import ResolvedGoal
from onnxtweak.method.fit.candidate import FitCandidate, weakened
from onnxtweak.method.fit.fit import STRENGTHS
from onnxtweak.method.fit.weighted import GoalJudge, Judged
from onnxtweak.method.folds import Folds, in_full, kept_of
from onnxtweak.method.table import Table
from onnxtweak.method.tuning.metric_bias import TunedBias, predictions, rating, tune
from onnxtweak.method.tuning.target_bias import BiasChoice
from onnxtweak.metric.bootstrap import resampled
from onnxtweak.metric.kinds import Metric, Predictions
from onnxtweak.metric.rate import Recall, RecallAt, most_allowed
from onnxtweak.types import Trial

# Resamples in which one is to be better than another.
_RESAMPLES = 500


class MetricJudge(GoalJudge):
    """What a metric thinks of candidates."""

    what = "the metric"

    def __init__(self, table: Table, goal: ResolvedGoal, folds: Folds, margin: float) -> None:
        super().__init__(table, goal, folds, margin)
        assert goal.metric is not None  # this is what is fitted for
        self.metric: Metric = goal.metric

    def need(self, table: Table) -> np.ndarray:
        right = by_rows(self.goal.head.right, table.Z, table.labels)
        return self.metric.need(table.labels, right, table.Z.shape[1])

    def told_something(self, plain: Sequence[FitCandidate], shifts: FitCandidate) -> bool:
        """A metric is noisier than the log-loss, and is only asked about what that shows to have learnt."""
        return any(self.learnt(candidate, shifts) for candidate in plain)

    def judged_at_best(self, candidate: FitCandidate) -> Judged:
        """At the most strength that keeps the limits."""
        tried = []
        for strength in STRENGTHS:
            weaker = weakened(candidate, strength, self.table)
            tried.append(self._tuned(self._judged(weaker), weaker))
            if tried[-1].choice.holds:
                return tried[-1]
        return tried[0]

    def biases(self) -> Judged:
        return self._tuned(self.base, None)

    def _tuned(self, logits: np.ndarray, candidate: FitCandidate | None) -> Judged:
        what = f"biases of {in_full(self.goal)}, margin {self.margin}"
        each = logits, self.base, self.labels, self.fold, self.groups
        found = TunedBias.of_arrays(kept_of(self.known, what, each, lambda: self._new(logits).arrays))
        right = by_rows(self.goal.head.right, found.held_out, self.labels)
        was, now = float(self.was.mean()), float(right.mean())
        trials = Trial(1, 0.0, 0.0, was), Trial(1, 1.0, (was - now) * 100, now)
        choice = BiasChoice(found.bias, right, found.holds, trials)
        return Judged(candidate, choice, found.rating, found.held_out)

    def _new(self, logits: np.ndarray) -> TunedBias:
        return tune(logits, self.base, self.labels, self.goal, self.fold, self.margin, self.groups)

    def gains_surely(self, one: Judged) -> bool:
        """A base whose own cut is not as sure to keep the limit loses to whatever is."""
        return self._misses_limit() or self._surely_above(one.Z, self.base)

    def ahead_of(self, one: Judged, control: Judged) -> bool:
        return not control.choice.holds or self._surely_above(one.Z, control.Z)

    def said(self, one: Judged) -> str:
        """The metric of decisions made when samples were held out, against the base's."""
        before, after = (self._predictions(Z) for Z in (self.base, one.Z))
        changed = f"{self._percent(before)} -> {self._percent(after)}"
        if not isinstance(self.metric, RecallAt):
            told = f"held out, {self.metric.name} {changed}, overall {self.was.mean():.1%} -> "
            told += f"{one.choice.right.mean():.1%}"
            return told if one.choice.holds else f"{told}; more is lost than allowed"
        if not one.choice.holds:
            return f"no cut is sure to keep a {self.metric.promise}"
        (_, was, all_before), (_, now, all_after) = (self.metric.at_cut(each) for each in (before, after))
        return (
            f"held out, recall {changed}, {was:,} of {all_before:,} -> {now:,} of {all_after:,} false alarms"
        )

    def _percent(self, made: Predictions) -> str:
        return f"{self.metric.sign * rating(self.metric, made) * 100:.1f}"

    def _predictions(self, Z: np.ndarray) -> Predictions:
        return predictions(Z, self.labels, self.goal.head)

    def _misses_limit(self) -> bool:
        if not isinstance(self.metric, RecallAt):
            return False
        _, false, samples = self.metric.at_cut(self._predictions(self.base))
        return false > max(most_allowed(samples, self.metric.most, NormalDist().cdf(self.margin)), 0)

    def _surely_above(self, Z: np.ndarray, other: np.ndarray) -> bool:
        """Is the metric higher in as many resamples as `margin` standard errors ask, in 84 of 100 for one?

        With a limit, of decisions. Where a single sample makes the difference, too many resamples lack it.
        """
        metric = Recall() if isinstance(self.metric, RecallAt) else self.metric
        made = [self._predictions(each) for each in (Z, other)]
        drawn = resampled(metric, made, self.groups, many=_RESAMPLES)
        above = metric.sign * (drawn[:, 0] - drawn[:, 1]) > 0
        return float(above.mean()) > NormalDist().cdf(self.margin)
