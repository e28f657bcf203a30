"""Which patch is the best that the tables allow (METHOD 7)?

All classes are fitted jointly, with penalties and feature sets chosen by cross-validated log-loss; the
surplus of overall accuracy is then spent on the targets. Every judgement is made on logits of samples that
the weights in question were not fitted to. Where that shows no gain the answer is the bias, or the base.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxtweak.method.folds import fold_numbers
from onnxtweak.method.solve import Design, design, multinomial
from onnxtweak.method.spend import Spent, spend, standard_error
from onnxtweak.method.table import Table
from onnxtweak.types import Linear

# Ridges tried, from strong to weak; per squared weight on columns of unit deviation.
RIDGES = (3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5)
# The path ends once this many ridges in a row have not lowered the loss.
_PATIENCE = 2
# Folds that the path is judged on; the others only at its best ridge.
_PATH_FOLDS = 2
# While choosing, differences of the log-loss below this do not matter; the last fit is solved further.
_COARSE, _FINE = 1e-5, 1e-8
# Standard errors by which a patch has to lower the held-out log-loss: several patches are tried.
_SURE = 2.0


@dataclass(frozen=True)
class Candidate:
    """One way to patch, fitted. name : for notes. columns (K,) int64 : the table's columns it reads.

    patch : of those columns, fitted to all samples. held_out (N, C) : logits of each sample under weights
    that have not seen it. loss : mean log-loss of those over the judged samples.
    """

    name: str
    columns: np.ndarray
    patch: Linear
    held_out: np.ndarray
    loss: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fitted:
    """The answer. kind : "fit", "bias" or "base". candidate : None unless "fit". bias (c,) : for the targets,
    the surplus spent. control (c,) : the best bias alone. spent, control_spent : what was judged."""

    kind: str
    candidate: Candidate | None
    bias: np.ndarray
    control: np.ndarray
    spent: Spent
    control_spent: Spent
    notes: tuple[str, ...]


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


def fit_all(
    table: Table,
    families: Mapping[str, np.ndarray],
    targets: np.ndarray,
    *,
    judged: np.ndarray | None = None,
    overall_drop: float = 0.0,
    margin: float = 1.0,
    folds: int = 5,
    seed: int = 0,
) -> Fitted:
    """The best of all families of neurons, or the bias alone, or the base.

    families : name to columns of the table. judged (N,) bool : samples the choice may be judged on (those the
    base has not been trained on, where that is known).
    """
    fold = fold_numbers(table.labels, folds, seed)
    tried = [fit_linear(table, np.empty(0, np.int64), "a bias for every class", fold, judged=judged)]
    tried += [fit_linear(table, columns, name, fold, judged=judged) for name, columns in families.items()]
    return settle(table, tried, targets, judged=judged, overall_drop=overall_drop, margin=margin)


def settle(
    table: Table,
    tried: Sequence[Candidate],
    targets: np.ndarray,
    *,
    judged: np.ndarray | None = None,
    overall_drop: float = 0.0,
    margin: float = 1.0,
) -> Fitted:
    """The candidate of the lowest loss, its surplus spent, unless the bias alone or the base do as well."""
    judged = np.ones(len(table.labels), bool) if judged is None else judged
    labels, base = table.labels[judged], table.Z[judged]
    everything = len(targets) == table.Z.shape[1]

    def operate(logits: np.ndarray) -> Spent:
        if everything:  # no class is left to pay: the weights alone decide
            right = logits.argmax(axis=1) == labels
            return Spent(np.zeros(len(targets)), right, True, ())
        return spend(logits, base, labels, targets, overall_drop=overall_drop, margin=margin)

    best = min(tried, key=lambda one: one.loss)
    spent, control = operate(best.held_out[judged]), operate(base)
    was = base.argmax(axis=1) == labels
    of_target = np.isin(labels, targets)
    notes = [f"fitted {one.name}: held-out log-loss {one.loss:.4f}" for one in tried]
    notes += best.notes
    saved = losses(base, labels) - losses(best.held_out[judged], labels)
    learnt = saved.mean() > _SURE * saved.std() / np.sqrt(len(saved))
    better = _gains(control.right[of_target], spent.right[of_target], margin)
    if learnt and spent.holds and better:
        notes.append(f"chosen: {best.name}")
        return Fitted("fit", best, spent.bias, control.bias, spent, control, tuple(notes))
    if control.holds and control.bias.any() and _gains(was[of_target], control.right[of_target], margin):
        notes.append("no fitted patch did better than a bias on samples held out: the answer is the bias")
        return Fitted("bias", None, control.bias, control.bias, control, control, tuple(notes))
    notes.append("nothing did better than the base on samples held out: the answer is the base")
    return Fitted("base", None, np.zeros(len(targets)), control.bias, spent, control, tuple(notes))


def _gains(was: np.ndarray, now: np.ndarray, margin: float) -> bool:
    """Is the gain larger than `margin` standard errors?"""
    gain = float(now.mean() - was.mean()) if len(was) else 0.0
    return gain > margin * standard_error(was, now) and gain > 0
