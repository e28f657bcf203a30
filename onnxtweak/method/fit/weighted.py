"""Which patch is best for a goal that some samples matter more to: a slice, a metric (METHOD 7.5, 7.6)?

What such a goal needs is a weight for each row. The weight goes up along a path; at each step all classes are
fitted jointly as ever, and the result is judged on samples held out: it has to keep the limits, and of what
does, the patch under which the goal does best is the answer. The control is the best biases of all classes
for the same goal. How well a goal does, and which rows need weight, its `GoalJudge` knows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxtweak.engine.machine.single_thread import side_by_side
from onnxtweak.goal import ResolvedGoal
from onnxtweak.method.fit.candidate import ALL_BIASES, FitCandidate
from onnxtweak.method.fit.fit import Fitted, Settling, try_on_path
from onnxtweak.method.fit.learning import Learning
from onnxtweak.method.fit.linear import AT_ONCE, RIDGES, LinearPath
from onnxtweak.method.fit.mlp import averaged
from onnxtweak.method.folds import Folds
from onnxtweak.method.table import Table
from onnxtweak.method.tuning.target_bias import BiasChoice
from onnxtweak.settings import FitSettings
from onnxtweak.types import Progress, silent

# How much more the rows that need it count than others; 1 is the joint fit without weights.
WEIGHTS = (2.0, 5.0, 10.0, 20.0)
# Ridges that are tried on either side of the last weight's best.
_NEAR = 2


@dataclass(frozen=True, eq=False)
class Judged:
    """A candidate (None: biases alone) at its best operating point, on samples held out.

    choice : its biases, and what they do. rating : how well the goal does, higher is better. Z (n, C) :
    logits of the judged samples under both.
    """

    candidate: FitCandidate | None
    choice: BiasChoice
    rating: float
    Z: np.ndarray


class GoalJudge(Settling, ABC):
    """What a goal thinks of candidates. what : the goal, for notes. fold (n,) : of the judged samples."""

    what: str

    def __init__(self, table: Table, goal: ResolvedGoal, folds: Folds, margin: float) -> None:
        super().__init__(table, goal, folds, margin, only_targets=False)
        self.fold = folds.coarse.number[folds.judged]

    @abstractmethod
    def need(self, table: Table) -> np.ndarray:
        """How much each row of a table needs weight, (N,) float64 from 0 to 1: it counts `weight ** need`."""

    def told_something(self, plain: Sequence[FitCandidate], shifts: FitCandidate) -> bool:
        """Whether neurons are worth trying. plain : unweighted. shifts : a bias for every class."""
        return True

    @abstractmethod
    def judged_at_best(self, candidate: FitCandidate) -> Judged:
        """A candidate at its best operating point that keeps the limits; at any if none does."""

    @abstractmethod
    def biases(self) -> Judged:
        """The best biases of all classes for the goal within its limits: the control."""

    @abstractmethod
    def gains_surely(self, one: Judged) -> bool:
        """Does the goal do better than under the base?"""

    @abstractmethod
    def ahead_of(self, one: Judged, control: Judged) -> bool:
        """Does it do better than under biases alone?"""

    @abstractmethod
    def said(self, one: Judged) -> str:
        """How it did, for notes."""


def fit_weighted(
    learning: Learning,
    families: Mapping[str, np.ndarray],
    judge: GoalJudge,
    folds: Folds,
    settings: FitSettings,
    *,
    progress: Progress = silent,
) -> Fitted:
    """The patch under which the judge's goal does best, or biases of all classes, or the base.

    The rest as of `fit_all`.
    """
    tried, path = try_on_path(
        learning, families, folds, hidden=settings.hidden, always=True, progress=progress
    )
    shifts, plain = tried[0], [candidate for candidate in tried if candidate.name != ALL_BIASES]
    plain = plain if judge.told_something(plain, shifts) else []
    control, notes = judge.biases(), []
    best: Judged | None = None
    weighted = _weighted(learning, judge, folds, plain, path, progress) if plain and path else []
    for found in side_by_side(judge.judged_at_best, [*plain, *weighted], AT_ONCE):
        assert found.candidate is not None  # it is one
        notes.append(f"{found.candidate.name}: {judge.said(found)}")
        if judge.keeps(found.choice) and (best is None or found.rating > best.rating):
            best = found
    notes.append(f"biases of all classes: {judge.said(control)}")
    bias = control.choice.bias
    if best is not None and judge.gains_surely(best) and judge.ahead_of(best, control):
        assert best.candidate is not None
        notes += [*best.candidate.notes, f"chosen: {best.candidate.name}"]
        return Fitted("fit", best.candidate, best.choice.bias, bias, best.choice, tuple(notes))
    if control.choice.holds and bias.any() and judge.gains_surely(control):
        notes.append(f"no fitted patch helped {judge.what} more than biases on samples held out")
        return Fitted("bias", None, bias, bias, control.choice, tuple(notes))
    notes.append(f"nothing helped {judge.what} within its limits on samples held out: the base is kept")
    return Fitted("base", None, np.zeros(len(bias)), bias, control.choice, tuple(notes))


def _weighted(
    learning: Learning,
    judge: GoalJudge,
    folds: Folds,
    plain: Sequence[FitCandidate],
    path: LinearPath,
    progress: Progress,
) -> list[FitCandidate]:
    """Linear patches on the best family of neurons, what needs it weighted ever more.

    plain : unweighted, path : of the linear one of them.
    """
    need = judge.need(path.table)
    if not np.ptp(need):
        return []
    temperature, counted, family = learning.cooled(folds)[1], path.table.weight, path.name
    found: list[FitCandidate] = []
    progress.start("weigh the samples", len(WEIGHTS), "fits")
    for weight in WEIGHTS:
        counts = weight**need * (1.0 if counted is None else counted)
        place = RIDGES.index(path.ridge)  # the next weight's best is not far from it
        near = RIDGES[max(place - _NEAR, 0) : place + _NEAR + 1]
        path = path.weighted(counts, f"{family}, {judge.what} weighted {weight:g}").searched(near)
        candidate, path = path.crossed()
        found.append(candidate.warmed(temperature).of_first(len(folds.number)))
        progress.advance(1)
    progress.finish()
    # The hidden layer knows more of all samples, the weighted patch more of those that need it.
    mlps = [candidate for candidate in plain if "hidden units, decay" in candidate.name][:1]
    return found + [
        averaged(linear, mlp, learning.table.labels, folds.judged) for mlp in mlps for linear in found
    ]
