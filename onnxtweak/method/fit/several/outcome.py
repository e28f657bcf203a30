"""What does each of several labels get: weights and a threshold, a threshold alone, or nothing (METHOD 17)?

Judged on samples held out. The control is the best threshold of every label alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxtweak.engine.machine.columns import columns_of, either
from onnxtweak.engine.machine.large_arrays import chosen_rows, in_blocks, light_blocks
from onnxtweak.goal import ResolvedGoal
from onnxtweak.head import SEVERAL_LABELS
from onnxtweak.method.fit.candidate import FitCandidate
from onnxtweak.method.fit.fit import Fitted
from onnxtweak.method.fit.several.problem import MarksProblem
from onnxtweak.method.fit.several.weights import LabelWeights
from onnxtweak.method.folds import KeptArrays, kept_of
from onnxtweak.method.softmax import sigmoid
from onnxtweak.method.tuning.label_bias import bias_of_label
from onnxtweak.method.tuning.target_bias import BiasChoice, error_of_mean
from onnxtweak.metric.kinds import Predictions
from onnxtweak.metric.several import MeanAveragePrecision, drawn_f1, f1_of, label_metrics
from onnxtweak.patch import DensePatch

# Standard errors by which weights have to lower a label's held-out log-loss.
_SURE = 1.0
_RESAMPLES = 200  # in which one F1 is compared with another


@dataclass(frozen=True, eq=False)
class LabelsOutcome:
    """What all labels get, and what that does on the judged samples (n, c).

    was, shown, alone (n, c) : marks shown by the base, by what is chosen, and under thresholds alone.
    """

    fitted: Fitted
    was: np.ndarray
    shown: np.ndarray
    alone: np.ndarray


@dataclass(frozen=True, eq=False)
class _Held:
    """What thresholds do on the judged samples (n, c). bias (c,) : set on all of them.

    shown (n, c) : marks under biases that were set without the sample.
    """

    bias: np.ndarray
    shown: np.ndarray


@dataclass(frozen=True, eq=False)
class _MarksHeldOut:
    """Judged samples. marks (n, c). fold (n,) : held out together. emphasis, groups (n,) : if there are."""

    marks: np.ndarray
    fold: np.ndarray
    emphasis: np.ndarray | None
    groups: np.ndarray | None
    kept: KeptArrays

    @classmethod
    def of(cls, problem: MarksProblem, groups: np.ndarray | None) -> _MarksHeldOut:
        judged = problem.folds.judged
        emphasis, groups = (None if one is None else one[judged] for one in (problem.emphasis, groups))
        folds = problem.folds
        return cls(problem.marks[judged], folds.coarse.number[judged], emphasis, groups, folds.kept)

    def thresholds(self, logits: np.ndarray, cool: np.ndarray) -> _Held:
        """logits, cool (n, c) : these calibrated."""
        of = logits, cool, self.marks, self.fold, self.emphasis
        return _Held(**kept_of(self.kept, "thresholds", of, lambda: vars(self._thresholds(logits, cool))))

    def _thresholds(self, logits: np.ndarray, cool: np.ndarray) -> _Held:
        counts, bias, shown = self.emphasis, np.zeros(logits.shape[1]), np.zeros(logits.shape, np.int8)
        rests = [self.fold != k for k in np.unique(self.fold)]
        for c, (score, own) in enumerate(zip(columns_of(logits), columns_of(cool), strict=True)):
            marks, p, shift = self.marks[:, c], sigmoid(own.astype(np.float64)), np.zeros(len(score))
            for rest in rests:
                count = None if counts is None else counts[rest]
                shift[~rest] = bias_of_label(score[rest], marks[rest], p[rest], count)
            bias[c] = bias_of_label(score, marks, p, counts)
            shown[:, c] = SEVERAL_LABELS.predict(score + shift)
        return _Held(bias, shown)

    def f1(self, shown: np.ndarray) -> np.ndarray:
        """Of each label, (c,)."""
        return f1_of(shown, self.marks, self.emphasis)

    def error(self, was: np.ndarray, now: np.ndarray) -> np.ndarray:
        """Standard error (c,) of the change in F1 between two sets of shown marks (n, c), by resampling."""
        drawn = drawn_f1((was, now), self.marks, self.groups, many=_RESAMPLES)
        found: np.ndarray = np.std(drawn[:, 1] - drawn[:, 0], axis=0)
        return found


def settled(
    problem: MarksProblem,
    weights: LabelWeights | None,
    goal: ResolvedGoal,
    margin: float,
    groups: np.ndarray | None,
) -> LabelsOutcome:
    """What each label gets. weights : None where there are none. groups (N,) : as of `Table`."""
    judged, of = problem.folds.judged, _MarksHeldOut.of(problem, groups)
    marks, base = of.marks, chosen_rows(problem.Z, judged)
    was = _shown(base)
    alone = of.thresholds(base, chosen_rows(problem.cool, judged))
    f1, of_alone = of.f1(was), of.f1(alone.shown)
    surely = of_alone - f1 > margin * of.error(was, alone.shown)
    notes, taken, shown = list[str](), np.zeros(len(f1), bool), np.where(surely, alone.shown, was)
    bias = np.where(surely, alone.bias, 0.0)
    Z = base
    if weights is not None:
        held = chosen_rows(weights.held_out, judged)
        fitted = of.thresholds(held, held)
        ahead = of.f1(fitted.shown) >= np.maximum(f1, of_alone)
        if isinstance(goal.metric, MeanAveragePrecision):
            ahead = _ranks_better(held, base, marks)
        taken = _learnt(problem, weights.held_out, of.groups) & ahead & (marks == 1).any(axis=0)
        bias = np.where(taken, fitted.bias / problem.slope, bias)
        shown = np.where(taken, fitted.shown, shown)
        Z = either(taken, held, base)
        before, after = (
            float(problem.loss_of_labels(each).mean()) for each in (problem.cool, weights.held_out)
        )
        notes.append(
            f"fitted {weights.described}: held-out log-loss of a label {before:.4f} (calibrated) -> "
            f"{after:.4f}"
        )
    control = np.where(of_alone > f1, alone.bias, 0.0)
    changed = taken | (bias != 0)
    figures = [
        label_metrics(Predictions(marks, *each), np.arange(len(f1))) for each in ((was, base), (shown, Z))
    ]
    notes.append(
        f"{int(taken.sum())} of {len(taken)} labels get weights, {int((changed & ~taken).sum())} a threshold "
        f"alone; held out, F1 {figures[0].overall:.1%} -> {figures[1].overall:.1%} (thresholds alone "
        f"{float(np.maximum(of_alone, f1).mean()):.1%}), average precision "
        f"{figures[0].mean_average_precision:.1%} -> {figures[1].mean_average_precision:.1%}"
    )
    right = (shown == marks)[marks >= 0]  # of each decision, without its number and sample
    choice = BiasChoice(problem.whole(bias), right, holds=True, trials=())
    kind = "fit" if taken.any() else "bias" if bias.any() else "base"
    candidate = None if weights is None or kind != "fit" else _candidate(problem, weights, taken)
    made = Fitted(kind, candidate, choice.bias, problem.whole(control), choice, tuple(notes))
    return LabelsOutcome(made, was, shown, np.where(of_alone > f1, alone.shown, was))


def _candidate(problem: MarksProblem, weights: LabelWeights, taken: np.ndarray) -> FitCandidate:
    loss = float(problem.loss_of_labels(weights.held_out)[taken].mean())
    held_out = in_blocks(
        lambda held, Z: np.where(taken, held / problem.slope, Z), weights.held_out, problem.Z
    )

    def learn() -> tuple[DensePatch, tuple[str, ...]]:
        return weights.patch(problem, taken)

    return FitCandidate(weights.name, weights.columns, held_out, loss, learn)


def _learnt(problem: MarksProblem, held_out: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """Labels (c,) bool whose held-out log-loss is surely lower than that of the calibrated base.

    groups (n,) : of the judged samples.
    """
    judged, found = problem.folds.judged, np.zeros(held_out.shape[1], bool)
    for c, (was, now) in enumerate(zip(columns_of(problem.cool), columns_of(held_out), strict=True)):
        known = problem.marks[judged, c] >= 0
        saved = (problem.losses_of_label(c, was) - problem.losses_of_label(c, now))[judged][known]
        own = None if groups is None else groups[known]
        found[c] = known.any() and saved.mean() > _SURE * error_of_mean(saved, own)
    return found


def _shown(Z: np.ndarray) -> np.ndarray:
    """The marks (N, C) int8 that logits Z (N, C) show, in memory as those of the samples are."""
    found = np.empty(Z.shape, np.int8)
    for part, block in light_blocks(Z):
        found[part] = SEVERAL_LABELS.predict(block)
    return found


def _ranks_better(Z: np.ndarray, base: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """Labels (c,) bool whose average precision is higher under logits Z than under the base's."""
    nobody = np.empty(0, np.int64)
    now, was = (
        label_metrics(Predictions(marks, marks, each), nobody).average_precision for each in (Z, base)
    )
    return np.nan_to_num(now) > np.nan_to_num(was)
