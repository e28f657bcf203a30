"""Which patch is best for the classes of a detector (METHOD 18)? The best by AP, on pictures held out.

Rows are anchors. Where each class has a sigmoid, each is a problem of its own, as several labels are; where
all share a softmax, one joint problem with the background.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from onnxtweak.boxes.average_precision import Found, mean
from onnxtweak.boxes.head import objects_of, product_scores
from onnxtweak.boxes.suppression import Detections, suppressed
from onnxtweak.boxes.truth import Truth
from onnxtweak.goal import ResolvedGoal
from onnxtweak.head import Head
from onnxtweak.method.fit.candidate import FitCandidate, weakened
from onnxtweak.method.fit.fit import STRENGTHS, Fitted
from onnxtweak.method.fit.learning import Learning
from onnxtweak.method.fit.linear import RIDGES, fit_linear
from onnxtweak.method.fit.several.problem import MarksProblem
from onnxtweak.method.fit.several.weights import MarksPath, design_of_marks, held_out_marks
from onnxtweak.method.folds import Arrays, Folds, digest_of, in_full, kept_of
from onnxtweak.method.solvers.multinomial import Solution
from onnxtweak.method.table import Table
from onnxtweak.method.tuning.target_bias import BiasChoice
from onnxtweak.settings import FitSettings
from onnxtweak.types import Progress, silent

# Biases of a class of a softmax that are tried for the control, in logits.
# The path of ridges ends once so many in a row have raised no class's AP50 by so much.
_PATIENCE, _WORTH = 2, 0.001
_STRONGEST = 1.0  # ridge: under stronger ones AP50 hardly moves, and would seem to have stopped
_RESAMPLES = 100
_BIASES = (-2.0, -1.0, -0.5, 0.5, 1.0, 2.0, 3.0)


@dataclass(frozen=True, eq=False)
class AnchorJudge:
    """Average precision of logits of the learnt anchors; those left out have hardly a score.

    sample (n,) int64 : of each row that is judged, by its place in `truth`. places (n,) int64 : of these rows
    in the table. box (n, 4) : theirs. objectness (n,) : what their scores are multiplied with. base (n,
    columns) : logits of what the base shows.
    """

    head: Head
    truth: Truth
    sample: np.ndarray
    places: np.ndarray
    box: np.ndarray
    objectness: np.ndarray
    base: np.ndarray

    def precision(self, Z: np.ndarray, classes: np.ndarray | None = None) -> np.ndarray:
        """AP50 of each class, (C,) float64, or of some (c,) int64.

        Z (N, columns) : logits of the table's rows.
        """
        return self.found(Z, classes).average_precision()[0]

    def found(self, Z: np.ndarray, classes: np.ndarray | None = None) -> Found:
        """What is found of each class at an overlap of 0.5. Z, classes : as of `precision`.

        Boxes of a class have nothing to do with those of another: others are not looked for.
        """
        scores = product_scores(self.head, Z[self.places], self.base, self.objectness)
        classes = np.arange(scores.shape[1]) if classes is None else classes
        scores = np.where(np.isin(np.arange(scores.shape[1]), classes), scores, 0)
        starts = np.searchsorted(self.sample, np.arange(self.truth.samples + 1))
        spans = [slice(int(a), int(b)) for a, b in zip(starts, starts[1:], strict=False)]
        shown = Detections.joined(suppressed(self.box[span], scores[span]) for span in spans)
        return Found.of(shown, self.truth, classes.tolist(), (0.5,))


def fit_boxes(
    learning: Learning,
    families: Mapping[str, np.ndarray],
    goal: ResolvedGoal,
    settings: FitSettings,
    judge: AnchorJudge,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> Fitted:
    """The best patch of the target classes, or the base.

    learning : with marks of objects; of a softmax with their classes, C for none, -1 for anchors that do not
    count. families : name to
    columns of the table. goal : with classes of objects. judge : of the learning samples.
    """
    if judge.head.several:
        return _one_by_one(learning, families, goal, settings, judge, seed=seed, progress=progress)
    return _jointly(learning, families, goal, settings, judge, seed=seed, progress=progress)


def _one_by_one(
    learning: Learning,
    families: Mapping[str, np.ndarray],
    goal: ResolvedGoal,
    settings: FitSettings,
    judge: AnchorJudge,
    *,
    seed: int,
    progress: Progress,
) -> Fitted:
    """Each class for itself: a bias leaves the order of its scores as it is: the control is the base."""
    table, folds = learning.table, learning.folds(settings.folds, seed)
    nothing = np.zeros(table.Z.shape[1])
    if not families:
        return _base(nothing, ("no hidden tensor to learn from: the answer is the base",))
    problem = MarksProblem.of(table, goal.targets, folds)
    before = judge.found(table.Z)
    progress.start("fit", len(families), "fits")
    paths = []
    for name, columns in families.items():
        paths.append(_best_ridges(problem, name, columns, table, judge))
        progress.advance(1)
    progress.finish()
    path = max(paths, key=lambda one: float(np.nan_to_num(one.precision).mean())).path.refined(problem)
    held = table.Z.copy()
    held[:, goal.targets] = _in_units(problem, path.held_out)
    after = judge.found(held, goal.targets)
    taken = _surely(before.of_some(goal.targets), after, settings.margin)
    own, was, now = goal.targets[taken], before.average_precision()[0], after.average_precision()[0]
    shown = was.copy()
    shown[own] = now[taken]
    notes = (
        f"fitted {path.name}, ridges {path.ridge.min():g} to {path.ridge.max():g}: {len(own)} of {len(goal)} "
        f"classes get weights; {_changed(was, shown, goal)}",
    )
    if not len(own):
        return _base(nothing, (*notes, "nothing did better than the base on pictures held out"))
    held[:, goal.targets[~taken]] = table.Z[:, goal.targets[~taken]]
    loss = float(problem.loss_of_labels(path.held_out)[taken].mean())
    found = FitCandidate(path.name, path.columns, held, loss, lambda: path.patch(problem, taken))
    choice = BiasChoice(nothing, np.empty(0, bool), holds=True, trials=())
    return Fitted("fit", found, nothing, nothing, choice, notes)


@dataclass(frozen=True, eq=False)
class _RidgesByPrecision:
    """Weights on some columns, each class at the ridge of its best AP50. precision (c,) : that, held out."""

    path: MarksPath
    precision: np.ndarray


def _best_ridges(
    problem: MarksProblem, name: str, columns: np.ndarray, table: Table, judge: AnchorJudge
) -> _RidgesByPrecision:
    """From strong to weak ridges, until no class has got better for a while."""
    path = MarksPath(
        name,
        columns,
        design_of_marks(table, columns, problem.targets),
        problem.cool,
        np.full(len(problem.targets), RIDGES[0]),
    )

    def make() -> Arrays:
        found = _searched(path, problem, table, judge)
        return {"held_out": found.path.held_out, "ridge": found.path.ridge, "precision": found.precision}

    named = f"ridges by precision of {digest_of(columns)} for {problem.targets.tolist()}"
    found = problem.kept(named, make)
    reached = replace(path, held_out=found["held_out"], ridge=found["ridge"])
    return _RidgesByPrecision(reached, found["precision"])


def _searched(path: MarksPath, problem: MarksProblem, table: Table, judge: AnchorJudge) -> _RidgesByPrecision:
    folds, start = problem.folds.coarse, dict[int, Solution]()
    best = np.full(len(problem.targets), -1.0)
    since = 0
    for ridge in (ridge for ridge in RIDGES if ridge <= _STRONGEST):
        logits = held_out_marks(problem, path.design, folds, ridge, folds.numbers, start)
        Z = table.Z.copy()
        Z[:, problem.targets] = _in_units(problem, logits)
        now = np.nan_to_num(judge.precision(Z, problem.targets))
        since = 0 if (now > best + _WORTH).any() else since + 1
        better = now > best
        best, held_out = np.where(better, now, best), np.where(better, logits, path.held_out)
        path = replace(path, held_out=held_out, ridge=np.where(better, ridge, path.ridge))
        if since == _PATIENCE:
            break
    return _RidgesByPrecision(path, best)


def _in_units(problem: MarksProblem, calibrated: np.ndarray) -> np.ndarray:
    """Calibrated logits (N, c) as those of the base."""
    found: np.ndarray = (calibrated - problem.shift) / problem.slope
    return found


def _surely(before: Found, after: Found, margin: float) -> np.ndarray:
    """Classes (C,) bool that are found better, by so many standard errors of resampled pictures."""
    change = (after.average_precision() - before.average_precision())[0]
    rng = np.random.Generator(np.random.PCG64(0))
    many = before.samples
    times = [np.bincount(rng.integers(0, many, many), minlength=many) for _ in range(_RESAMPLES)]
    weights = np.array(times, np.float64)
    drawn = after.drawn(weights)[:, 0] - before.drawn(weights)[:, 0]
    found: np.ndarray = np.nan_to_num(change) > margin * np.nan_to_num(np.nanstd(drawn, axis=0))
    return found & np.isfinite(change)


def _jointly(
    learning: Learning,
    families: Mapping[str, np.ndarray],
    goal: ResolvedGoal,
    settings: FitSettings,
    judge: AnchorJudge,
    *,
    seed: int,
    progress: Progress,
) -> Fitted:
    """All classes of a softmax, at the most strength that keeps the other classes within their limits."""
    whole, folds = learning.table, learning.folds(settings.folds, seed)
    table = _without_ignored(whole, judge.head)
    before = judge.precision(whole.Z)
    what, of = f"biases of boxes, {in_full(goal)}", (whole.Z, judge.places, judge.box, judge.objectness)
    found = kept_of(folds.kept, what, of, lambda: {"bias": _best_biases(whole, judge, goal, before)})
    control = found["bias"]
    limits = _AllowedDrops(goal, before)
    progress.start("fit", len(families), "fits")
    tried = []
    for name, columns in families.items():
        tried.append(_best_ridge(table, columns, name, folds, judge, goal.targets))
        progress.advance(1)
    progress.finish()
    notes = list[str]()
    for candidate in tried:
        for strength in STRENGTHS:
            weaker = weakened(candidate, strength, table)
            after = judge.precision(weaker.held_out)
            notes.append(f"fitted {weaker.name}: {_changed(before, after, goal)}")
            if limits.keeps(after):
                bias = np.zeros(table.Z.shape[1])
                choice = BiasChoice(bias, np.empty(0, bool), holds=True, trials=())
                return Fitted("fit", weaker, bias, control, choice, tuple(notes))
    return _base(
        control, (*notes, "nothing did better than the base on pictures held out, within the limits")
    )


def _best_ridge(
    table: Table, columns: np.ndarray, name: str, folds: Folds, judge: AnchorJudge, targets: np.ndarray
) -> FitCandidate:
    """At the ridge of the targets' best AP50, from strong to weak until it has not got better for a while."""
    found, best, since = list[FitCandidate](), -1.0, 0
    for ridge in (ridge for ridge in RIDGES if ridge <= _STRONGEST):
        candidate = fit_linear(table, columns, name, folds, ridges=(ridge,))
        now = float(np.nan_to_num(judge.precision(candidate.held_out, targets)).mean())
        since = 0 if now > best + _WORTH else since + 1
        if now > best:
            found, best = [candidate], now
        if since == _PATIENCE:
            break
    return found[0]


def _without_ignored(table: Table, head: Head) -> Table:
    """The table with a class for every anchor; those that do not count are background, and weigh nothing."""
    weight = np.ones(len(table.labels)) if table.weight is None else table.weight
    counts = table.labels >= 0
    labels = np.where(counts, table.labels, objects_of(head, table.Z.shape[1]))
    return Table(table.T, table.Z, labels, table.groups, weight=np.where(counts, weight, 0.0))


@dataclass(frozen=True, eq=False)
class _AllowedDrops:
    """What may be lost. before (C,) : AP50 of the base, held out."""

    goal: ResolvedGoal
    before: np.ndarray

    def keeps(self, after: np.ndarray) -> bool:
        """Are the targets better, the whole kept, and no other class below its limit?"""
        goal, change = self.goal, 100 * np.nan_to_num(after - self.before)
        if not change[goal.targets].mean() > 0:
            return False
        others = np.delete(change, goal.targets)
        lost = goal.max_class_drop is not None and (others < -goal.max_class_drop).any()
        seen = np.isfinite(self.before)
        return not lost and bool(change[seen].mean() >= -goal.max_overall_drop)


def _best_biases(table: Table, judge: AnchorJudge, goal: ResolvedGoal, before: np.ndarray) -> np.ndarray:
    """The bias of each target that is best for its AP; nothing where the whole falls."""
    bias = np.zeros(table.Z.shape[1])
    for number in goal.targets.tolist():
        best = before[number]
        for value in _BIASES:
            Z = table.Z.copy()
            Z[:, number] += np.asarray(value, Z.dtype)
            (now,) = judge.precision(Z, np.array([number]))
            if now > best:
                best, bias[number] = now, value
    if not bias.any():
        return bias
    after = judge.precision(table.Z + bias.astype(table.Z.dtype))
    return bias if _AllowedDrops(goal, before).keeps(after) else np.zeros(len(bias))


def _base(control: np.ndarray, notes: tuple[str, ...]) -> Fitted:
    choice = BiasChoice(control, np.empty(0, bool), holds=True, trials=())
    return Fitted("base", None, np.zeros(len(control)), control, choice, notes)


def _changed(before: np.ndarray, after: np.ndarray, goal: ResolvedGoal) -> str:
    """In words, what AP50 (C,) of each class came to."""
    own = goal.targets
    figures = [f"{mean(each):.1%}" for each in (before, after, before[own], after[own])]
    return "held out, mAP50 {} -> {}, of the targets {} -> {}".format(*figures)
