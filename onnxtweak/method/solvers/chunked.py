"""Which weights fit a very large table best? The joint fit, its sums made chunk by chunk, here or by workers.

What `multinomial` minimises, by the same L-BFGS. Only weights go to a chunk, and only sums come back: no
array as large as the logits is needed while it runs. Scores being linear in the weights, L-BFGS is given the
weights in their place.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from onnxtweak.engine.machine.large_arrays import let_go
from onnxtweak.engine.workers.chunks import Chunks, HeldChunks, cut
from onnxtweak.method.solvers.design import Design
from onnxtweak.method.solvers.lbfgs import lbfgs
from onnxtweak.method.solvers.multinomial import Solution
from onnxtweak.method.solvers.regression import Moments
from onnxtweak.method.solvers.softmax_loss import RIDGE_FLOOR, losses, on_free_classes, residual, shares


@dataclass(frozen=True)
class _Rows:
    """A chunk's rows, as `on_free_classes` has them. X (n, A), offset (n, P), place (n,) or (n, P)."""

    X: np.ndarray
    offset: np.ndarray
    place: np.ndarray


@dataclass(frozen=True)
class _News:
    """What a chunk has not seen. U (A + 1, F) : weights. seen (F,) bool : classes that the loss knows."""

    U: np.ndarray
    seen: np.ndarray


@dataclass(frozen=True)
class _Sums:
    """Over rows: the loss; its slope in weights and bias (A, F), (F,); p (1 - p) (F,)."""

    loss: float
    slope: np.ndarray
    slope_of_bias: np.ndarray
    bent: np.ndarray


@dataclass(frozen=True, eq=False)
class ChunkedProblem:
    """A joint fit whose rows are held in chunks. labels (N,) int64, or shares (N, C). free (F,) int64."""

    design: Design
    labels: np.ndarray
    free: np.ndarray
    chunks: Chunks
    rows: HeldChunks
    spared: np.ndarray

    @classmethod
    def of(
        cls, design: Design, Z: np.ndarray, labels: np.ndarray, free: np.ndarray, chunks: Chunks
    ) -> ChunkedProblem:
        """Rows are sent to those who hold them. The rest as of `multinomial`."""
        offset, place, spared = on_free_classes(Z, labels, free, design.X.dtype)
        rows = [_Rows(design.X[part], offset[part], place[part]) for part in cut(len(Z))]
        return cls(design, labels, free, chunks, chunks.hold(rows), spared)

    def held(self, values: np.ndarray) -> HeldChunks:
        """Values (N, ...) of the rows, sent to those who hold these."""
        return self.chunks.hold([values[part] for part in cut(len(values))])

    def moments(self, lacking: HeldChunks, rows: np.ndarray | None) -> Moments:
        """Of the design and of `lacking` (N, C). rows (n,) int64 : that count; None: all."""
        counted = np.full(len(self.labels), rows is None)
        counted[rows if rows is not None else slice(0)] = True
        each = self.chunks.each(_moments, (self.rows, lacking, self.held(counted)), None)
        return reduce(add, each)

    def solve(
        self,
        ridge: float,
        weight: np.ndarray | None,
        start: np.ndarray | Solution | None,
        tolerance: float,
        iterations: int = 300,
    ) -> Solution:
        """`multinomial` on these rows. weight (N,) : how much each counts, 0 leaves it out; None: alike."""
        weight = np.ones(len(self.labels)) if weight is None else weight
        objective = _Chunked(self, weight, max(ridge, RIDGE_FLOOR))
        begin: Any = np.zeros((self.design.X.shape[1] + 1, len(self.free))) if start is None else start
        if isinstance(start, Solution):
            begin = start.under(objective.penalty)
        end = lbfgs(objective, begin, tolerance, iterations)
        seen, axes, known = objective.seen, end.U, (objective.penalty, end.descent)
        if not seen.all():  # such a class gets the mean of what the others get
            axes = axes.copy()
            axes[:, ~seen] = axes[:, seen].mean(axis=1, keepdims=True)
        weights, bias = self.design.in_units(axes)
        scores = self.design.scores(axes)
        return Solution(weights, bias, axes, scores, end.loss, end.iterations, end.note, *known)


class _Chunked:
    """The objective. What stands for scores are weights, and for probabilities sums."""

    def __init__(self, problem: ChunkedProblem, weight: np.ndarray, ridge: float) -> None:
        self.of, labels = problem, problem.labels
        self.seen = np.ones(len(problem.free), bool)
        if labels.ndim == 1:
            self.seen = np.isin(problem.free, labels[weight > 0])
        share = shares(weight)
        self.constant = float(share @ problem.spared)
        self.share = problem.held(share)
        self.penalty = np.append(np.full(problem.design.X.shape[1], ridge), RIDGE_FLOOR)[:, None]

    def scores(self, axes: np.ndarray) -> np.ndarray:
        return axes

    def value(self, scores: np.ndarray, axes: np.ndarray) -> tuple[float, _Sums]:
        news = _News(scores.astype(self.of.design.X.dtype), self.seen)
        loss, slope, of_bias, bent = 0.0, np.zeros((len(axes) - 1, axes.shape[1])), np.zeros(1), np.zeros(1)
        for found in self.of.chunks.each(_summed, (self.of.rows, self.share), news):
            loss += found.loss
            slope += found.slope
            of_bias, bent = of_bias + found.slope_of_bias, bent + found.bent
        loss += float((self.penalty * axes**2).sum() / 2) + self.constant
        return loss, _Sums(loss, slope, of_bias, bent)

    def gradient(self, p: _Sums, axes: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.vstack([p.slope, p.slope_of_bias]) + self.penalty * axes
        return found

    def curvature(self, p: _Sums) -> np.ndarray:
        """(A + 1, F): diagonal of the Hessian, as if a sample's curvature did not depend on its values."""
        found: np.ndarray = self.of.design.variances[:, None] * np.maximum(p.bent, 1e-5) + self.penalty
        return found


def _moments(rows: _Rows, lacking: np.ndarray, counted: np.ndarray, news: None) -> Moments:
    """Of one chunk. counted (n,) bool : rows that count."""
    found = Moments.of(rows.X[counted], lacking[counted])
    let_go(rows.X)
    return found


def _summed(rows: _Rows, share: np.ndarray, news: _News) -> _Sums:
    """The sums of one chunk. share (n,) : how much a row counts."""
    U, X, offset, place = news.U, rows.X, rows.offset, rows.place
    if not share.all():  # rows that do not count cost nothing
        own = np.flatnonzero(share)
        X, offset, place, share = X[own], offset[own], place[own], share[own]
    if not news.seen.all():  # the loss would push such a class away without end
        offset = offset.copy()
        offset[:, : len(news.seen)][:, ~news.seen] = -np.inf
    each, p = losses(np, offset, X @ U[:-1] + U[-1], place)
    column = share[:, None].astype(offset.dtype)
    rest = residual(np, p, place, column)
    bent, slope = (p * (1 - p) * column).sum(axis=0, dtype=np.float64), X.T @ rest
    let_go(rows.X)
    return _Sums(float(share @ each), slope, rest.sum(axis=0, dtype=np.float64), bent)
