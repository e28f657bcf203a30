"""Which patch is best for several labels at once (METHOD 17)? Each label is a problem of its own.

Its logit is calibrated (slope and bias), weights on hidden neurons are fitted to its known marks, with a
ridge of its own chosen by held-out log-loss, and its threshold is set for F1 by an exact search. A label gets
that only where it does better on samples held out; else a threshold alone, or nothing. The control is the
best threshold of every label alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from onnxtweak.goal import ResolvedGoal
from onnxtweak.head import SEVERAL_LABELS
from onnxtweak.method.fit.candidate import FitCandidate, simplest
from onnxtweak.method.fit.fit import Fitted
from onnxtweak.method.fit.learning import Learning
from onnxtweak.method.fit.linear import RIDGES
from onnxtweak.method.folds import Folds
from onnxtweak.method.softmax import sigmoid
from onnxtweak.method.solvers.logistic import logistic
from onnxtweak.method.solvers.multinomial import Design, Solution, design
from onnxtweak.method.table import Table
from onnxtweak.method.temperature import calibrate_labels
from onnxtweak.method.tuning.label_bias import best_biases
from onnxtweak.method.tuning.target_bias import BiasChoice, error_of_mean
from onnxtweak.metric.kinds import Predictions
from onnxtweak.metric.several import MeanAveragePrecision, drawn_f1, f1_of, label_metrics
from onnxtweak.patch import Linear
from onnxtweak.settings import FitSettings
from onnxtweak.types import Progress, silent

# Standard errors by which weights have to lower a label's held-out log-loss.
_SURE = 1.0
# The path of ridges ends once so many in a row have lowered no label's loss by this share of what was gained.
_PATIENCE, _WORTH = 2, 0.02
# Of so many judged samples, ridges are compared on two of the five folds; all are held out at the best.
_ENOUGH = 4000
# What the solver may leave of each label's loss, in nats: while choosing, and in the end.
_COARSE, _FINE = 1e-5, 1e-7
_RESAMPLES = 200  # in which one F1 is compared with another


def fit_labels(
    learning: Learning,
    families: Mapping[str, np.ndarray],
    goal: ResolvedGoal,
    settings: FitSettings,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> Fitted:
    """The best patch of the target labels, or thresholds alone, or the base.

    families : name to columns of the table, from few to many. The drops allowed bind no label: each is
    changed only where it does better on samples held out.
    """
    table, folds = learning.table, learning.folds(settings.folds, seed)
    problem = MarksProblem.of(table, goal.targets, folds)
    progress.start("fit", len(families), "fits")
    paths = []
    for name, columns in families.items():
        paths.append(_search(name, columns, problem, design(table.T[:, columns])))
        progress.advance(1)
    progress.finish()
    best = None
    if paths:
        losses = [problem.loss_of_samples(path.held_out) for path in paths]
        best = paths[simplest(losses, problem.loss_of_samples(problem.cool))].refined(problem)
    return _settled(problem, best, goal, settings.margin, table.groups)


@dataclass(frozen=True, eq=False)
class MarksProblem:
    """The target labels, (c,) of all C. Z, cool (N, c) : the base's logits, and these calibrated.

    marks (N, c) : 1, 0, -1. weight (N,) : how much each counts; None: all alike. slope, shift (c,) : of the
    calibration. classes : C.
    """

    Z: np.ndarray
    cool: np.ndarray
    marks: np.ndarray
    weight: np.ndarray | None
    slope: np.ndarray
    shift: np.ndarray
    targets: np.ndarray
    classes: int
    folds: Folds

    @classmethod
    def of(cls, table: Table, targets: np.ndarray, folds: Folds) -> MarksProblem:
        own, marks = table.Z[:, targets], table.labels[:, targets]
        slope, shift = calibrate_labels(own[folds.judged], marks[folds.judged])
        cool = (own * slope + shift).astype(own.dtype)
        return cls(own, cool, marks, table.weight, slope, shift, targets, table.Z.shape[1], folds)

    @property
    def compared(self) -> np.ndarray:
        """The coarse folds that ridges are compared on."""
        coarse = self.folds.coarse
        return coarse.numbers if coarse.judged.sum() < _ENOUGH else coarse.numbers[:2]

    @property
    def counted(self) -> np.ndarray:
        """Their judged samples, (N,) bool."""
        coarse = self.folds.coarse
        return np.isin(coarse.number, self.compared) & coarse.judged

    def losses(self, logits: np.ndarray) -> np.ndarray:
        """Cross-entropy of each mark under calibrated logits, (N, c) float64; 0 where it is not known."""
        x = logits.astype(np.float64)
        return np.where(self.marks >= 0, np.logaddexp(0, x) - x * (self.marks == 1), 0.0)

    def loss_of_labels(self, logits: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
        """The mean over samples whose mark is known, (c,). rows (N,) bool : which; None: the judged."""
        rows = self.folds.judged if rows is None else rows
        known = (self.marks[rows] >= 0).sum(axis=0)
        found: np.ndarray = self.losses(logits)[rows].sum(axis=0) / np.maximum(known, 1)
        return found

    def loss_of_samples(self, logits: np.ndarray) -> np.ndarray:
        """The sum over the labels of each sample that ridges are compared on."""
        found: np.ndarray = self.losses(logits)[self.counted].sum(axis=1)
        return found

    def whole(self, of_targets: np.ndarray) -> np.ndarray:
        """Numbers (c,) or (K, c) of the targets as those of all labels, zero for the others."""
        found = np.zeros((*of_targets.shape[:-1], self.classes))
        found[..., self.targets] = of_targets
        return found


@dataclass(frozen=True, eq=False)
class MarksPath:
    """Weights on some columns of the table, each label at its best ridge.

    held_out (N, c) : calibrated logits of each sample under weights that have not seen it. ridge (c,).
    """

    name: str
    columns: np.ndarray
    design: Design
    held_out: np.ndarray
    ridge: np.ndarray

    def refined(self, problem: MarksProblem) -> MarksPath:
        """With every fold held out, where ridges were compared on fewer."""
        folds = problem.folds
        if len(problem.compared) == len(folds.numbers):
            return self
        held_out = held_out_marks(problem, self.design, folds, self.ridge, folds.numbers, {})
        return replace(self, held_out=held_out)

    def patch(self, problem: MarksProblem, chosen: np.ndarray) -> tuple[Linear, tuple[str, ...]]:
        """The patch of the chosen labels (c,) bool, fitted to all samples; and notes on fitting it."""
        solved = _solved(problem, self.design, problem.marks, self.ridge, None, _FINE)
        scale = chosen / problem.slope
        patch = Linear(
            problem.whole(solved.weight * scale), problem.whole((solved.bias + problem.shift) * scale)
        )
        return patch, (f"{self.name}: {solved.note}",) if solved.note else ()


def _search(name: str, columns: np.ndarray, problem: MarksProblem, made: Design) -> MarksPath:
    """Each label's best ridge, from strong to weak until the held-out log-loss of none falls any more."""
    base = problem.loss_of_labels(problem.cool, problem.counted)
    path = MarksPath(name, columns, made, problem.cool, np.full(len(base), RIDGES[0]))
    least, since, start = np.full(len(base), np.inf), 0, dict[int, Solution]()
    for ridge in RIDGES:
        logits = held_out_marks(problem, made, problem.folds.coarse, ridge, problem.compared, start)
        losses = problem.loss_of_labels(logits, problem.counted)
        worth = _WORTH * np.maximum(base - np.minimum(least, base), 0)
        since = 0 if (losses < least - worth).any() and np.isfinite(losses).all() else since + 1
        better = losses < least
        least = np.where(better, losses, least)
        held_out = np.where(better, logits, path.held_out)
        path = replace(path, held_out=held_out, ridge=np.where(better, ridge, path.ridge))
        if since == _PATIENCE:
            break
    return path


def held_out_marks(
    problem: MarksProblem,
    made: Design,
    folds: Folds,
    ridge: np.ndarray | float,
    numbers: np.ndarray,
    start: dict[int, Solution],
) -> np.ndarray:
    """Calibrated logits (N, c) of the samples of some folds under weights fitted to all other folds.

    Those of other samples are the base's. start : solutions to begin with, by fold; the new ones are left
    there.
    """
    logits = problem.cool.copy()
    for k in numbers.tolist():
        rows = folds.held_out(k)
        marks = problem.marks.copy()
        marks[rows] = -1
        solved = start[k] = _solved(problem, made, marks, ridge, start.get(k), _COARSE)
        logits[rows] += solved.scores[rows].astype(logits.dtype)
    return logits


def _solved(
    problem: MarksProblem,
    made: Design,
    marks: np.ndarray,
    ridge: np.ndarray | float,
    start: Solution | None,
    tolerance: float,
) -> Solution:
    """Weights on calibrated logits. marks (N, c) : of the samples that they are fitted to, else -1."""
    weight = problem.weight
    return logistic(made, problem.cool, marks, ridge, weight=weight, start=start, tolerance=tolerance)


@dataclass(frozen=True, eq=False)
class _Held:
    """What thresholds do on the judged samples (n, c). bias (c,) : set on all of them.

    shown (n, c) : marks under biases that were set without the sample.
    """

    bias: np.ndarray
    shown: np.ndarray

    @classmethod
    def of(cls, logits: np.ndarray, p: np.ndarray, marks: np.ndarray, fold: np.ndarray) -> _Held:
        """logits, p (n, c) : probabilities that go with them. fold (n,) : held out together."""
        shifts = np.zeros(logits.shape)
        for k in np.unique(fold):
            rest = fold != k
            shifts[~rest] = best_biases(logits[rest], marks[rest], p[rest])
        return cls(best_biases(logits, marks, p), SEVERAL_LABELS.predict(logits + shifts))


def _settled(
    problem: MarksProblem,
    path: MarksPath | None,
    goal: ResolvedGoal,
    margin: float,
    groups: np.ndarray | None,
) -> Fitted:
    """What each label gets: weights and a threshold, a threshold alone, or nothing."""
    judged = problem.folds.judged
    marks, fold = problem.marks[judged], problem.folds.coarse.number[judged]
    groups = None if groups is None else groups[judged]
    base, cool = problem.Z[judged], problem.cool[judged]
    was = SEVERAL_LABELS.predict(base)
    alone = _Held.of(base, sigmoid(cool.astype(np.float64)), marks, fold)
    f1, of_alone = f1_of(was, marks), f1_of(alone.shown, marks)
    surely = of_alone - f1 > margin * _error(was, alone.shown, marks, groups)
    notes, taken, shown = list[str](), np.zeros(len(f1), bool), np.where(surely, alone.shown, was)
    bias = np.where(surely, alone.bias, 0.0)
    Z = base
    if path is not None:
        held = path.held_out[judged]
        fitted = _Held.of(held, sigmoid(held.astype(np.float64)), marks, fold)
        of_fit = f1_of(fitted.shown, marks)
        ahead = of_fit >= np.maximum(f1, of_alone)
        if isinstance(goal.metric, MeanAveragePrecision):
            ahead = _ranks_better(held, base, marks)
        taken = _learnt(problem, path.held_out, groups) & ahead & (marks == 1).any(axis=0)
        bias = np.where(taken, fitted.bias / problem.slope, bias)
        shown, Z = np.where(taken, fitted.shown, shown), np.where(taken, held, base)
        before, after = (float(problem.loss_of_labels(each).mean()) for each in (problem.cool, path.held_out))
        notes.append(
            f"fitted {path.name}, ridges {path.ridge.min():g} to {path.ridge.max():g}: held-out log-loss of "
            f"a label {before:.4f} (calibrated) -> {after:.4f}"
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
    right = SEVERAL_LABELS.decisions(shown, marks).right
    choice = BiasChoice(problem.whole(bias), right, holds=True, trials=())
    kind = "fit" if taken.any() else "bias" if bias.any() else "base"
    candidate = None if path is None or kind != "fit" else _candidate(problem, path, taken)
    return Fitted(kind, candidate, choice.bias, problem.whole(control), choice, tuple(notes))


def _candidate(problem: MarksProblem, path: MarksPath, taken: np.ndarray) -> FitCandidate:
    loss = float(problem.loss_of_labels(path.held_out)[taken].mean())
    held_out = np.where(taken, path.held_out / problem.slope, problem.Z)
    return FitCandidate(path.name, path.columns, held_out, loss, lambda: path.patch(problem, taken))


def _learnt(problem: MarksProblem, held_out: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """Labels (c,) bool whose held-out log-loss is surely lower than that of the calibrated base."""
    judged = problem.folds.judged
    saved = (problem.losses(problem.cool) - problem.losses(held_out))[judged]
    found = np.zeros(saved.shape[1], bool)
    for c in range(len(found)):
        known = problem.marks[judged, c] >= 0
        own = None if groups is None else groups[known]
        found[c] = known.any() and saved[known, c].mean() > _SURE * error_of_mean(saved[known, c], own)
    return found


def _ranks_better(Z: np.ndarray, base: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """Labels (c,) bool whose average precision is higher under logits Z than under the base's."""
    nobody = np.empty(0, np.int64)
    now, was = (
        label_metrics(Predictions(marks, marks, each), nobody).average_precision for each in (Z, base)
    )
    return np.nan_to_num(now) > np.nan_to_num(was)


def _error(was: np.ndarray, now: np.ndarray, marks: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """Standard error (c,) of the change in F1 between two sets of shown marks (n, c), by resampling."""
    drawn = drawn_f1((was, now), marks, groups, many=_RESAMPLES)
    found: np.ndarray = np.std(drawn[:, 1] - drawn[:, 0], axis=0)
    return found
