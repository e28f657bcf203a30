"""How are the classes spared that would pay for the targets? Each gets a bias, as small as will do.

Raising a target takes samples from a few classes that look like it. Where one of them would lose more than
it may, raising that class as well, just far enough, costs the targets less than raising them less.

What a class gets right is counted half by labels and half by calibrated probabilities: labels alone are noisy
where few samples change, probabilities alone are off where the model is. Of all classes together, and of the
targets, which take from several, probabilities are off by less: there labels count a quarter. Where samples
hang together and probabilities are off for sure, labels alone count, with whole standard errors. So they do
at positions, where one class covers most of a picture and one temperature cannot serve all: with so many
standard errors there that all classes at once are as sure to keep their limits as one is by one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from onnxtweak.engine.machine.large_arrays import by_rows, entries, let_go, light_blocks, transposed
from onnxtweak.goal import ResolvedGoal
from onnxtweak.head import Head
from onnxtweak.method.temperature import calibrated
from onnxtweak.sample_counts import independent_changes

# Rounds in which the classes that lack most are raised; what is not enough by then is not going to be.
_ROUNDS = 25
# The targets are raised by up to so many temperatures more than calibrates them against the other classes, in
# steps of this, finer near the best down to this.
_MOST, _STEP, _FINEST = 5.0, 0.125, 0.01
# So many steps in a row at which a limit is not kept end the search, from where the targets are calibrated
# on: others, farther, seldom keep it. Before, the first samples that change may be too few to tell.
_PATIENCE = 3
_ROUNDING = 1e-9
# How much labels count against probabilities overall and for the targets; for a class it is half. How far,
# for a margin of 1, the overall accuracy stays clear of its limit: by so many standard errors of the samples
# that changed, which is what labels leave open, and by so large a share of them, by which probabilities may
# be off. A class, which may lose some points, stays clear by so many standard errors. Chosen on two halves of
# each of thirteen public nets; others, and fewer samples, are in benchmarks/RESULTS.md.
_BY_LABELS = 0.25
_OVERALL, _OVERALL_SHARE = 0.7, 0.06
_OF_CLASS = 0.5
# Probabilities are off where the classes that pay lose more by labels than by them, by so many standard
# errors of the groups that changed. Of samples that stand alone this was a loss: on thirteen public nets a
# class is beyond its limit in 8 cases of a hundred instead of 9, for a fourteenth of what targets gain.
_SURELY = 2.0
# The samples nearest to turning to a class are looked at first: those that a bias of this share of the
# temperature turns, then this many times as much.
_NEAR, _FARTHER = 1 / 16, 16


def spare(ledger: Ledger, goal: ResolvedGoal, margin: float) -> tuple[np.ndarray, bool]:
    """Biases of all classes (C,), and whether the goal's limits are kept under them.

    ledger : of the logits that get them. margin : how far accuracies stay clear of their limits, 1 as told at
    the top. The targets, calibrated against each other, are raised alike, to where they do best while the
    others can be spared. With true probabilities p no other biases do better: the best decision is the class
    of the largest l p, with one multiplier l for all targets, and one for each class whose limit binds.
    """
    bias, holds = _best_spared(ledger, goal, margin)
    takes = goal.at_positions and not goal.all_are_targets(ledger.labels)
    if holds and (takes or ledger.probabilities_off(bias, goal)):
        paying = int(np.count_nonzero(ledger.support)) - len(goal)
        for errors in (_errors_of(paying), 1.0) if takes else (1.0,):
            ledger.count_labels_alone(errors)
            surer, keep = _best_spared(ledger, goal, margin)
            if keep:  # few samples may allow nothing by labels alone
                return surer, keep
    return bias, holds


def _errors_of(classes: int) -> float:
    """Standard errors within which so many estimates lie at once as surely as one lies within one of its own.

    With biases as high as limits allow, all classes that pay are at their limits: those whose samples looked
    better than they are would be beyond.
    """
    normal = NormalDist()
    return -normal.inv_cdf(normal.cdf(-1.0) / max(classes, 1))


def _best_spared(ledger: Ledger, goal: ResolvedGoal, margin: float) -> tuple[np.ndarray, bool]:
    best = ledger.raised(np.zeros(ledger.classes), goal, margin)
    if best is None:
        return np.zeros(ledger.classes), False
    if goal.all_are_targets(ledger.labels):
        return best.bias, True

    def of_targets(found: _Raised) -> float:
        return float(found.earned[goal.targets].sum())

    calibrating = ledger.calibration[goal.targets]
    common = float(calibrating.mean())
    calibrating = calibrating - common
    height, step, since = 0.0, _STEP, 0
    lacking = max(common - ledger.usual_bias(goal.targets), 0.0) / ledger.temperature
    heights: Sequence[float] = np.arange(0.0, lacking + _MOST, _STEP).tolist()
    while heights:
        for tried in heights:
            bias = goal.on_all_classes(calibrating + tried * ledger.temperature, ledger.classes)
            found = ledger.raised(bias, goal, margin)
            since = since + 1 if found is None and tried >= lacking else 0
            if found is not None and of_targets(found) > of_targets(best):
                best, height = found, tried
            if since == _PATIENCE:
                break
        step /= 2
        heights = [height - step, height + step] if step > _FINEST else []
    return best.bias, True


@dataclass(frozen=True)
class _Raised:
    """Biases (C,) under which every class keeps its limit.

    earned (C,) float64 : by each class under them, as `Ledger._surer`. changed : samples right under them or
    without the patch, but not both. error : standard error of how many are right, from those.
    """

    bias: np.ndarray
    earned: np.ndarray
    changed: int
    error: float


class Ledger:
    """How much each class earns under biases, and must: what it gets right."""

    def __init__(
        self,
        Z: np.ndarray,
        base: np.ndarray,
        labels: np.ndarray,
        head: Head,
        groups: np.ndarray | None = None,
    ) -> None:
        """Z (N, C) : logits under the patch, held out. base (N, C) : without it. labels (N,) int64.

        groups (N,) int64 : samples that are not independent; None: all are.
        """
        self.Z, self.labels, self.head, self.groups = Z, labels, head, groups
        self.columns = transposed(Z)  # a class is looked at alone far more often than a sample
        self.classes, found = Z.shape[1], calibrated(Z, labels)
        self.temperature, self.calibration, self.credit = found.temperature, found.bias, found.credit(labels)
        self.predicted = by_rows(head.predict, base)
        self.was_right = self.predicted == labels
        self.support = np.bincount(labels, minlength=self.classes)
        self._reach = np.full(self.classes, _NEAR * self.temperature)
        self.by_labels, self._errors = False, _OF_CLASS
        self._begin()

    def _begin(self) -> None:
        """Nothing is known yet but what the base earns."""
        self.before = self._earned(self.predicted)
        self.before_overall = float(self._surer(self.before, self.was_right).sum())
        self._known: dict[tuple[object, ...], _Raised | None] = {}

    def count_labels_alone(self, errors: float) -> None:
        """From now on. errors : by how many standard errors a class stays clear of its limit."""
        for part, block in light_blocks(self.credit):
            block[:] = 0
            block[np.arange(len(block)), self.labels[part]] = 1
        self.by_labels, self._errors = True, errors
        self._begin()

    def probabilities_off(self, bias: np.ndarray, goal: ResolvedGoal) -> bool:
        """Whether classes that are no targets surely lose more under biases (C,) than probabilities say.

        Asked of samples that hang together alone.
        """
        if self.by_labels or self.groups is None:
            return False
        predicted = by_rows(lambda Z: self.head.predict_biased(Z, bias), self.Z)
        (turned,) = (predicted != self.predicted).nonzero()
        less = np.zeros(len(turned))  # what each earns less by its label than by its probabilities
        for shown, sign in ((predicted, 1.0), (self.predicted, -1.0)):
            own, labels = shown[turned], self.labels[turned]
            right = own == labels
            p = 2 * entries(self.credit, shown)[turned] - right
            less += np.where(np.isin(own, goal.targets), 0.0, sign * (p - right))
        _, group = np.unique(self.groups[turned], return_inverse=True)
        error = np.sqrt(max(float((less**2).sum()), float((np.bincount(group, less) ** 2).sum())))
        return float(less.sum()) > _SURELY * error

    def usual_bias(self, targets: np.ndarray) -> float:
        """The mean bias that calibrates the other classes, as far as they have samples."""
        others = np.setdiff1d(np.flatnonzero(self.support), targets)
        return float(self.calibration[others].mean()) if len(others) else 0.0

    def raised(self, bias: np.ndarray, goal: ResolvedGoal, margin: float) -> _Raised | None:
        """`bias` (C,) and what the classes need that lack; None where the limits are not kept even so."""
        found = self._classes_raised(bias, goal, margin)
        if found is None:
            return None
        floor = self._overall_floor(found, goal, margin)
        return found if found.earned.sum() >= floor - _ROUNDING else None

    def _classes_raised(self, bias: np.ndarray, goal: ResolvedGoal, margin: float) -> _Raised | None:
        """`raised`, whatever all samples lose together: found once, however often that limit varies."""
        key = bias.tobytes(), goal.max_class_drop, goal.unnamed_stay, margin
        if key not in self._known:
            self._known[key] = self._without_a_lack(bias.copy(), goal, margin)
        return self._known[key]

    def _without_a_lack(self, bias: np.ndarray, goal: ResolvedGoal, margin: float) -> _Raised | None:
        floor, clear = self._class_floor(goal, margin)
        shift = bias.astype(self.Z.dtype)
        predicted = by_rows(lambda Z: self.head.predict(Z + shift), self.Z)
        top = entries(self.Z, predicted) + shift.take(predicted)
        for _ in range(_ROUNDS):
            earned = self._earned(predicted)
            right = predicted == self.labels
            change = right.astype(np.int8) - self.was_right
            changed = independent_changes(change, self.labels, self.classes, self.groups)
            missing = floor + clear * np.sqrt(changed) - earned
            (lacking,) = (missing > _ROUNDING).nonzero()
            if not len(lacking):
                (overall,) = independent_changes(change, np.zeros_like(self.labels), 1, self.groups)
                count = int(np.count_nonzero(change))
                return _Raised(bias, self._surer(earned, right), count, float(np.sqrt(overall)))
            for c in lacking.tolist():
                step = self._step(top - self._column(c, bias), predicted, c, float(missing[c]))
                if step is None:
                    return None
                bias[c] += step
            self._raise(lacking, bias, top, predicted)
        return None

    def _column(self, c: int, bias: np.ndarray) -> np.ndarray:
        """Logits (N,) of a class under biases (C,)."""
        column: np.ndarray = self.columns[c] + self.Z.dtype.type(bias[c])
        let_go(self.columns[c])
        return column

    def _raise(self, raised: np.ndarray, bias: np.ndarray, top: np.ndarray, predicted: np.ndarray) -> None:
        """Bring the highest logits (N,) and their classes (N,) up to date, where classes have been raised.

        raised (r,) int64, ascending : these. bias (C,) : now.
        """
        # A class that is raised again takes back what a lower one takes of its old height.
        for c in raised.tolist():
            column = self._column(c, bias)
            (near,) = (column >= top).nonzero()  # few turn
            own = column.take(near)
            turned = self.head.beats(own, c, top.take(near), predicted.take(near))
            near = near[turned]
            top[near], predicted[near] = own[turned], c

    def _earned(self, predicted: np.ndarray) -> np.ndarray:
        return np.bincount(predicted, entries(self.credit, predicted), self.classes)

    def _surer(self, earned: np.ndarray, right: np.ndarray) -> np.ndarray:
        """What each class earned (C,), by labels to a quarter alone. right (N,) bool : by labels."""
        by_labels = np.bincount(self.labels[right], minlength=self.classes)
        found: np.ndarray = _BY_LABELS * by_labels + (1 - _BY_LABELS) * (2 * earned - by_labels)
        return found

    def _class_floor(self, goal: ResolvedGoal, margin: float) -> tuple[np.ndarray, np.ndarray]:
        """What each class has to earn (C,), and how much more for the root of how many samples changed."""
        allowed = (goal.max_class_drop or 0.0) / 100 * self.support
        # So few samples cannot tell whether a class loses that little: one of them may be lost.
        few = (allowed > 0) & (allowed < 1)
        floor: np.ndarray = self.before - np.where(few, 1.0, allowed)
        if not goal.unnamed_stay:
            floor[self.support == 0] = -np.inf
        return floor, np.where(few, 0.0, self._errors * margin)

    def _overall_floor(self, found: _Raised, goal: ResolvedGoal, margin: float) -> float:
        allowed = goal.max_overall_drop / 100 * len(self.labels)
        clear = found.error if self.by_labels else _OVERALL * found.error + _OVERALL_SHARE * found.changed
        return self.before_overall - allowed + margin * clear

    def _step(self, gap: np.ndarray, predicted: np.ndarray, c: int, missing: float) -> float | None:
        """The smallest bias on class c that earns what is missing; None where nothing does.

        gap (N,) : the bias from which on a sample is predicted as c, 0 where it is; not finite: never.
        """
        reach, credit = float(self._reach[c]), self.credit.reshape(-1)
        while True:  # a class seldom needs more than its nearest samples
            (nearest,) = (gap <= reach).nonzero()
            nearest = nearest[predicted.take(nearest) != c]
            gaps = gap.take(nearest)
            order = gaps.argsort(kind="stable")
            earned = credit.take(nearest.take(order) * self.classes + c).cumsum(dtype=np.float64)
            let_go(self.credit)
            enough = int(earned.searchsorted(missing))
            if enough < len(nearest):
                step = float(gaps[order[enough]])
                self._reach[c] = 2 * step
                return step + 1e-6 * max(abs(step), self.temperature)
            farthest = gap.max(initial=-np.inf, where=np.isfinite(gap))
            if not farthest > reach:
                return None
            reach = min(_FARTHER * max(reach, _NEAR * self.temperature), float(farthest))
