"""What does a linear patch of all classes reach, and with which ridge (METHOD 7.1)?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np

from onnxtweak.method.fit.candidate import FitCandidate
from onnxtweak.method.folds import Folds
from onnxtweak.method.softmax import log_loss, log_losses
from onnxtweak.method.solvers.multinomial import Design, Solution, design, multinomial
from onnxtweak.method.table import Table
from onnxtweak.patch import Linear

# Ridges tried, from strong to weak, on columns of unit deviation.
RIDGES = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5)
# The path ends once this many ridges in a row have not lowered the loss by this share of what had been
# gained, or one has raised it by this many standard errors: weaker ridges take the longest.
_PATIENCE, _WORTH, _SURELY = 2, 0.02, 2.0
# The path is judged on one of the five coarse folds if that holds so many samples, else on two of them; all
# folds are held out at its best ridge.
_ENOUGH = 2000
# What the solver may leave of the log-loss: while choosing, as a share of the base's; in the end, in nats.
_COARSE, _FINE = 5e-5, 1e-6


def fit_linear(
    table: Table,
    columns: np.ndarray,
    name: str,
    folds: Folds,
    *,
    ridges: Sequence[float] = RIDGES,
) -> FitCandidate:
    """A linear patch of all classes on some columns, its ridge chosen by cross-validated log-loss."""
    return search_ridges(table, columns, name, folds, ridges=ridges).candidate()


def search_ridges(
    table: Table,
    columns: np.ndarray,
    name: str,
    folds: Folds,
    *,
    ridges: Sequence[float] = RIDGES,
) -> LinearPath:
    """The best ridge for some columns, from strong to weak until the held-out log-loss no longer falls."""
    coarse = folds.coarse
    first = coarse.judged & (coarse.number == 0)
    numbers = (0,) if np.count_nonzero(first) >= _ENOUGH else (0, 1)
    counted = np.isin(coarse.number, numbers) & folds.judged
    labels = table.labels[counted]
    base = log_loss(table.Z[folds.judged], table.labels[folds.judged])
    path = LinearPath(name, columns, table, folds, design(table.T[:, columns]), _COARSE * base)
    best, since, lowest = path, 0, np.full(len(labels), np.inf)
    for ridge in ridges if len(columns) else ridges[-1:]:
        path = replace(path, ridge=ridge)
        logits, start = path.held_out(coarse, numbers, path.start)
        losses = log_losses(logits[counted], labels)
        path = replace(path, loss=float(losses.mean()), start=start)
        risen = losses - lowest
        worth = _WORTH * max(base - best.loss, 0.0)
        since = 0 if path.loss < best.loss - worth else since + 1
        if path.loss < best.loss:
            best, lowest = path, losses
        elif risen.mean() > _SURELY * risen.std() / np.sqrt(len(risen)):
            break
        if since == _PATIENCE:
            break
    return best


@dataclass(frozen=True, eq=False)
class LinearPath:
    """A family of columns, standardised once for all ridges and folds, at one ridge.

    columns (K,) int64 : of the table. tolerance : of the solver, while choosing. loss : mean log-loss over
    the coarse folds that ridges are compared on. start : `Solution.axes` of those, by fold.
    """

    name: str
    columns: np.ndarray
    table: Table
    folds: Folds
    design: Design
    tolerance: float
    ridge: float = RIDGES[0]
    loss: float = np.inf
    start: Mapping[int, np.ndarray] = field(default_factory=dict)

    @property
    def described(self) -> str:
        """For notes."""
        return f"{self.name}, ridge {self.ridge:g}" if len(self.columns) else self.name

    def candidate(self, losses: Mapping[str, float] = MappingProxyType({})) -> FitCandidate:
        """The patch, with every sample held out once. losses : of the families that it was chosen from."""
        table, judged = self.table, self.folds.judged
        coarse = np.array_equal(self.folds.number, self.folds.coarse.number)
        logits, found = self.held_out(self.folds, self.folds.numbers, self.start if coarse else {})
        loss = log_loss(logits[judged], table.labels[judged])
        middle: np.ndarray = np.mean(list(found.values()), axis=0)

        def learn() -> tuple[Linear, tuple[str, ...]]:
            solved = self._solved(_FINE, middle)
            notes = (f"{self.name}: {solved.note}",) if solved.note else ()
            return on_all_classes(solved, self._free, table.Z.shape[1]), notes

        behind = (pair for pair in losses.items() if pair[0] != self.described)
        others = tuple(f"{name}: held-out log-loss {loss - self.loss:+.4f}" for name, loss in behind)
        return FitCandidate(self.described, self.columns, logits, loss, learn, others)

    def held_out(
        self, folds: Folds, numbers: Iterable[int], start: Mapping[int, np.ndarray]
    ) -> tuple[np.ndarray, dict[int, np.ndarray]]:
        """Logits (N, C) with the scores of weights fitted to all other folds, for samples of some folds.

        start : solutions to begin with, by fold. Without one a fold begins at the base, never at another
        fold's solution: that has seen its samples, and a solver that stops early would not forget them all.
        Also the solutions, by fold.
        """
        logits, found = self.table.Z.copy(), {}
        for k in numbers:
            solved = self._solved(self.tolerance, start.get(k), folds.learning_weight(k))
            rows, found[k] = folds.held_out(k), solved.axes
            logits[np.ix_(rows, self._free)] += solved.scores[rows].astype(logits.dtype)
        return logits, found

    @property
    def _free(self) -> np.ndarray:
        return np.unique(self.table.labels)  # a class without samples keeps its logit

    def _solved(
        self, tolerance: float, start: np.ndarray | None, weight: np.ndarray | None = None
    ) -> Solution:
        return multinomial(
            self.design,
            self.table.Z,
            self.table.labels,
            ridge=self.ridge,
            free=self._free,
            sample_weight=weight,
            start=start,
            tolerance=tolerance,
        )


def on_all_classes(found: Solution, free: np.ndarray, classes: int) -> Linear:
    """The weights of the free classes as a patch of all; zeros on the others."""
    weight, bias = np.zeros((len(found.weight), classes)), np.zeros(classes)
    weight[:, free], bias[free] = found.weight, found.bias
    return Linear(weight, bias)
