"""Which weights fit several labels at once? C logistic regressions on top of the base, which share a table.

Each label is a problem of its own: the mean cross-entropy of its known marks under `Z + T W + b`, in which
the base's logits Z are fixed, plus a ridge on columns scaled to unit deviation. They are solved together, for
one product with the table serves them all. W = 0 is the base (METHOD 17).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxtweak.engine.machine.large_arrays import beside, in_blocks, let_go, summed
from onnxtweak.engine.workers.learning_device import on_host
from onnxtweak.method.softmax import row_blocks
from onnxtweak.method.solvers.design import Design
from onnxtweak.method.solvers.lbfgs import lbfgs
from onnxtweak.method.solvers.multinomial import Solution
from onnxtweak.method.solvers.softmax_loss import RIDGE_FLOOR

_ITERATIONS = 300


def logistic(
    design: Design,
    Z: np.ndarray,
    marks: np.ndarray,
    ridge: np.ndarray | float,
    *,
    weight: np.ndarray | None = None,
    start: Solution | None = None,
    tolerance: float = 1e-7,
) -> Solution:
    """Weights on all labels that minimise the sum of their penalised mean cross-entropies.

    Z (N, C). marks (N, C) : 1, 0, a share between them, or -1 for what is left out, though its scores are
    still given. A label without any known mark gets no weights. ridge : of each label (C,), or of all. weight
    (N,) : how much a sample counts; None: all alike. start : the solution of the same marks under another
    ridge. tolerance : stop when a quadratic model promises to lower the sum by less than this.
    """
    counts = np.ones(len(Z)) if weight is None else weight
    objective = _CrossEntropies(design, Z, marks, np.broadcast_to(ridge, Z.shape[1:]), counts)
    nothing = design.xp.zeros((design.X.shape[1] + 1, Z.shape[1]))
    begin = nothing if start is None else start.under(objective.penalty)
    end = lbfgs(objective, begin, tolerance, _ITERATIONS)
    weights, bias = design.in_units(end.U)
    scores, known = on_host(end.scores), (objective.penalty, end.descent)
    return Solution(weights, bias, on_host(end.U), scores, end.loss, end.iterations, end.note, *known)


class _CrossEntropies:
    """The objective of `logistic` on a design's axes. The biases are penalised by the floor alone."""

    def __init__(
        self, design: Design, Z: np.ndarray, marks: np.ndarray, ridge: np.ndarray, weight: np.ndarray
    ) -> None:
        self.design, xp = design, design.xp
        kind = np.float64 if design.X.dtype == np.float64 else np.float32
        whole = summed(lambda marks, weight: (marks >= 0) * weight[:, None], marks, weight)
        whole = np.where(whole > 0, whole, 1)

        def shares(marks: np.ndarray, weight: np.ndarray) -> np.ndarray:
            found: np.ndarray = ((marks >= 0) * weight[:, None] / whole).astype(kind)
            return found

        share = in_blocks(shares, marks, weight, like=Z)
        self.offset = xp.asarray(in_blocks(lambda Z: Z.astype(kind), Z) if Z.dtype != kind else Z)
        self.share, self.marks = xp.asarray(share), xp.asarray(marks)
        penalty = np.tile(np.maximum(ridge, RIDGE_FLOOR), (design.X.shape[1] + 1, 1))
        penalty[-1] = RIDGE_FLOOR
        self.penalty = xp.asarray(penalty)

    def scores(self, axes: Any) -> Any:
        """X U + b, (N, C), in X's own precision."""
        return self.design.scores(axes, like=self.offset)

    def value(self, scores: Any, axes: Any) -> tuple[float, Any]:
        """The objective, and the probabilities (N, C)."""
        xp, p, loss = self.design.xp, self._another(), 0.0
        for part in row_blocks(p):
            logits = self.offset[part] + scores[part]
            small = xp.exp(-xp.abs(logits))
            each = xp.maximum(logits, 0) - logits * self._there(part) + xp.log1p(small)
            p[part] = xp.where(logits >= 0, 1, small) / (1 + small)
            loss += float((self.share[part] * each).sum(dtype=np.float64))
            self._let_go(part, p, scores)
        return loss + float((self.penalty * axes**2).sum()) / 2, p

    def gradient(self, p: Any, axes: Any) -> Any:
        xp, residual = self.design.xp, self._another()
        sums = xp.zeros(residual.shape[1])
        for part in row_blocks(residual):
            residual[part] = self.share[part] * (p[part] - self._there(part))
            sums = sums + residual[part].sum(axis=0, dtype=np.float64)
            self._let_go(part, p, residual)
        return xp.vstack([self.design.products(residual), sums]) + self.penalty * axes

    def curvature(self, p: Any) -> Any:
        """(A + 1, C): diagonal of the Hessian, as if a sample's curvature did not depend on its values."""
        xp = self.design.xp
        h = xp.zeros(p.shape[1])
        for part in row_blocks(p):
            h = h + (self.share[part] * p[part] * (1 - p[part])).sum(axis=0, dtype=np.float64)
            self._let_go(part, p)
        return self.design.variances[:, None] * xp.maximum(h, 1e-5) + self.penalty

    def _another(self) -> Any:
        """Room for an array (N, C) where the logits lie."""
        if self.design.xp is np:
            return beside(self.offset, self.offset.shape, self.offset.dtype)
        return self.design.xp.empty_like(self.offset)

    def _there(self, part: slice) -> Any:
        """The marks of a block, 0 where they are not known."""
        return self.design.xp.maximum(self.marks[part], 0).astype(self.offset.dtype)

    def _let_go(self, part: slice, *arrays: Any) -> None:
        """A block of arrays, and of those that the problem has, is done with."""
        if self.design.xp is np:
            for array in (self.offset, self.share, self.marks, *arrays):
                let_go(array[part])
