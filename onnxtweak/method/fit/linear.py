"""What does a linear patch of all classes reach, and with which ridge (METHOD 7.1)?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np

from onnxtweak.method.fit.candidate import FitCandidate
from onnxtweak.method.folds import Folds
from onnxtweak.method.softmax import log_loss
from onnxtweak.method.solvers.multinomial import Design, Solution, design, multinomial
from onnxtweak.method.table import Table
from onnxtweak.patch import Linear

# Ridges tried, from strong to weak, on columns of unit deviation.
RIDGES = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5)
# The path ends once this many ridges in a row have not lowered the loss.
_PATIENCE = 2
# Of the five coarse folds, those that the path is judged on; all folds are held out at its best ridge.
_PATH_FOLDS = (0, 1)
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
    path = LinearPath(name, columns, table, folds, design(table.T[:, columns]))
    counted = np.isin(coarse.number, _PATH_FOLDS) & folds.judged
    best, since = path, 0
    for ridge in ridges if len(columns) else ridges[-1:]:
        path = replace(path, ridge=ridge)
        logits, start = path.held_out(coarse, _PATH_FOLDS)
        path = replace(path, loss=_loss(table, logits, counted), start=start)
        since = 0 if path.loss < best.loss else since + 1
        best = path if path.loss < best.loss else best
        if since == _PATIENCE:
            break
    return best


@dataclass(frozen=True, eq=False)
class LinearPath:
    """A family of columns, standardised once for all ridges and folds, at one ridge.

    columns (K,) int64 : of the table. loss : mean log-loss over the folds that ridges are compared on.
    start : `Solution.axes` to begin with, by fold of those.
    """

    name: str
    columns: np.ndarray
    table: Table
    folds: Folds
    design: Design
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
        logits, _ = self.held_out(self.folds, self.folds.numbers)
        loss = _loss(table, logits, judged)

        def learn() -> tuple[Linear, tuple[str, ...]]:
            found = self._solved(_FINE)
            notes = (f"{self.name}: {found.note}",) if found.note else ()
            return on_all_classes(found, self._free, table.Z.shape[1]), notes

        behind = (pair for pair in losses.items() if pair[0] != self.described)
        others = tuple(f"{name}: held-out log-loss {loss - self.loss:+.4f}" for name, loss in behind)
        return FitCandidate(self.described, self.columns, logits, loss, learn, others)

    def held_out(self, folds: Folds, numbers: Iterable[int]) -> tuple[np.ndarray, dict[int, np.ndarray]]:
        """Logits (N, C) with the scores of weights fitted to all other folds, for samples of some folds.

        Also the solutions, by fold, to start from.
        """
        logits, found = self.table.Z.copy(), {}
        for k in numbers:
            solved = self._solved(_COARSE, folds.learning_weight(k), k)
            rows, found[k] = folds.held_out(k), solved.axes
            logits[np.ix_(rows, self._free)] += solved.scores[rows].astype(logits.dtype)
        return logits, found

    @property
    def _free(self) -> np.ndarray:
        return np.unique(self.table.labels)  # a class without samples keeps its logit

    def _solved(self, tolerance: float, weight: np.ndarray | None = None, fold: int = 0) -> Solution:
        starts, own = list(self.start.values()), self.table.weight
        if own is not None:
            weight = own if weight is None else own * weight
        return multinomial(
            self.design,
            self.table.Z,
            self.table.labels,
            ridge=self.ridge,
            free=self._free,
            sample_weight=weight,
            start=starts[fold % len(starts)] if starts else None,
            tolerance=tolerance,
        )


def _loss(table: Table, logits: np.ndarray, rows: np.ndarray) -> float:
    """Mean log-loss of some rows, (N,) bool, as much as each counts."""
    weight = None if table.weight is None else table.weight[rows]
    return log_loss(logits[rows], table.labels[rows], weight)


def on_all_classes(found: Solution, free: np.ndarray, classes: int) -> Linear:
    """The weights of the free classes as a patch of all; zeros on the others."""
    weight, bias = np.zeros((len(found.weight), classes)), np.zeros(classes)
    weight[:, free], bias[free] = found.weight, found.bias
    return Linear(weight, bias)
