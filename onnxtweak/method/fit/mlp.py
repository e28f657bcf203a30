"""Does one hidden layer do better than a linear patch? The MLP of METHOD 6, cross-validated (METHOD 7.1).

It takes the longest of all candidates, so the first fold decides which decay it gets, and whether it is
worth training on the others at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from onnxtweak.engine.machine.single_thread import side_by_side
from onnxtweak.method.augment import train, training_library
from onnxtweak.method.fit.candidate import WORTH_HIDDEN, FitCandidate, simplest
from onnxtweak.method.fit.linear import AT_ONCE, LinearPath
from onnxtweak.method.folds import digest_of, one_in
from onnxtweak.method.patch_sum import added
from onnxtweak.method.softmax import log_loss, log_losses
from onnxtweak.patch import Linear, Mlp
from onnxtweak.settings import AugmentSettings
from onnxtweak.types import Progress, silent

# Weight decays tried, from strong to weak until the held-out log-loss no longer falls: small tables of many
# neurons need the strong one.
DECAYS = (10.0, 3.0, 1.0, 0.1)
# One sample in this many decides when training stops.
_STOP = 8


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
    first coarse fold; where the linear patch does about as well there (`simplest`), that is the end, unless
    `always`: what is no better for all samples together may be so for those that a goal is about. Each sample
    is held out once; some of the others decide when training stops.
    progress : started by the caller, for one step per training.
    """
    table, folds, judged = path.table, path.folds.coarse, path.folds.judged
    inputs, settings = table.columns(path.columns), AugmentSettings(hidden=hidden)
    xp = training_library(inputs, settings)

    def each(tasks: list[tuple[int, float]]) -> Iterator[np.ndarray]:
        """What each task holds out: two at a time on the CPU, one after the other on a GPU."""
        return side_by_side(held_out, tasks, AT_ONCE) if xp is np else map(held_out, tasks)

    def trained(rows: np.ndarray, decay: float) -> Mlp:
        """An MLP, as an earlier run has trained it, if one has."""
        what = f"MLP {hidden} {decay} {digest_of(rows)}"
        return Mlp(**path.kept(what, lambda: dict(new(rows, decay).arrays)))

    def new(rows: np.ndarray, decay: float) -> Mlp:
        first = rows[: len(rows) // folds.copies]  # copies go where their original goes
        groups = None if table.groups is None else table.groups[first]
        stop = np.tile(one_in(_STOP, table.labels[first], folds.seed, groups), folds.copies)
        learnt, stopping = inputs.rows(rows[~stop]), inputs.rows(rows[stop])
        return train(learnt, stopping, replace(settings, decay=decay), seed=folds.seed, xp=xp).patch

    def held_out(task: tuple[int, float]) -> np.ndarray:
        fold, decay = task
        patch = trained(folds.learning(fold), decay)
        return inputs.patched(None, patch, folds.held_out(fold))

    first, *others = folds.numbers
    rows = folds.held_out(first)
    counted, labels = judged[rows], table.labels[rows]
    best_loss, best = np.inf, decays[0]
    logits = table.Z.copy()
    tasks = [(first, decay) for decay in decays]
    for decay, tried in zip(decays, each(tasks), strict=True):
        progress.advance(1)
        loss = log_loss(tried[counted], labels[counted]) if counted.any() else np.inf
        if loss >= best_loss:
            break
        best_loss, best, logits[rows] = loss, decay, tried
    both = linear.held_out[rows], logits[rows], _mean(linear.held_out[rows], logits[rows])
    losses = [log_losses(Z[counted], labels[counted]) for Z in both]
    base = log_losses(table.Z[rows][counted], labels[counted])
    if not always and simplest(losses, base, WORTH_HIDDEN) == 0:
        return []
    tasks = [(fold, best) for fold in others]
    for fold, found in zip(others, each(tasks), strict=True):
        progress.advance(1)
        logits[folds.held_out(fold)] = found
    loss = log_loss(logits[judged], table.labels[judged])
    described = f"{path.name}, {hidden} hidden units, decay {best:g}"
    all_rows = np.arange(len(table.labels))
    mlp = FitCandidate(described, path.columns, logits, loss, lambda: (trained(all_rows, best), ()))
    return [mlp, averaged(linear, mlp, table.labels, judged)]


def _mean(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (one + other) / one.dtype.type(2)


def averaged(
    linear_fit: FitCandidate, mlp_fit: FitCandidate, labels: np.ndarray, judged: np.ndarray
) -> FitCandidate:
    """The mean of a linear and an MLP patch on the same columns, as one MLP.

    labels (N,) int64, judged (N,) bool : of the samples that both hold out.
    """

    def learn() -> tuple[Mlp, tuple[str, ...]]:
        linear, mlp, neurons = linear_fit.patch, mlp_fit.patch, len(linear_fit.columns)
        assert isinstance(linear, Linear) and isinstance(mlp, Mlp)
        patch = added(mlp.scaled(0.5), np.arange(neurons), linear.scaled(0.5), neurons)
        assert isinstance(patch, Mlp)
        return patch, ()

    logits = _mean(linear_fit.held_out, mlp_fit.held_out)
    loss = log_loss(logits[judged], labels[judged])
    name = f"mean of [{linear_fit.name}] and [{mlp_fit.name}]"
    return FitCandidate(name, linear_fit.columns, logits, loss, learn)
