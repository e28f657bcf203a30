"""What does a joint fit minimise? The cross-entropy of one class of many, or of shares of all, and a ridge.

The functions take NumPy's or CuPy's arrays; `xp` is the library.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from onnxtweak.engine.machine.large_arrays import (
    added,
    beside,
    by_rows,
    entries,
    is_mapped,
    let_go,
    let_go_rows,
    sums_by_rows,
)
from onnxtweak.engine.machine.narrow_rows import row_max, row_sums, sum_of_rows
from onnxtweak.method.softmax import log_sum_exp, row_blocks
from onnxtweak.method.solvers.design import Design

# A ridge below this cannot keep the weights of separable data in the range that float32 logits resolve.
RIDGE_FLOOR = 1e-8


def rest_offset(Z: np.ndarray, labels: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Offsets (N, c + 1) and classes (N,) of the problem in which only c target logits can move.

    The last column is the logsumexp of the other logits, and the class of every other sample. The
    cross-entropy over all classes and over these differ by a constant (METHOD 5). Where every class is a
    target the rest has no share: -inf.
    """
    place = np.full(Z.shape[1], len(targets), np.int64)
    place[targets] = np.arange(len(targets))

    def offsets(Z: np.ndarray) -> np.ndarray:
        others = np.delete(Z.astype(np.float64), targets, axis=1)
        rest = log_sum_exp(others) if others.shape[1] else np.full(len(Z), -np.inf)
        return np.column_stack([Z[:, targets].astype(np.float64), rest])

    return by_rows(offsets, Z), place[labels]


def on_free_classes(
    Z: np.ndarray, labels: np.ndarray, free: np.ndarray, kind: np.dtype[Any]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Offsets (N, P) and the right class (N,) or shares (N, P) of the problem in which `free` (F,) can move.

    Fixed classes act as one, the last. The third, (N,) float64, is what a sample's loss lacks by that.
    kind : dtype of the table; where it rounds the scores to float32, their softmax in that costs half.
    """
    spared = np.zeros(len(labels))
    if not np.array_equal(free, np.arange(Z.shape[1])):
        own = entries(Z, labels).astype(np.float64)
        Z, labels = rest_offset(Z, labels, free)
        fixed = labels == len(free)
        spared[fixed] = Z[fixed, -1] - own[fixed]
    kind = np.dtype(np.float64 if kind == np.float64 else np.float32)
    return _in_kind(Z, kind), _in_kind(labels, kind) if labels.ndim == 2 else labels, spared


def _in_kind(array: np.ndarray, kind: np.dtype[Any]) -> np.ndarray:
    """An array with this dtype, contiguous: itself, if it is."""
    if array.dtype == kind and array.flags.c_contiguous:
        return array
    return by_rows(lambda rows: np.ascontiguousarray(rows, kind), array)


def losses(xp: ModuleType, offset: Any, scores: Any, place: Any, into: Any = None) -> tuple[Any, Any]:
    """Cross-entropy of each sample (N,) float64, and probabilities (N, F) of the free classes.

    offset (N, P), place (N,) or (N, P) : as `on_free_classes` gives them. scores (N, F). into (N, P) : an
    array for the probabilities; None: a new one.
    """
    p = into
    if into is None:
        p = beside(offset, offset.shape, offset.dtype) if xp is np else xp.empty_like(offset)
    moving, each = p[:, : scores.shape[1]], xp.empty(len(p))
    for part in row_blocks(p):
        logits, right = p[part], place[part]
        logits[:] = offset[part]
        moving[part] += scores[part]
        logits -= row_max(logits)[:, None]
        if place.ndim == 2:
            own = row_sums(right * logits)
        else:
            own = logits.reshape(-1)[xp.arange(0, logits.size, p.shape[1]) + right]
        xp.exp(logits, out=logits)
        total = row_sums(logits)
        each[part] = xp.log(total) - own
        logits /= total[:, None]
        let_go_rows(part, p, offset, scores, place)
    return each, moving


def residual(xp: ModuleType, p: Any, place: Any, column: Any, own: Any = None) -> Any:
    """The derivative (N, F) of the weighted losses in the scores. p (N, F). column (N, 1) : weights.

    own : what `of_right_class` gives; None: it is asked.
    """
    if place.ndim == 2:
        return (p - place) * column
    found, (flat, weight) = p * column, of_right_class(xp, place, column, p.shape[1]) if own is None else own
    found.reshape(-1)[flat] -= weight
    return found


def of_right_class(xp: ModuleType, place: Any, column: Any, free: int) -> tuple[Any, Any]:
    """Where in a flat (N, F) the right classes are that can move, (n,) int64, and the weights (n,) there."""
    own = xp.flatnonzero(place < free)  # of the others the right class is fixed
    return own * free + place[own], column[own, 0]


def shares(sample_weight: np.ndarray) -> np.ndarray:
    """Weights (N,) float64 that sum to 1."""
    weight = np.asarray(sample_weight, np.float64)
    return weight / max(float(weight.sum()), 1e-300)


class CrossEntropy:
    """The objective of `multinomial` on a design's axes. The bias is penalised by the floor alone."""

    def __init__(
        self,
        design: Design,
        Z: np.ndarray,
        labels: np.ndarray,
        free: np.ndarray,
        sample_weight: np.ndarray,
        ridge: float,
    ) -> None:
        self.design, xp = design, design.xp
        share = shares(sample_weight)
        self.share = xp.asarray(share)
        offset, place, spared = on_free_classes(Z, labels, free, design.X.dtype)
        self.constant = float(share @ spared)
        self.offset, self.place = xp.asarray(offset), xp.asarray(place)
        self.column = self.share[:, None].astype(offset.dtype)
        # Probabilities of logits in a file are written over the last ones, which nothing needs any more.
        self.room = beside(offset, offset.shape, offset.dtype) if is_mapped(offset) else None
        self.own = None
        if self.room is None and labels.ndim == 1:
            self.own = of_right_class(xp, self.place, self.column, len(free))
        self.penalty = xp.asarray(np.append(np.full(design.X.shape[1], ridge), RIDGE_FLOOR)[:, None])

    def scores(self, axes: Any) -> Any:
        """X U + b, (N, F), in X's own precision."""
        return self.design.scores(axes, self.offset)

    def value(self, scores: Any, axes: Any) -> tuple[float, Any]:
        """The objective, and the probabilities (N, F) of the free classes."""
        each, p = losses(self.design.xp, self.offset, scores, self.place, self.room)
        return float(self.share @ each + (self.penalty * axes**2).sum() / 2) + self.constant, p

    def gradient(self, p: Any, axes: Any) -> Any:
        if self.room is None:
            rest = residual(self.design.xp, p, self.place, self.column, self.own)
            products, sums = self.design.products(rest), sum_of_rows(rest)
        else:
            products, sums = np.zeros((self.design.X.shape[1], p.shape[1]), self.design.X.dtype), None
            for part, X in self.design.blocks():
                rest = residual(np, p[part], self.place[part], self.column[part])
                products += X.T @ rest
                sums = added(sums, rest)
                let_go(p[part])
        found = self.penalty * axes
        found[:-1] += products
        found[-1] += sums
        return found

    def curvature(self, p: Any) -> Any:
        """(A + 1, F): diagonal of the Hessian, as if a sample's curvature did not depend on its values."""
        h = self.design.xp.maximum(sums_by_rows(lambda p, c: p * (1 - p) * c, p, self.column), 1e-5)
        return self.design.variances[:, None] * h + self.penalty
