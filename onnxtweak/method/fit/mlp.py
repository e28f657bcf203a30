"""Does one hidden layer do better than a linear patch? The MLP of METHOD 6, cross-validated (METHOD 7.1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxtweak.method.augment import train
from onnxtweak.method.fit.candidate import FitCandidate
from onnxtweak.method.folds import Folds, one_in
from onnxtweak.method.softmax import log_loss
from onnxtweak.method.table import Table
from onnxtweak.patch import Linear, Mlp
from onnxtweak.settings import AugmentSettings
from onnxtweak.types import Progress, silent

# Weight decays tried: small tables of many neurons need the strong one.
DECAYS = (0.1, 1.0, 3.0, 10.0)
# One sample in this many decides when training stops.
_STOP = 8


def fit_mlp(
    table: Table,
    columns: np.ndarray,
    name: str,
    folds: Folds,
    *,
    hidden: int = 96,
    decays: Sequence[float] = DECAYS,
    progress: Progress = silent,
) -> FitCandidate:
    """An MLP patch of all classes, its decay chosen on the first fold by log-loss.

    Each sample is held out once, in a coarse fold; some of the others decide when training stops.
    progress : started by the caller, for one step per training.
    """
    inputs, judged, folds = table.columns(columns), folds.judged, folds.coarse

    def trained(rows: np.ndarray, decay: float) -> Mlp:
        groups = None if table.groups is None else table.groups[rows]
        stop = one_in(_STOP, table.labels[rows], folds.seed, groups)
        settings = AugmentSettings(hidden=hidden, decay=decay)
        return train(inputs.rows(rows[~stop]), inputs.rows(rows[stop]), settings, seed=folds.seed).patch

    logits = table.Z.copy()
    best_loss, best = np.inf, decays[0]
    for number, k in enumerate(folds.numbers):
        rows = folds.held_out(k)
        for decay in decays if number == 0 else [best]:
            patch = trained(folds.learning(k), decay)
            progress.advance(1)
            Z = patch.applied(table.Z[rows], inputs.T[rows])
            counts = judged[rows]
            loss = log_loss(Z[counts], table.labels[rows][counts])
            if number or decay == decays[0] or loss < best_loss:
                best_loss, best, logits[rows] = loss, decay, Z
    loss = log_loss(logits[judged], table.labels[judged])
    described = f"{name}, {hidden} hidden units, decay {best:g}"
    all_rows = np.arange(len(table.labels))
    return FitCandidate(described, columns, logits, loss, lambda: (trained(all_rows, best), ()))


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
