"""Does one hidden layer do better than a linear patch? The MLP of METHOD 6, cross-validated (METHOD 7.1).

It takes the longest of all candidates, so the first fold decides which decay it gets, and whether it is
worth training on the others at all.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxtweak.engine.machine.large_arrays import by_rows, chosen_rows
from onnxtweak.method.fit.candidate import WORTH_HIDDEN, FitCandidate, simplest
from onnxtweak.method.fit.linear import LinearPath
from onnxtweak.method.fit.positions.context import bent
from onnxtweak.method.fit.trainings import DECAYS, Trainings
from onnxtweak.method.patch_sum import added
from onnxtweak.method.table import Table
from onnxtweak.method.temperature import losses_cooled
from onnxtweak.patch import Linear, Mlp
from onnxtweak.types import Progress, silent


def fit_mlp(
    path: LinearPath,
    linear: FitCandidate,
    *,
    hidden: int = 96,
    decays: Sequence[float] = DECAYS,
    always: bool = False,
    progress: Progress = silent,
) -> list[FitCandidate]:
    """An MLP patch of all classes, and its mean with the linear one; none where that promises no more.

    path, linear : the best linear patch, which gives samples, columns and folds. The decay is chosen on the
    first coarse fold; where the linear patch does about as well there, or on that and two more together
    (`simplest`), that is the end, unless `always`: what is no better for all samples together may be so for
    those that a goal is about. Each sample is held out once; some of the others decide when training stops.
    progress : started by the caller, for one step per training.
    """
    table, folds, judged = path.table, path.folds.coarse, path.folds.judged
    rows = folds.held_out(int(folds.numbers[0]))
    counted, labels = judged[rows], table.labels[rows]

    def loss_of(tried: np.ndarray) -> float:
        if not counted.any():
            return np.inf
        return float(losses_cooled(chosen_rows(tried, counted), labels[counted]).mean())

    each = []
    for name, columns in bent(table, path.name, path.columns):
        trainings = Trainings.of(table.columns(columns), table.labels, folds, hidden, kept=path.kept)
        each.append((name, columns, trainings, *trainings.best(decays, loss_of, progress)))
    name, columns, trainings, best, tried = min(each, key=lambda one: loss_of(one[-1]))
    for logits, seen in trainings.held_out(best, tried, progress):
        if not (always or seen.all()) and _does_as_well(linear.held_out, logits, table, seen & judged):
            return []
    loss = float(losses_cooled(chosen_rows(logits, judged), table.labels[judged]).mean())
    described = f"{name}, {hidden} hidden units, decay {best:g}"
    mlp = FitCandidate(described, columns, logits, loss, lambda: (trainings.whole(best), ()))
    return [mlp, averaged(linear, mlp, table.labels, judged)]


def _does_as_well(linear: np.ndarray, mlp: np.ndarray, table: Table, rows: np.ndarray) -> bool:
    """Whether a linear patch does as well as an MLP and their mean, on some rows (N,) bool held out.

    linear, mlp (N, C) : logits under each.
    """
    own, both = table.labels[rows], (chosen_rows(linear, rows), chosen_rows(mlp, rows))
    losses = [losses_cooled(Z, own) for Z in (*both, mean_of(*both))]
    return simplest(losses, losses_cooled(chosen_rows(table.Z, rows), own), WORTH_HIDDEN) == 0


def mean_of(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The mean of two patches' logits."""
    return by_rows(lambda one, other: (one + other) / one.dtype.type(2), one, other)


def averaged(
    linear_fit: FitCandidate, mlp_fit: FitCandidate, labels: np.ndarray, judged: np.ndarray
) -> FitCandidate:
    """The mean of a linear and an MLP patch, as one MLP; this reads some or all of the linear one's columns.

    labels (N,) int64, judged (N,) bool : of the samples that both hold out.
    """

    learn_linear, learn_mlp, neurons = linear_fit.learn, mlp_fit.learn, len(linear_fit.columns)
    read = np.flatnonzero(np.isin(linear_fit.columns, mlp_fit.columns))

    def learn() -> tuple[Mlp, tuple[str, ...]]:
        (linear, _), (mlp, _) = learn_linear(), learn_mlp()
        assert isinstance(linear, Linear) and isinstance(mlp, Mlp)
        patch = added(mlp.scaled(0.5), read, linear.scaled(0.5), neurons)
        assert isinstance(patch, Mlp)
        return patch, ()

    logits = mean_of(linear_fit.held_out, mlp_fit.held_out)
    loss = float(losses_cooled(chosen_rows(logits, judged), labels[judged]).mean())
    name = f"mean of [{linear_fit.name}] and [{mlp_fit.name}]"
    return FitCandidate(name, linear_fit.columns, logits, loss, learn)
