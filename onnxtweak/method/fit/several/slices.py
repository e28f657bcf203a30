"""Which patch is best for one group of samples with several labels (METHOD 7.5, 17)?

Its samples count for more, while weights are fitted and while thresholds are set; how much more is chosen by
the F1 of the group's decisions on samples held out.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onnxtweak.errors import DataError
from onnxtweak.goal import ResolvedGoal
from onnxtweak.method.fit.fit import Fitted
from onnxtweak.method.fit.several.outcome import LabelsOutcome, settled
from onnxtweak.method.fit.several.problem import MarksProblem
from onnxtweak.method.fit.several.weights import MarksPath, search
from onnxtweak.method.fit.weighted import WEIGHTS
from onnxtweak.method.table import Table
from onnxtweak.metric.several import drawn_f1_of_groups, f1_of, f1_of_groups
from onnxtweak.types import Progress

_RESAMPLES = 200


def settled_for_slice(
    problem: MarksProblem,
    path: MarksPath | None,
    table: Table,
    goal: ResolvedGoal,
    margin: float,
    progress: Progress,
) -> Fitted:
    """The patch, or thresholds alone, under which the goal's slice does best within the limits; or the base.

    path : unweighted, on the best family of neurons. table : with `slices`. Raises DataError for a slice
    without a judged sample.
    """
    assert goal.slice is not None and table.slices is not None  # this is what is fitted for
    judged, codes = problem.folds.judged, table.slices
    if not (codes[judged] == goal.slice.wanted).any():
        raise DataError(
            f"the slice {goal.slice} has no sample to judge by",
            where="--slice",
            hint="give more samples of it; --val names those that choices are judged on",
        )
    need = goal.slice.need(codes, _right_share(problem))
    together = None if table.groups is None else table.groups[judged]
    judge = _SliceF1(goal, codes[judged], problem.marks[judged], together, margin)
    plain = settled(problem, path, goal, margin, table.groups)
    tried = [(1.0, plain)]
    progress.start("weigh the samples", len(WEIGHTS), "fits")
    for weight in WEIGHTS if np.ptp(need) else ():
        heavier = problem.emphasised(weight**need)
        own = None if path is None else search(path.name, path.columns, heavier, path.design).refined(heavier)
        tried.append((weight, settled(heavier, own, goal, margin, table.groups)))
        progress.advance(1)
    progress.finish()
    notes = [
        f"the slice counting {weight:g} times: {judge.said(each.was, each.shown)}" for weight, each in tried
    ]
    alone = max((each for _, each in tried), key=lambda each: judge.rating(each.alone, each.was))
    control = alone.fitted.control
    holding = [each for _, each in tried if judge.holds(each.was, each.shown)]
    best = max(holding, key=lambda each: judge.rating(each.shown, each.was), default=None)
    if best is not None and best.fitted.kind != "base" and judge.gains(best):
        return replace(best.fitted, control=control, notes=(*best.fitted.notes, *notes))
    notes.append("nothing helped the slice within its limits on samples held out: the base is kept")
    nothing = np.zeros_like(plain.fitted.bias)
    return replace(
        plain.fitted, kind="base", candidate=None, bias=nothing, control=control, notes=tuple(notes)
    )


def _right_share(problem: MarksProblem) -> np.ndarray:
    """The share of each sample's known marks that the base decides rightly, (N,) float64."""
    known, right = problem.marks >= 0, (problem.Z > 0) == (problem.marks == 1)
    found: np.ndarray = (right & known).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return found


class _SliceF1:
    """How well groups do on the judged samples: by the F1 of all decisions on theirs."""

    def __init__(
        self,
        goal: ResolvedGoal,
        codes: np.ndarray,
        marks: np.ndarray,
        together: np.ndarray | None,
        margin: float,
    ) -> None:
        """codes (n,) : group of each sample. together (n,) : of `Table.groups`."""
        assert goal.slice is not None
        self.goal, self.slice, self.marks, self.margin = goal, goal.slice, marks, margin
        self.codes, self.together = codes, together

    def groups(self, shown: np.ndarray) -> np.ndarray:
        """The F1 of each group, (G,)."""
        return f1_of_groups(shown, self.marks, self.codes, len(self.slice.names))

    def rating(self, shown: np.ndarray, was: np.ndarray) -> float:
        """As of `Slice.rating`: of the slice, or of the worst group and the mean of all."""
        each, seen = self.groups(shown), np.isin(np.arange(len(self.slice.names)), self.codes)
        worst = float((each[seen].min() + each[seen].mean()) / 2)
        return float(each[self.slice.wanted]) if self.slice.named else worst

    def holds(self, was: np.ndarray, shown: np.ndarray) -> bool:
        """Whether the mean F1 of the labels, and the F1 of each group, lose no more than they may."""
        there = (self.marks == 1).any(axis=0)
        lost = (f1_of(was, self.marks) - f1_of(shown, self.marks))[there].mean() * 100
        of_groups = (self.groups(was) - self.groups(shown)).max() * 100
        most = self.goal.max_class_drop
        return bool(lost <= self.goal.max_overall_drop + 1e-9 and (most is None or of_groups <= most + 1e-9))

    def gains(self, one: LabelsOutcome) -> bool:
        """Whether the slice surely does better."""
        many = len(self.slice.names)
        drawn = drawn_f1_of_groups(
            (one.was, one.shown), self.marks, self.codes, many, self.together, many=_RESAMPLES
        )[:, :, self.slice.wanted]
        change = float((self.groups(one.shown) - self.groups(one.was))[self.slice.wanted])
        return change > self.margin * float(np.std(drawn[:, 1] - drawn[:, 0]))

    def said(self, was: np.ndarray, shown: np.ndarray) -> str:
        """For notes."""
        w = self.slice.wanted
        before, after = self.groups(was)[w], self.groups(shown)[w]
        limits = "" if self.holds(was, shown) else "; more is lost than allowed"
        return f"held out, F1 of {self.slice} {before:.1%} -> {after:.1%}{limits}"
