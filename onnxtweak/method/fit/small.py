"""Which few neurons are enough (METHOD 7.2)? The candidates of `fit` where a patch must be small.

Three ways to choose: pursuit for all classes, which adds a batch at a time what promises most given what is
there; the elastic net, which shrinks all neurons alike until few are left; and pursuit for the targets alone,
each with neurons of its own. The weights are then solved anew. Neurons are chosen again for every fold, so
that the held-out logits know nothing of their samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from onnxtweak.method.fit.linear import FitCandidate, log_loss, on_all_classes
from onnxtweak.method.folds import Folds
from onnxtweak.method.retrain.weights import problem, retrain_path
from onnxtweak.method.selection.screening import ScreeningSums, scores
from onnxtweak.method.solvers.matching_pursuit import pursued
from onnxtweak.method.solvers.multinomial import design, multinomial
from onnxtweak.method.table import Table
from onnxtweak.patch import Linear
from onnxtweak.settings import FitSettings

RIDGES = (0.1, 0.01, 1e-3)
# Of pursuit for all classes. Few rounds: within one, neurons that tell the same are both taken.
_ROUNDS = 10
# The elastic net looks at so many neurons, or so many for each that it may keep, and no more.
_POOL, _POOL_EACH = 200, 5
# Its L1 penalty falls by this factor a step, from where nothing is left, at most so often; its ridge.
_FALL, _STEPS, _NET_RIDGE = 0.7, 20, 1e-3
# More neurons than this for one target cost more time than they are worth.
_MOST_PURSUED = 200


@dataclass(frozen=True)
class Budget:
    """How large a patch may be. numbers : weights and biases together. synapses : weights. None: no limit."""

    numbers: int | None = None
    synapses: int | None = None

    @classmethod
    def of(cls, settings: FitSettings) -> Budget | None:
        """The budget that was asked for; None where none was."""
        unlimited = settings.budget is None and settings.synapses is None
        return None if unlimited else cls(settings.budget, settings.synapses)

    def neurons(self, classes: int) -> int:
        """How many neurons may have a weight for each of so many classes, which have a bias each."""
        limits = [
            limit
            for limit in (
                None if self.numbers is None else self.numbers // classes - 1,
                None if self.synapses is None else self.synapses // classes,
            )
            if limit is not None
        ]
        return max(min(limits), 0)

    def affords(self, biases: int) -> bool:
        """Whether so many biases are within it."""
        return self.numbers is None or self.numbers >= biases

    def __str__(self) -> str:
        limits = (self.numbers, "numbers"), (self.synapses, "synapses")
        return " and ".join(f"{limit:,} {what}" for limit, what in limits if limit is not None)


def fit_small(
    table: Table,
    columns: np.ndarray,
    count: int,
    folds: Folds,
    choose: Callable[[Table, int, float], np.ndarray],
    name: str,
    *,
    ridges: Sequence[float] = RIDGES,
) -> FitCandidate:
    """A linear patch of all classes on `count` of the columns. choose : `pursue` or `shrink`."""
    fold, judged = folds.number, folds.judged
    free = np.unique(table.labels)
    pool = table.columns(columns)
    tried = []
    for ridge in ridges:
        logits = table.Z.copy()
        for k in folds.numbers:
            chosen = columns[choose(pool.rows(np.flatnonzero(fold != k)), count, ridge)]
            found = multinomial(
                table.T[:, chosen],
                table.Z,
                table.labels,
                ridge=ridge,
                free=free,
                sample_weight=(fold != k).astype(np.float64),
                tolerance=1e-6,
            )
            rows = np.flatnonzero(fold == k)
            logits[np.ix_(rows, free)] += found.scores[rows].astype(logits.dtype)
        tried.append((log_loss(logits[judged], table.labels[judged]), ridge, logits))
    loss, ridge, logits = min(tried, key=lambda one: one[0])
    chosen = columns[choose(pool, count, ridge)]
    said = f"{len(chosen)} neurons by {name}, ridge {ridge:g}"

    def learn() -> tuple[Linear, tuple[str, ...]]:
        whole = multinomial(table.T[:, chosen], table.Z, table.labels, ridge=ridge, free=free)
        return on_all_classes(whole, free, table.Z.shape[1]), ()

    return FitCandidate(said, chosen, logits, loss, learn)


def fit_targets(
    table: Table,
    columns: np.ndarray,
    targets: np.ndarray,
    count: int,
    folds: Folds,
    *,
    ridges: Sequence[float] = RIDGES,
) -> FitCandidate:
    """A linear patch of the targets' logits alone, each with up to `count` neurons of its own, and a bias."""
    fold, judged = folds.number, folds.judged
    count = min(count, _MOST_PURSUED)

    def solved(rows: np.ndarray) -> list[tuple[np.ndarray, Linear]]:
        """For each ridge, the columns and the patch that the rows ask for."""
        here = table.rows(rows)
        chosen = [pursued(here, columns, int(j), count) for j in targets]
        of = problem([here.T[:, c] for c in chosen], here.Z, here.labels, targets, 1.0, chosen)
        return [
            _side_by_side(chosen, found.weight, found.bias, targets, table.Z.shape[1])
            for found in retrain_path(of, ridges, intercept=True)
        ]

    held = [table.Z.copy() for _ in ridges]
    for k in folds.numbers:
        rows = np.flatnonzero(fold == k)
        for logits, (chosen, patch) in zip(held, solved(np.flatnonzero(fold != k)), strict=True):
            boost = table.T[np.ix_(rows, chosen)] @ patch.weight + patch.bias
            logits[rows] += boost.astype(logits.dtype)
    losses = [log_loss(logits[judged], table.labels[judged]) for logits in held]
    best = int(np.argmin(losses))
    chosen, patch = solved(np.arange(len(table.labels)))[best]
    said = f"{np.count_nonzero(patch.weight)} synapses of the targets by pursuit, ridge {ridges[best]:g}"
    return FitCandidate(said, chosen, held[best], losses[best], lambda: (patch, ()))


def _side_by_side(
    columns: Sequence[np.ndarray],
    weights: Sequence[np.ndarray],
    bias: np.ndarray,
    targets: np.ndarray,
    classes: int,
) -> tuple[np.ndarray, Linear]:
    """Each target's columns and weights as one patch; a column that several targets read appears once."""
    chosen = np.unique(np.concatenate(columns))
    weight, shift = np.zeros((len(chosen), classes)), np.zeros(classes)
    for j, of_target, w in zip(targets, columns, weights, strict=True):
        weight[np.searchsorted(chosen, of_target), j] = w
    shift[targets] = bias
    return chosen, Linear(weight, shift)


def pursue(table: Table, count: int, ridge: float) -> np.ndarray:
    """`count` columns (count,) int64 of a table, each batch chosen on what the last ones left wrong."""
    chosen = np.empty(0, np.int64)
    squared = table.T * table.T
    for step in np.array_split(np.arange(count), min(_ROUNDS, max(count, 1))):
        if not len(step):
            continue
        promise = _promise(table, squared, chosen, ridge)
        promise[chosen] = -1
        chosen = np.concatenate([chosen, np.argsort(-promise, kind="stable")[: len(step)]])
    return np.sort(chosen)


def shrink(table: Table, count: int, ridge: float) -> np.ndarray:
    """The `count` columns (count,) int64 that a grouped elastic net keeps longest; the ridge is its own."""
    free = np.unique(table.labels)
    promise = _promise(table, table.T * table.T, np.empty(0, np.int64), ridge)
    pool = np.argsort(-promise, kind="stable")[: max(_POOL, _POOL_EACH * count)]
    made = design(table.T[:, pool], turn=False)
    start = multinomial(made, table.Z, table.labels, ridge=1e9, free=free).axes
    start[:-1] = 0
    lasso = None
    for _ in range(_STEPS):
        if lasso is None:
            lasso = _strongest(made.X, table, free, start[-1])
        lasso *= _FALL
        found = multinomial(
            made,
            table.Z,
            table.labels,
            ridge=_NET_RIDGE,
            lasso=lasso,
            grouped=True,
            free=free,
            start=start,
            tolerance=1e-5,
            iterations=60,
        )
        start = found.axes
        size = np.linalg.norm(start[:-1], axis=1)
        if np.count_nonzero(size) >= count:
            break
    return np.sort(pool[np.argsort(-size, kind="stable")[:count]])


def _strongest(X: np.ndarray, table: Table, free: np.ndarray, bias: np.ndarray) -> float:
    """The L1 penalty from which on no neuron has a weight."""
    r, _ = _residuals(table, free, bias[None, :])
    return float(np.linalg.norm(X.T @ r[:, free], axis=1).max()) / len(table.labels)


def _promise(table: Table, squared: np.ndarray, chosen: np.ndarray, ridge: float) -> np.ndarray:
    """What each column should save over all classes once those chosen have done their part."""
    free = np.unique(table.labels)
    found = multinomial(table.T[:, chosen], table.Z, table.labels, ridge=ridge, free=free, tolerance=1e-4)
    r, h = _residuals(table, free, found.scores)
    sums = ScreeningSums(
        table.T.T @ r, squared.T @ h, table.T.T @ h, h.sum(axis=0), np.zeros(table.T.shape[1], bool)
    )
    return scores(sums).sum(axis=1)


def _residuals(table: Table, free: np.ndarray, added: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is still wrong, t - p, and p (1 - p), (N, C) float32, with `added` on the free classes."""
    logits = table.Z.astype(np.float64)
    logits[:, free] += added
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    r = -p.astype(np.float32)
    r[np.arange(len(r)), table.labels] += 1
    return r, (p * (1 - p)).astype(np.float32)
