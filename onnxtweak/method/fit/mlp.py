"""Does one hidden layer do better than a linear patch? The MLP of METHOD 6, cross-validated (METHOD 7.1).

It takes the longest of all candidates, so the first fold decides which decay it gets, and whether it is
worth training on the others at all.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxtweak.engine.machine.single_thread import side_by_side
from onnxtweak.method.augment import train
from onnxtweak.method.fit.candidate import FitCandidate
from onnxtweak.method.folds import Folds, fold_numbers
from onnxtweak.method.softmax import log_loss
from onnxtweak.method.table import Table
from onnxtweak.patch import Linear, Mlp
from onnxtweak.settings import AugmentSettings
from onnxtweak.types import Progress, silent

# Weight decays, tried in turn until one is no better: small tables of many neurons need the strong one.
DECAYS = (0.1, 1.0, 3.0, 10.0)
# One sample in this many decides when training stops.
_STOP = 8
# Trainings at a time: each copies its part of the table.
_AT_ONCE = 2


def fit_mlp(
    table: Table,
    linear: FitCandidate,
    name: str,
    folds: Folds,
    *,
    hidden: int = 96,
    decays: Sequence[float] = DECAYS,
    progress: Progress = silent,
) -> FitCandidate | None:
    """An MLP patch of all classes on the columns of a linear one, its decay chosen on the first fold.

    None where on that fold neither it nor the mean of both has a lower log-loss than the linear patch. Each
    sample is held out once, in a coarse fold; some of the others decide when training stops. name : of the
    columns. progress : started by the caller, for one step per training.
    """
    inputs, judged, folds = table.columns(linear.columns), folds.judged, folds.coarse

    def trained(rows: np.ndarray, decay: float) -> Mlp:
        stop = fold_numbers(table.labels[rows], _STOP, folds.seed) == 0
        settings = AugmentSettings(hidden=hidden, decay=decay)
        return train(inputs.rows(rows[~stop]), inputs.rows(rows[stop]), settings, seed=folds.seed).patch

    def held_out(task: tuple[int, float]) -> np.ndarray:
        fold, decay = task
        rows, patch = folds.held_out(fold), trained(folds.learning(fold), decay)
        return patch.applied(table.Z[rows], inputs.T[rows])

    def loss_of(logits: np.ndarray, rows: np.ndarray) -> float:
        counts = judged[rows]
        return log_loss(logits[counts], table.labels[rows][counts])

    first, *others = folds.numbers.tolist()
    rows = folds.held_out(first)
    best_loss, best, found = np.inf, decays[0], table.Z[rows]
    tasks = [(first, decay) for decay in decays]
    for decay, Z in zip(decays, side_by_side(held_out, tasks, _AT_ONCE), strict=True):
        progress.advance(1)
        if (loss := loss_of(Z, rows)) >= best_loss:
            break
        best_loss, best, found = loss, decay, Z
    straight = linear.held_out[rows]
    if min(best_loss, loss_of((straight + found) / 2, rows)) >= loss_of(straight, rows):
        return None
    logits = table.Z.copy()
    logits[rows] = found
    tasks = [(fold, best) for fold in others]
    for fold, Z in zip(others, side_by_side(held_out, tasks, _AT_ONCE), strict=True):
        progress.advance(1)
        logits[folds.held_out(fold)] = Z
    described = f"{name}, {hidden} hidden units, decay {best:g}"
    all_rows = np.arange(len(table.labels))
    loss = log_loss(logits[judged], table.labels[judged])
    return FitCandidate(described, linear.columns, logits, loss, lambda: (trained(all_rows, best), ()))


def averaged(
    linear_fit: FitCandidate, mlp_fit: FitCandidate, table: Table, judged: np.ndarray
) -> FitCandidate:
    """The mean of a linear and an MLP patch on the same columns, as one MLP: x = max(x, 0) - max(-x, 0)."""

    def learn() -> tuple[Mlp, tuple[str, ...]]:
        linear, mlp = linear_fit.patch, mlp_fit.patch
        assert isinstance(linear, Linear) and isinstance(mlp, Mlp)
        half = np.eye(len(linear.bias)) / 2
        patch = Mlp(
            w1=np.hstack([mlp.w1, linear.weight, -linear.weight]),
            b1=np.concatenate([mlp.b1, linear.bias, -linear.bias]),
            w2=np.vstack([mlp.w2 / 2, half, -half]),
            b2=mlp.b2 / 2,
        )
        return patch, ()

    logits = (linear_fit.held_out + mlp_fit.held_out) / 2
    loss = log_loss(logits[judged], table.labels[judged])
    name = f"mean of [{linear_fit.name}] and [{mlp_fit.name}]"
    return FitCandidate(name, linear_fit.columns, logits, loss, learn)
