"""What does a linear patch of all classes reach, and with which ridge (METHOD 7.1)?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from onnxtweak.method.folds import Folds
from onnxtweak.method.solvers.multinomial import Solution, design, multinomial
from onnxtweak.method.table import Table
from onnxtweak.patch import Linear, Mlp

# Ridges tried, from strong to weak; per squared weight on columns of unit deviation.
RIDGES = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5)
# The path ends once this many ridges in a row have not lowered the loss.
_PATIENCE = 2
# Folds that the path is judged on; the others only at its best ridge.
_PATH_FOLDS = 2
# While choosing, differences of the log-loss below this do not matter; the last fit is solved further.
_COARSE, _FINE = 1e-5, 1e-8


@dataclass(frozen=True, eq=False)
class FitCandidate:
    """One way to patch. name : for notes. columns (K,) int64 : the table's columns it reads.

    held_out (N, C) : logits of each sample under weights that have not seen it. loss : mean log-loss of those
    over the judged samples. learn : the patch fitted to all samples, and notes on how that went; called when
    the first is asked for, which it is of the best candidate alone.
    """

    name: str
    columns: np.ndarray
    held_out: np.ndarray
    loss: float
    learn: Callable[[], tuple[Linear | Mlp, tuple[str, ...]]]

    @cached_property
    def _learnt(self) -> tuple[Linear | Mlp, tuple[str, ...]]:
        return self.learn()

    @property
    def patch(self) -> Linear | Mlp:
        """Of the columns, fitted to all samples."""
        return self._learnt[0]

    @property
    def notes(self) -> tuple[str, ...]:
        """On fitting it."""
        return self._learnt[1]


def log_loss(Z: np.ndarray, labels: np.ndarray) -> float:
    """Mean cross-entropy of logits Z (N, C)."""
    return float(losses(Z, labels).mean())


def losses(Z: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Cross-entropy of each sample, (N,) float64."""
    shifted = Z.astype(np.float64) - Z.max(axis=1, keepdims=True)
    return np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]


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
    ridge, logits = problem.along_the_path(ridges if len(columns) else ridges[-1:])
    problem.hold_out(folds.numbers[_PATH_FOLDS:], ridge, {}, logits)
    loss = log_loss(logits[folds.judged], table.labels[folds.judged])
    described = f"{name}, ridge {ridge:g}" if len(columns) else name

    def learn() -> tuple[Linear, tuple[str, ...]]:
        whole = problem.solved(ridge=ridge, tolerance=_FINE)
        notes = (f"{name}: {whole.note}",) if whole.note else ()
        return on_all_classes(whole, problem.free, table.Z.shape[1]), notes

    return FitCandidate(described, columns, logits, loss, learn)


def on_all_classes(found: Solution, free: np.ndarray, classes: int) -> Linear:
    """Weights of the free classes; nothing on the others."""
    weight, bias = np.zeros((len(found.weight), classes)), np.zeros(classes)
    weight[:, free], bias[free] = found.weight, found.bias
    return Linear(weight, bias)


class _LinearProblem:
    """One family of columns, made ready once for all ridges and folds."""

    def __init__(self, table: Table, columns: np.ndarray, folds: Folds) -> None:
        self.table, self.folds = table, folds
        self.free = np.unique(table.labels)  # a class without samples keeps its logit
        self.design = design(table.T[:, columns])

    def solved(self, **how: Any) -> Solution:
        """The weights of the free classes; how : as `multinomial` takes it."""
        return multinomial(self.design, self.table.Z, self.table.labels, free=self.free, **how)

    def along_the_path(self, ridges: Sequence[float]) -> tuple[float, np.ndarray]:
        """The best ridge, and logits (N, C) held out for the first folds, on which it was found."""
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
        self, which: np.ndarray, ridge: float, starts: dict[int, np.ndarray], logits: np.ndarray
    ) -> None:
        """Write into `logits` (N, C) what weights that were fitted to all other folds say of some folds.

        starts : solutions of a similar ridge by fold; replaced by those of this one.
        """
        for k in which:
            weight = (self.folds.number != k).astype(np.float64)
            found = self.solved(ridge=ridge, sample_weight=weight, start=starts.get(k), tolerance=_COARSE)
            starts[k] = found.axes
            rows = np.flatnonzero(self.folds.number == k)
            logits[np.ix_(rows, self.free)] += found.scores[rows].astype(logits.dtype)
