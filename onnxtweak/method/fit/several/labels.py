"""Which patch is best for several labels at once (METHOD 17)? Each label is a problem of its own.

Its logit is calibrated (slope and bias), weights on hidden neurons are fitted to its known marks, with a
ridge of its own chosen by held-out log-loss, and one hidden layer for all labels is tried beside them. Then
its threshold is set for F1 by an exact search. A label gets each of that only where it does better on samples
held out; else a threshold alone, or nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from onnxtweak.goal import ResolvedGoal
from onnxtweak.method.fit.candidate import WORTH_READING, simplest
from onnxtweak.method.fit.fit import Fitted
from onnxtweak.method.fit.learning import Learning
from onnxtweak.method.fit.positions.context import simpler, with_context
from onnxtweak.method.fit.several.by_place import with_places
from onnxtweak.method.fit.several.hidden import with_hidden_layer
from onnxtweak.method.fit.several.outcome import settled
from onnxtweak.method.fit.several.problem import MarksProblem
from onnxtweak.method.fit.several.slices import settled_for_slice
from onnxtweak.method.fit.several.synapses import LabelSynapses, pursue_labels
from onnxtweak.method.fit.several.weights import LabelWeights, MarksPath, design_of_marks, search
from onnxtweak.method.fit.small import Budget
from onnxtweak.method.table import Table
from onnxtweak.settings import FitSettings
from onnxtweak.types import Progress, silent


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
    changed only where it does better on samples held out. With a slice, they bind all labels together, and
    the other groups.
    """
    table, folds = learning.table, learning.folds(settings.folds, seed)
    problem, budget = MarksProblem.of(table, goal.targets, folds), Budget.of(settings)
    if budget is not None:
        return _within(budget, problem, table, families, goal, settings)
    best = _best_path(problem, table, families, progress) if families else None
    if goal.slice is not None:
        return settled_for_slice(problem, best, table, goal, settings.margin, progress)
    weights: LabelWeights | None = best
    if best is not None and settings.hidden:
        weights = with_hidden_layer(best, problem, table, settings.hidden, progress)
    if weights is not None:
        weights = with_places(weights, problem, table)
    return settled(problem, weights, goal, settings.margin, table.groups).fitted


def _best_path(
    problem: MarksProblem, table: Table, families: Mapping[str, np.ndarray], progress: Progress
) -> MarksPath:
    """The smallest family that does about as well as any; with the context beside it where that pays."""

    def loss_of(path: MarksPath) -> np.ndarray:
        return problem.loss_of_samples(path.held_out)

    def searched(name: str, columns: np.ndarray) -> MarksPath:
        found = search(name, columns, problem, design_of_marks(table, columns, problem.targets))
        progress.advance(1)
        return found

    progress.start("fit", len(families), "fits")
    paths = [searched(name, columns) for name, columns in families.items()]
    base = problem.loss_of_samples(problem.cool)
    best = paths[simplest([loss_of(path) for path in paths], base, WORTH_READING)]
    wider = with_context(table, families, best.name, best.columns)
    best = best if wider is None else simpler((best, searched(*wider)), loss_of, base)
    progress.finish()
    return best.refined(problem)


def _within(
    budget: Budget,
    problem: MarksProblem,
    table: Table,
    families: Mapping[str, np.ndarray],
    goal: ResolvedGoal,
    settings: FitSettings,
) -> Fitted:
    """Few neurons for each label, of the widest family; thresholds alone, where it allows no more."""
    labels = len(goal)
    widest = max(families.values(), key=len, default=np.empty(0, np.int64))
    count = min(budget.neurons(labels), len(widest))
    weights: LabelSynapses | None = pursue_labels(problem, table, widest, count) if count else None
    found = settled(problem, weights, goal, settings.margin, table.groups).fitted
    if budget.affords(labels):
        return found
    nothing = np.zeros(problem.classes)
    said = f"{budget} allow no threshold for each of {labels:,} labels: the base is kept"
    return replace(found, kind="base", candidate=None, bias=nothing, notes=(said,))
