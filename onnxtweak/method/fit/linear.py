"""What does a linear patch of all classes reach, and with which ridge (METHOD 7.1)?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxtweak.method.fit.candidate import FitCandidate
from onnxtweak.method.folds import Folds
from onnxtweak.method.softmax import log_loss
from onnxtweak.method.solvers.multinomial import Solution, design, multinomial
from onnxtweak.method.table import Table
from onnxtweak.patch import Linear

# Ridges tried, from strong to weak, on columns of unit deviation.
RIDGES = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5)
# The path ends once this many ridges in a row have not lowered the loss.
_PATIENCE = 2
# Folds that the path is judged on; the others only at its best ridge.
_PATH_FOLDS = 2
# Tolerances of the solver: while choosing, smaller differences of the log-loss do not matter.
_COARSE, _FINE = 1e-5, 1e-8


def fit_linear(
    table: Table,
    columns: np.ndarray,
    name: str,
    folds: Folds,
    *,
    ridges: Sequence[float] = RIDGES,
) -> FitCandidate:
    """A linear patch of all classes on some columns, its ridge chosen by cross-validated log-loss."""
    problem = _LinearProblem(table, columns, folds)
    ridge, logits = problem.best_ridge(ridges if len(columns) else ridges[-1:])
    problem.hold_out(folds.numbers[_PATH_FOLDS:], ridge, {}, logits)
    loss = log_loss(logits[folds.judged], table.labels[folds.judged])
    described = f"{name}, ridge {ridge:g}" if len(columns) else name

    def learn() -> tuple[Linear, tuple[str, ...]]:
        found = problem.solved(ridge=ridge, tolerance=_FINE)
        notes = (f"{name}: {found.note}",) if found.note else ()
        return on_all_classes(found, problem.free, table.Z.shape[1]), notes

    return FitCandidate(described, columns, logits, loss, learn)


def on_all_classes(found: Solution, free: np.ndarray, classes: int) -> Linear:
    """The weights of the free classes as a patch of all; zeros on the others."""
    weight, bias = np.zeros((len(found.weight), classes)), np.zeros(classes)
    weight[:, free], bias[free] = found.weight, found.bias
    return Linear(weight, bias)


class _LinearProblem:
    """One family of columns, standardised once for all ridges and folds."""

    def __init__(self, table: Table, columns: np.ndarray, folds: Folds) -> None:
        self.table, self.folds = table, folds
        self.free = np.unique(table.labels)  # a class without samples keeps its logit
        self.design = design(table.T[:, columns])

    def solved(self, **options: Any) -> Solution:
        """The weights of the free classes. options : of `multinomial`."""
        return multinomial(self.design, self.table.Z, self.table.labels, free=self.free, **options)

    def best_ridge(self, ridges: Sequence[float]) -> tuple[float, np.ndarray]:
        """The best ridge, and logits (N, C), held out for the first folds, on which it was found."""
        table, first = self.table, self.folds.numbers[:_PATH_FOLDS]
        rows = np.isin(self.folds.number, first) & self.folds.judged
        best, best_loss, since = (ridges[0], table.Z), np.inf, 0
        starts: dict[int, np.ndarray] = {}
        for ridge in ridges:
            logits = table.Z.copy()
            self.hold_out(first, ridge, starts, logits)
            loss = log_loss(logits[rows], table.labels[rows])
            since = 0 if loss < best_loss else since + 1
            if loss < best_loss:
                best, best_loss = (ridge, logits), loss
            if since == _PATIENCE:
                break
        return best

    def hold_out(
        self, folds: np.ndarray, ridge: float, starts: dict[int, np.ndarray], logits: np.ndarray
    ) -> None:
        """Add to `logits` (N, C) of some folds' samples the scores of weights fitted to all other folds.

        starts : solutions of a similar ridge by fold; replaced by those of this one.
        """
        for k in folds:
            weight = self.folds.learning_weight(k)
            found = self.solved(ridge=ridge, sample_weight=weight, start=starts.get(k), tolerance=_COARSE)
            starts[k] = found.axes
            rows = self.folds.held_out(k)
            logits[np.ix_(rows, self.free)] += found.scores[rows].astype(logits.dtype)
