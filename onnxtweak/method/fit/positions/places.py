"""Does it pay to give each place of an axis weights of its own, each pitch, each line of a picture?

They are what each place adds to weights that all share, so that shrinking them leads to these. A few steps of
Newton's method from held-out logits, in closed form: the sums of each place, and of its neighbours if that
does better, are solved under a ridge. Both are chosen on samples held out, and so is whether to step at all
(METHOD 13).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from onnxtweak.engine.machine.large_arrays import is_mapped, of_columns
from onnxtweak.method.fit.candidate import FitCandidate
from onnxtweak.method.folds import Folds
from onnxtweak.method.softmax import log_losses, softmax
from onnxtweak.method.solvers.standard import mean_and_scale
from onnxtweak.method.table import Places, Table
from onnxtweak.patch import ByPlace, DensePatch, Linear, Mlp

# Over which share of all places sums are spread, and the ridges, per sample and column of unit deviation.
_SPREADS = (0.0, 0.1, 0.2)
_RIDGES = (1.0, 0.1, 0.03, 0.01, 3e-3)
# Steps at most; each has to save this share of what all have.
_STEPS, _WORTH = 8, 0.02
# Numbers of the sums of squares of all places, and classes, above which none is tried.
_MOST_SQUARES, _MOST_CLASSES = 1 << 22, 64

# Of logits (N, C): residuals and curvatures (N, C) of the loss, both times how much each row counts.
Slopes = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, eq=False)
class OwnWeights:
    """What each place adds to what all share. weight (P, K, C) : of columns (K,) int64 of the table; bias
    (P, C). held_out (N, C) : logits under weights that have not seen the row. loss : of these."""

    places: Places
    columns: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    held_out: np.ndarray
    loss: float

    def beside(self, shared: Linear | Mlp, columns: np.ndarray) -> ByPlace:
        """With a patch that reads `columns` (k,) int64, those of this among them."""
        own = np.zeros((len(self.weight), len(columns), self.weight.shape[2]))
        own[:, np.flatnonzero(np.isin(columns, self.columns))] = self.weight
        return ByPlace.of(shared, own, self.bias)

    def times(self, scale: np.ndarray) -> OwnWeights:
        """With each class times a number (C,)."""
        return replace(self, weight=self.weight * scale, bias=self.bias * scale)

    def of_classes(self, targets: np.ndarray, classes: int) -> OwnWeights:
        """Of all classes, where these (c,) int64 are meant; nothing is added to the others."""
        weight, bias = (np.zeros((*array.shape[:-1], classes)) for array in (self.weight, self.bias))
        weight[..., targets], bias[..., targets] = self.weight, self.bias
        return replace(self, weight=weight, bias=bias)


def with_own_weights(table: Table, tried: Sequence[FitCandidate], folds: Folds) -> list[FitCandidate]:
    """Candidates, and the best of them with weights of each place's own, if there are such places.

    tried : from simple to complex, biases alone first.
    """
    if not table.places or len(tried) < 2:
        return list(tried)
    best, free = min(tried[1:], key=lambda candidate: candidate.loss), np.unique(table.labels)
    weight = np.ones(len(table.labels)) if table.weight is None else table.weight
    labels, judged = table.labels[folds.judged], folds.judged
    counts = weight[judged] / weight[judged].mean()
    there = np.zeros(best.held_out.shape)
    there[np.arange(len(there)), table.labels] = 1.0

    def slopes(Z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        p = softmax(Z)
        r, h = np.zeros_like(p), p * (1 - p) * weight[:, None]
        r[:, free] = ((there - p) * weight[:, None])[:, free]
        return r, h

    def loss(Z: np.ndarray) -> float:
        return float((log_losses(Z[judged], labels) * counts).mean())

    found = own_weights(table, best.columns, best.held_out, slopes, loss, folds)
    if found is None:
        return list(tried)

    shared, read, own = best.learn, best.columns, replace(found, held_out=found.held_out[:0])

    def learn() -> tuple[DensePatch, tuple[str, ...]]:
        patch, notes = shared()
        assert isinstance(patch, Linear | Mlp)
        return own.beside(patch, read), notes

    columns = np.append(best.columns, found.places.column)
    name = f"{best.name}, {in_words(found.places)}"
    held_out = found.held_out.astype(best.held_out.dtype)
    return [*tried, FitCandidate(name, columns, held_out, found.loss, learn)]


def in_words(places: Places) -> str:
    """What it is to have weights of one's own, for notes."""
    return f"weights of their own at {places.count} places"


def own_weights(
    table: Table,
    columns: np.ndarray,
    held_out: np.ndarray,
    slopes: Slopes,
    loss: Callable[[np.ndarray], float],
    folds: Folds,
) -> OwnWeights | None:
    """The best weights of each place's own on some columns of a table; None where nothing is saved.

    held_out (N, C) : logits to begin with. loss : of logits (N, C), by which everything is chosen.
    """
    found = [
        _stepped(table, places, columns[np.isin(columns, places.own)], held_out, slopes, loss, folds)
        for places in table.places
        if _is_small(table, places, columns, held_out.shape[1])
    ]
    better = [each for each in found if each.weight.any() or each.bias.any()]
    return min(better, key=lambda each: each.loss, default=None)


def _is_small(table: Table, places: Places, columns: np.ndarray, classes: int) -> bool:
    neurons = np.count_nonzero(np.isin(columns, places.own)) + 1
    squares = places.count * neurons * neurons
    return bool(squares <= _MOST_SQUARES) and classes <= _MOST_CLASSES and not is_mapped(table.T)


def _stepped(
    table: Table,
    places: Places,
    columns: np.ndarray,
    held_out: np.ndarray,
    slopes: Slopes,
    loss: Callable[[np.ndarray], float],
    folds: Folds,
) -> OwnWeights:
    """Steps as long as they save enough of the loss. columns : that get weights; the rest as above."""
    mean, scale = mean_and_scale(table.T, columns)
    values = (of_columns(table.T, columns) - mean) / scale
    sums = _PlaceSums.of(
        np.column_stack([values, np.ones(len(values))]), table.T[:, places.column], places.count, folds
    )
    logits = held_out.astype(np.float64)
    U = np.zeros((places.count, len(columns) + 1, logits.shape[1]))
    first = least = loss(logits)
    for _ in range(_STEPS):
        tried = [(loss(logits + added), step, added) for step, added in sums.steps(*slopes(logits))]
        lowest, step, added = min(tried, key=lambda one: one[0])
        if not least - lowest > _WORTH * (first - lowest) > 0:
            break
        U, logits, least = U + step, logits + added, lowest
    weight = U[:, :-1] / scale[:, None]
    return OwnWeights(places, columns, weight, U[:, -1] - mean @ weight, logits, least)


@dataclass(frozen=True, eq=False)
class _PlaceSums:
    """Rows X (N, K + 1) float64, the last column ones. fold, place (N,) int64; P places.

    parts : the rows of each fold and place.
    """

    X: np.ndarray
    fold: np.ndarray
    place: np.ndarray
    places: int
    parts: Sequence[tuple[int, int, np.ndarray]]

    @classmethod
    def of(cls, X: np.ndarray, place: np.ndarray, places: int, folds: Folds) -> _PlaceSums:
        fold, place = folds.coarse.number.astype(np.int64), place.astype(np.int64)
        key = fold * places + place
        order = np.argsort(key, kind="stable")
        numbers, starts = np.unique(key[order], return_index=True)
        groups = np.split(order, starts[1:])
        parts = [(*divmod(int(number), places), rows) for number, rows in zip(numbers, groups, strict=True)]
        return cls(X, fold, place, places, parts)

    def steps(self, r: np.ndarray, h: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """For each spread and ridge: a step of all samples (P, K + 1, C), and what steps that have not seen
        a row add to its logits (N, C). r, h (N, C) : as of `Slopes`."""
        options = list(product(_SPREADS, _RIDGES))
        steps = [np.zeros((self.places, self.X.shape[1], r.shape[1])) for _ in options]
        added = [np.zeros(r.shape) for _ in options]
        near = {spread: _near(self.places, spread) for spread in _SPREADS}
        for c in range(r.shape[1]):
            G, A, count = self._sums(r[:, c], h[:, c])
            for spread in _SPREADS:
                for held in (-1, *range(len(G))):
                    g, a, n = (one.sum(axis=0) - (one[held] if held >= 0 else 0) for one in (G, A, count))
                    g, a, n = (np.tensordot(near[spread], one, axes=1) for one in (g, a, n))
                    for number, (of, ridge) in enumerate(options):
                        if of != spread:
                            continue
                        penalty = ridge * n.mean() * np.eye(self.X.shape[1])
                        step = np.linalg.solve(a + penalty, g[..., None])[..., 0]
                        if held < 0:
                            steps[number][:, :, c] = step
                            continue
                        rows = np.flatnonzero(self.fold == held)
                        added[number][rows, c] = np.einsum("nk,nk->n", self.X[rows], step[self.place[rows]])
        yield from zip(steps, added, strict=True)

    def _sums(self, r: np.ndarray, h: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """X^T r (F, P, K + 1), X^T H X (F, P, K + 1, K + 1), rows (F, P) of each fold and place."""
        folds, width = int(self.fold.max()) + 1, self.X.shape[1]
        G, A = np.zeros((folds, self.places, width)), np.zeros((folds, self.places, width, width))
        count = np.zeros((folds, self.places))
        for fold, place, rows in self.parts:
            X = self.X[rows]
            G[fold, place], A[fold, place] = X.T @ r[rows], (X.T * h[rows]) @ X
            count[fold, place] = len(rows)
        return G, A, count


def _near(places: int, spread: float) -> np.ndarray:
    """How much each place counts for another, (P, P), rows summing to one: less with every place between."""
    apart = np.abs(np.subtract.outer(np.arange(places), np.arange(places)))
    near = np.maximum(1 - apart / (1 + spread * places), 0.0)
    found: np.ndarray = near / near.sum(axis=1, keepdims=True)
    return found
