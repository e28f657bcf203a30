"""How do several methods compare on the same samples, at the same overall accuracy?

Each method hands over a result; here its operating point is set on samples held out, and the accuracy of the
targets on test is read off at fixed drops of the overall accuracy, for all methods in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from onnxtweak.engine.machine.large_arrays import by_rows
from onnxtweak.goal import ResolvedGoal, least_right
from onnxtweak.method.compare.repair import Reranking
from onnxtweak.method.folds import COARSE, Arrays, fold_numbers
from onnxtweak.method.metrics import fixed_and_broken, harm, mcnemar, measure
from onnxtweak.method.table import Table
from onnxtweak.method.tuning.bias_path import BiasPaths
from onnxtweak.method.tuning.boosted import boost_table
from onnxtweak.method.tuning.label_point import best_thresholds
from onnxtweak.method.tuning.metric_bias import tune
from onnxtweak.method.tuning.operating_point import choose
from onnxtweak.method.tuning.target_bias import set_target_bias, sparing_classes
from onnxtweak.metric.kinds import Metric, Predictions
from onnxtweak.metric.several import MacroF1
from onnxtweak.patch import ByPlace, DensePatch, Linear, Mlp
from onnxtweak.types import Metrics

# Drops of the overall accuracy on test, in percentage points, at which the targets are read.
DROPS = (0.0, 0.1, 0.3, 1.0)
CURVE = (-5.0, -3.0, -2.0, -1.0, -0.5, *DROPS, 2.0, 3.0, 5.0)


@dataclass(frozen=True)
class MethodResult:
    """A method's patch on one split, its operating point not yet set.

    columns (K,) : of the tables, that the patch reads. held_out, base (n, C) : logits with and without it on
    samples that it was not fitted to; labels (n,) : theirs. point (C,) : biases that are part
    of the method; None: they are set on the samples held out. at (D,) : readings on test at each of CURVE,
    where they are not made with biases. note : for the reader. groups (n,) int64 : samples held out that are
    not independent; None: all are.
    """

    columns: np.ndarray
    patch: DensePatch | Reranking
    held_out: np.ndarray
    base: np.ndarray
    labels: np.ndarray
    point: np.ndarray | None = None
    at: np.ndarray | None = None
    note: str = ""
    groups: np.ndarray | None = None

    @property
    def parameters(self) -> int:
        """Numbers that are not zero."""
        return self.patch.parameters

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All of it as arrays."""
        own = {f"patch {name}": np.asarray(part) for name, part in vars(self.patch).items()}
        found = {name: np.asarray(part) for name, part in vars(self).items() if part is not None}
        return {**found, "patch": np.array(type(self.patch).__name__), **own}

    @classmethod
    def of_arrays(cls, found: Arrays) -> MethodResult:
        """What `arrays` gave, which may be among others."""
        forms = (Linear, Mlp, ByPlace, Reranking)
        form = next(form for form in forms if form.__name__ == str(found["patch"]))
        parts = ((each.name, found[f"patch {each.name}"]) for each in fields(form))
        numbers: dict[str, Any] = {name: part if part.ndim else part.item() for name, part in parts}
        logits = found["held_out"], found["base"], found["labels"]
        point, at, groups = (found.get(name) for name in ("point", "at", "groups"))
        return cls(found["columns"], form(**numbers), *logits, point, at, str(found["note"]), groups)


@dataclass(frozen=True)
class MethodOutcome:
    """How a method did on test.

    metrics : at its own operating point. at (D,) : target accuracy at each of CURVE; NaN: not reached.
    fixed, broken, mcnemar_p, E : against the base. bias (C,) : its operating point. predicted (N,) int64, or
    marks (N, C) : on test. delivered : whether the patch kept the limit on the samples held out; where it did
    not, the base is delivered. made : what it says of test samples, where they are read by a metric.
    """

    metrics: Metrics
    at: np.ndarray
    fixed: int
    broken: int
    mcnemar_p: float
    E: float
    bias: np.ndarray
    predicted: np.ndarray
    delivered: bool = True
    made: Predictions | None = None


def metric_shown(goal: ResolvedGoal) -> Metric | None:
    """What the methods are read by on test: the goal's metric, or the F1 of the targets of several labels.

    None: the accuracy of the targets at drops of the overall accuracy.
    """
    if goal.metric is None and goal.head.several:
        return MacroF1("f1", "mean F1 of the targets", only=goal.targets)
    return goal.metric


def judge(result: MethodResult, test: Table, goal: ResolvedGoal, margin: float) -> MethodOutcome:
    """Set the operating point on the samples held out, and measure on the test samples.

    A patch that does not keep the limit there is not delivered: the base is.
    """
    bias, delivered = result.point, True
    Z = test.patched(result.columns, result.patch)
    if bias is None:
        bias, delivered = _operating_point(result, goal, margin)
        bias = bias if delivered else np.zeros(Z.shape[1])
    was = by_rows(goal.head.predict, test.Z)
    new = by_rows(lambda Z: Z + bias.astype(Z.dtype), Z if delivered else test.Z)
    now = by_rows(goal.head.predict, new)
    before, after = (measure(predicted, test.labels, goal, Z) for predicted in (was, now))
    fixed, broken = fixed_and_broken(*(goal.head.decisions(each, test.labels).right for each in (was, now)))
    return MethodOutcome(
        after,
        _at_drops(result, Z, test, goal),
        fixed,
        broken,
        mcnemar(fixed, broken),
        harm(before, after),
        bias,
        now,
        delivered,
        None if metric_shown(goal) is None else Predictions(test.labels, now, new),
    )


def _at_drops(result: MethodResult, Z: np.ndarray, test: Table, goal: ResolvedGoal) -> np.ndarray:
    """The targets at each drop of CURVE, (D,) float64; of several labels, which trade nothing, NaN."""
    if goal.head.several:
        return np.full(len(CURVE), np.nan)
    return readings(Z, test.Z, test.labels, goal, CURVE) if result.at is None else result.at


def _operating_point(result: MethodResult, goal: ResolvedGoal, margin: float) -> tuple[np.ndarray, bool]:
    """The best biases (C,) for the goal on the samples held out, and whether they keep its limits."""
    held_out, base, labels = result.held_out, result.base, result.labels
    if goal.head.several:
        return best_thresholds(held_out, labels, goal), True
    if goal.metric is not None:
        fold = fold_numbers(labels, COARSE, 0, result.groups)
        found = tune(held_out, base, labels, goal, fold, margin, result.groups)
        return found.bias, found.holds
    choice = set_target_bias(held_out, base, labels, goal, margin=margin)
    return choice.bias, choice.holds


def readings(
    Z: np.ndarray, base: np.ndarray, labels: np.ndarray, goal: ResolvedGoal, drops: Sequence[float]
) -> np.ndarray:
    """Best target accuracy (D,) that biases on the targets reach at each drop of the overall accuracy.

    Drops are percentage points below the base's accuracy on the same samples; at each stands the best
    that was found for it or a smaller one. NaN where no bias gets there, or a class loses too much.
    """
    samples = len(labels)
    was, unbiased = (by_rows(goal.head.right, logits, labels) for logits in (base, Z))
    floor = np.array([least_right(int(was.sum()), drop, samples) for drop in drops])
    class_floor = goal.class_floor(was, labels, Z.shape[1])
    if len(goal) == 1:
        return _along_one_bias(Z, labels, goal, floor, class_floor)
    table, ones = boost_table(Z, labels, goal), np.ones((samples, len(goal), 1))
    paths, own = BiasPaths(table, ones, (1,)), goal.wanted(labels)
    found, point = np.full(len(drops), np.nan), None
    ascending = np.argsort(drops, kind="stable")
    for number in ascending:
        room = (int(unbiased.sum()) - floor[number]) / samples * 100
        within = replace(goal, max_overall_drop=room, max_class_drop=None)
        point = choose(table, ones, (1,), None, goal=within, paths=paths, after=point)
        right, spared = table.right(point.scale), True
        if class_floor is not None:
            _, right, spared = sparing_classes(table, point.scale, class_floor)
        if spared and right.sum() >= floor[number]:
            found[number] = right[own].mean()
    found[ascending] = np.fmax.accumulate(found[ascending])
    return found


def _along_one_bias(
    Z: np.ndarray, labels: np.ndarray, goal: ResolvedGoal, floor: np.ndarray, class_floor: np.ndarray | None
) -> np.ndarray:
    """Every bias from minus to plus infinity: a sample turns to the target where the bias passes its gap.

    floor (D,), class_floor (C,) : how many of all samples, and of each class, must be right.
    """
    table = boost_table(Z, labels, goal)
    rival, gap = table.rest_label, table.rest.astype(np.float64) - table.target_logits[:, 0]
    order = np.argsort(gap, kind="stable")
    is_own = goal.wanted(labels)[order]
    gain = np.where(is_own, 1, -(rival == labels)[order].astype(np.int64))
    overall = int((rival == labels).sum()) + np.append(0, np.cumsum(gain))
    reached = np.append(0, np.cumsum(is_own))
    apart = np.append(np.append(True, np.diff(gap[order]) > 0), True)  # equal gaps turn together
    if class_floor is not None:
        apart &= reached >= class_floor[goal.targets[0]]
        lost = np.flatnonzero(gain < 0)
        for c in np.unique(labels[~goal.wanted(labels)]):
            spare = np.count_nonzero((rival == labels) & (labels == c)) - class_floor[c]
            places = lost[labels[order][lost] == c]
            if spare < len(places):  # the place at which one sample too many is lost
                apart[(places[int(spare)] + 1 if spare >= 0 else 0) :] = False
    most = max(int(is_own.sum()), 1)
    return np.array(
        [reached[ok].max() / most if (ok := apart & (overall >= least)).any() else np.nan for least in floor]
    )
