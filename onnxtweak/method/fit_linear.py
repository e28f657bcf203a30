"""What does a linear patch of all classes reach, and with which ridge (METHOD 7.1)?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxtweak.method.solve import Design, design, multinomial
from onnxtweak.method.table import Table
from onnxtweak.types import Linear, Mlp

# Ridges tried, from strong to weak; per squared weight on columns of unit deviation.
RIDGES = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5)
# The path ends once this many ridges in a row have not lowered the loss.
_PATIENCE = 2
# Folds that the path is judged on; the others only at its best ridge.
_PATH_FOLDS = 2
# While choosing, differences of the log-loss below this do not matter; the last fit is solved further.
_COARSE, _FINE = 1e-5, 1e-8


@dataclass(frozen=True)
class Candidate:
    """One way to patch, fitted. name : for notes. columns (K,) int64 : the table's columns it reads.

    patch : of those columns, fitted to all samples. held_out (N, C) : logits of each sample under weights
    that have not seen it. loss : mean log-loss of those over the judged samples.
    """

    name: str
    columns: np.ndarray
    patch: Linear | Mlp
    held_out: np.ndarray
    loss: float
    notes: tuple[str, ...] = ()


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
    fold: np.ndarray,
    *,
    judged: np.ndarray | None = None,
    ridges: Sequence[float] = RIDGES,
) -> Candidate:
    """A linear patch of all classes on some columns, its ridge chosen by cross-validated log-loss.

    fold (N,) : as of `fold_numbers`. judged (N,) bool : samples whose loss counts, default all.
    """
    judged = np.ones(len(table.labels), bool) if judged is None else judged
    free = np.unique(table.labels)  # a class without samples keeps its logit
    made = design(table.T[:, columns])
    ridge, logits = _along_the_path(made, table, free, fold, judged, ridges if len(columns) else ridges[-1:])
    rest = np.unique(fold)[_PATH_FOLDS:]
    _hold_out(made, table, free, fold, rest, ridge, {}, logits)
    loss = log_loss(logits[judged], table.labels[judged])
    whole = multinomial(made, table.Z, table.labels, ridge=ridge, free=free, tolerance=_FINE)
    weight, bias = np.zeros((len(columns), table.Z.shape[1])), np.zeros(table.Z.shape[1])
    weight[:, free], bias[free] = whole.weight, whole.bias
    notes = (f"{name}: {whole.note}",) if whole.note else ()
    said = f"{name}, ridge {ridge:g}" if len(columns) else name
    return Candidate(said, columns, Linear(weight, bias), logits, loss, notes)


def _along_the_path(
    made: Design,
    table: Table,
    free: np.ndarray,
    fold: np.ndarray,
    judged: np.ndarray,
    ridges: Sequence[float],
) -> tuple[float, np.ndarray]:
    """The best ridge, and logits (N, C) that are held out for the first folds, on which it was found."""
    folds = np.unique(fold)[:_PATH_FOLDS]
    rows = np.isin(fold, folds) & judged
    best, best_loss, since, starts = (ridges[0], table.Z), np.inf, 0, {}
    for ridge in ridges:
        logits = table.Z.copy()
        _hold_out(made, table, free, fold, folds, ridge, starts, logits)
        loss = log_loss(logits[rows], table.labels[rows])
        since = 0 if loss < best_loss else since + 1
        if loss < best_loss:
            best, best_loss = (ridge, logits), loss
        if since == _PATIENCE:
            break
    return best


def _hold_out(
    made: Design,
    table: Table,
    free: np.ndarray,
    fold: np.ndarray,
    folds: np.ndarray,
    ridge: float,
    starts: dict,
    logits: np.ndarray,
) -> None:
    """Write into `logits` (N, C) what weights say of samples of some folds that were fitted to all others.

    starts : solutions of a similar ridge by fold; replaced by those of this one.
    """
    for k in folds:
        found = multinomial(
            made,
            table.Z,
            table.labels,
            ridge=ridge,
            free=free,
            sample_weight=(fold != k).astype(np.float64),
            start=starts.get(k),
            tolerance=_COARSE,
        )
        starts[k] = found.axes
        rows = np.flatnonzero(fold == k)
        logits[np.ix_(rows, free)] += found.scores[rows].astype(logits.dtype)
