"""Does one hidden layer do better than a linear patch? The MLP of METHOD 6, cross-fitted (METHOD 7.1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxtweak.method.augment import train
from onnxtweak.method.fit.linear import FitCandidate, log_loss
from onnxtweak.method.folds import fold_numbers
from onnxtweak.method.table import Table
from onnxtweak.patch import Mlp
from onnxtweak.settings import AugmentSettings
from onnxtweak.types import Progress, silent

# Weight decays tried: small tables of many neurons want the strong one.
DECAYS = (0.1, 1.0)
# One sample in so many decides when training stops.
_STOP = 8


def fit_mlp(
    table: Table,
    columns: np.ndarray,
    name: str,
    fold: np.ndarray,
    *,
    judged: np.ndarray | None = None,
    hidden: int = 96,
    decays: Sequence[float] = DECAYS,
    seed: int = 0,
    progress: Progress = silent,
) -> FitCandidate:
    """An MLP patch of all classes, its decay chosen on the first fold by log-loss.

    Each sample is held out once; training stops early on some of the others. progress : started by the
    caller, for one step a training.
    """
    judged = np.ones(len(table.labels), bool) if judged is None else judged
    here = table.columns(columns)
    folds = np.unique(fold)
    settings = [AugmentSettings(hidden=hidden, decay=decay) for decay in decays]

    def trained(rows: np.ndarray, how: AugmentSettings) -> Mlp:
        stop = fold_numbers(table.labels[rows], _STOP, seed) == 0
        return train(here.rows(rows[~stop]), here.rows(rows[stop]), how, seed=seed).patch

    logits = table.Z.copy()
    best: tuple[float, AugmentSettings] | None = None
    for first, k in enumerate(folds):
        rows = np.flatnonzero(fold == k)
        for how in settings if first == 0 else [best[1]]:
            patch = trained(np.flatnonzero(fold != k), how)
            progress.advance(1)
            Z = patch.applied(table.Z[rows], here.T[rows])
            counts = judged[rows]
            loss = log_loss(Z[counts], table.labels[rows][counts])
            if first or best is None or loss < best[0]:
                best, logits[rows] = (loss, how), Z
    loss = log_loss(logits[judged], table.labels[judged])
    said = f"{name}, {hidden} hidden units, decay {best[1].decay:g}"
    return FitCandidate(
        said, columns, logits, loss, lambda: (trained(np.arange(len(table.labels)), best[1]), ())
    )


def averaged(
    one: FitCandidate, other: FitCandidate, table: Table, judged: np.ndarray | None = None
) -> FitCandidate:
    """The mean of a linear and an MLP patch on the same columns, as one MLP: x = max(x, 0) - max(-x, 0)."""
    judged = np.ones(len(table.labels), bool) if judged is None else judged

    def learn() -> tuple[Mlp, tuple[str, ...]]:
        linear, mlp = one.patch, other.patch
        half = np.eye(len(linear.bias)) / 2
        patch = Mlp(
            w1=np.hstack([mlp.w1, linear.weight, -linear.weight]),
            b1=np.concatenate([mlp.b1, linear.bias, -linear.bias]),
            w2=np.vstack([mlp.w2 / 2, half, -half]),
            b2=mlp.b2 / 2,
        )
        return patch, ()

    logits = (one.held_out + other.held_out) / 2
    loss = log_loss(logits[judged], table.labels[judged])
    return FitCandidate(f"mean of [{one.name}] and [{other.name}]", one.columns, logits, loss, learn)
