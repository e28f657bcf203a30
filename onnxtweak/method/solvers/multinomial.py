"""Which weights on a table fit best? Multinomial and logistic regression on top of the base (METHOD 5, 7).

They minimise the weighted mean cross-entropy of `Z + T W + b`, in which the base's logits Z are fixed, plus a
ridge and optionally an L1 penalty on columns scaled to unit deviation. It is taken against one class per
sample, or against shares of all classes, such as another model's probabilities (METHOD 16). W = 0 is the
base, where both solvers start unless told otherwise. One target against all the rest is a logistic loss with
two columns of offset; several are a softmax over the targets and one rest class. A joint fit is written
against `xp`, NumPy or CuPy, the library of its design; what the caller gets is NumPy's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np

from onnxtweak.engine.machine.large_arrays import (
    blocks,
    by_rows,
    chosen_rows,
    column_sums,
    filled,
    interleaved,
    of_columns,
)
from onnxtweak.engine.machine.products import product
from onnxtweak.engine.workers.learning_device import on_host
from onnxtweak.method.softmax import sigmoid
from onnxtweak.method.solvers.design import Design, design
from onnxtweak.method.solvers.lbfgs import Descent, lbfgs, unconverged
from onnxtweak.method.solvers.proximal import Sparsity, proximal
from onnxtweak.method.solvers.softmax_loss import RIDGE_FLOOR, CrossEntropy, rest_offset, shares
from onnxtweak.method.solvers.standard import scale_of_uncentred


@dataclass(frozen=True)
class Solution:
    """Where a solver ended. weight (K, F), bias (F,) float64, in the units of T.

    axes (A + 1, F) : the same on the design's axes, bias last, for a warm start. scores (N, F) : T W + b.
    loss : the penalised objective. note : for the user; empty where the solver converged. penalty (A + 1, 1)
    or (A + 1, F) : of each squared weight; descent : what L-BFGS knows there; both of the design's library.
    """

    weight: np.ndarray
    bias: np.ndarray
    axes: np.ndarray
    scores: np.ndarray
    loss: float
    iterations: int
    note: str = ""
    penalty: Any = None
    descent: Descent | None = None

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What it takes to go on from here, as arrays: `of_arrays` gives all but weights and scores."""
        assert self.descent is not None
        found = {"axes": self.axes, "penalty": on_host(self.penalty), "loss": np.array(self.loss)}
        found |= {"iterations": np.array(self.iterations), "note": np.array(self.note)}
        return {**found, **self.descent.arrays}

    @classmethod
    def of_arrays(cls, found: Mapping[str, np.ndarray], xp: ModuleType = np) -> Solution:
        """What `arrays` gave. xp : the library of the design."""
        nothing, known = np.empty(0), (xp.asarray(found["penalty"]), Descent.of_arrays(found, xp))
        ended = float(found["loss"]), int(found["iterations"]), str(found["note"])
        return cls(nothing, nothing, found["axes"], nothing, *ended, *known)

    def with_unseen(self, seen: np.ndarray) -> Solution:
        """The same with classes between its own that get the mean of what these get. seen (F',) bool."""

        def spread(own: np.ndarray) -> np.ndarray:
            wide = np.empty((*own.shape[:-1], len(seen)), own.dtype)
            wide[..., seen], wide[..., ~seen] = own, own.mean(axis=-1, keepdims=True)
            return wide

        weight, bias, axes = (spread(own) for own in (self.weight, self.bias, self.axes))
        return replace(self, weight=weight, bias=bias, axes=axes, scores=by_rows(spread, self.scores))

    def under(self, penalty: Any) -> Descent:
        """Where L-BFGS goes on from, on the same samples and classes under another penalty."""
        assert self.descent is not None and self.penalty is not None  # L-BFGS has been here
        return self.descent.penalised(penalty - self.penalty)


def multinomial(
    table: np.ndarray | Design,
    Z: np.ndarray,
    labels: np.ndarray,
    *,
    ridge: float,
    lasso: float = 0.0,
    grouped: bool = False,
    free: np.ndarray | None = None,
    sample_weight: np.ndarray | None = None,
    start: np.ndarray | Solution | None = None,
    tolerance: float = 1e-8,
    iterations: int = 300,
) -> Solution:
    """Weights on the free classes that minimise the penalised cross-entropy of `Z + T W + b`.

    table : T (N, K), or its design when several problems share it. Z (N, C). labels (N,) int64 : the class of
    each sample; or (N, C) float, shares of its classes that sum to 1, where all classes are free. free (F,) :
    the classes that get weights, default all; fixed ones act as a rest class. A free class without a sample
    is left out of the loss, which would push it away without end, and gets the mean of what the others get.
    sample_weight (N,) >= 0; zero leaves a sample out, though its scores are still given. start :
    `Solution.axes` of a similar problem, or the solution of the same samples and classes at another ridge,
    from which the solver goes on. tolerance : stop when a quadratic model promises to lower the objective by
    less than this. lasso : L1
    penalty; with one the design must not be rotated. grouped : the L1 penalty is on the length of each
    neuron's weights, not on each weight, so that a neuron serves all classes or none. Weights are finite
    whatever the data; a ridge below RIDGE_FLOOR is raised to it.
    """
    whole = table if isinstance(table, Design) else design(table, turn=lasso == 0)
    free = np.arange(Z.shape[1]) if free is None else np.asarray(free, np.int64)
    sample_weight = np.ones(len(labels)) if sample_weight is None else sample_weight
    counted, used = sample_weight > 0, whole
    seen = np.ones(len(free), bool)
    if labels.ndim == 1:
        seen = np.bincount(labels[counted], minlength=Z.shape[1])[free] > 0
    if not seen.all() and seen.any():
        there = np.setdiff1d(np.arange(Z.shape[1]), free[~seen])
        found = multinomial(
            whole,
            of_columns(Z, there),
            np.minimum(np.searchsorted(there, labels), len(there) - 1),
            ridge=ridge,
            lasso=lasso,
            grouped=grouped,
            free=np.searchsorted(there, free[seen]),
            sample_weight=sample_weight,
            start=start[:, seen] if isinstance(start, np.ndarray) else start,
            tolerance=tolerance,
            iterations=iterations,
        )
        return found.with_unseen(seen)
    all_counted = bool(counted.all())
    if not all_counted:  # samples without weight cost nothing but their scores at the end
        used = whole.in_one_piece(np.flatnonzero(counted))
        Z, labels, sample_weight = (
            chosen_rows(Z, counted),
            chosen_rows(labels, counted),
            sample_weight[counted],
        )
    objective = CrossEntropy(used, Z, labels, free, sample_weight, max(ridge, RIDGE_FLOOR))
    if isinstance(start, Solution):
        end = lbfgs(objective, start.under(objective.penalty), tolerance, iterations)
    else:
        begin = whole.xp.asarray(np.zeros((used.X.shape[1] + 1, len(free))) if start is None else start)
        if lasso:
            end = proximal(objective, begin, Sparsity(lasso, grouped), tolerance, iterations)
        else:
            end = lbfgs(objective, begin, tolerance, iterations)
    scores = on_host(end.scores)
    if not all_counted:
        others = on_host(whole.of_rows(np.flatnonzero(~counted)).scores(end.U, scores))
        scores = interleaved(counted, scores, others)
    weight, bias = whole.in_units(end.U)
    axes, known = on_host(end.U), (objective.penalty, end.descent)
    return Solution(weight, bias, axes, scores, end.loss, end.iterations, end.note, *known)


def one_target(
    T: np.ndarray,
    Z: np.ndarray,
    labels: np.ndarray,
    target: int,
    *,
    ridge: float,
    sample_weight: np.ndarray | None = None,
    intercept: bool = True,
    start: np.ndarray | None = None,
    tolerance: float = 1e-12,
    iterations: int = 100,
) -> Solution:
    """One target's synapses by Newton's method: the logistic loss with offset `Z_j - logsumexp_{i != j} Z_i`.

    For few columns (cost N K^2 a step). start (K + 1,) : weight and bias in units of T. The solution has one
    column, and `axes` is (K + 1, 1) in units of T.
    """
    columns, _ = rest_offset(Z, labels, np.array([target]))
    offset = columns[:, 0] - columns[:, 1]
    sign = np.where(labels == target, 1.0, -1.0)
    share = shares(np.ones(len(labels)) if sample_weight is None else sample_weight)
    scale = scale_of_uncentred(T)
    centre = column_sums(T) / max(len(T), 1) * intercept

    def standard(block: np.ndarray) -> np.ndarray:
        return np.column_stack([(block - centre) / scale, np.full(len(block), float(intercept))])

    X = filled(T, ((part, standard(block)) for part, block in blocks(T)), len(scale) + 1, np.float64)
    penalty = np.append(np.full(T.shape[1], max(ridge, RIDGE_FLOOR)), RIDGE_FLOOR)
    w = np.zeros(T.shape[1] + 1)
    if start is not None:
        w[:-1] = start[:-1] * np.where(np.isfinite(scale), scale, 0.0)
        w[-1] = start[-1] + centre @ start[:-1]

    def objective(w: np.ndarray) -> float:
        return float(share @ np.logaddexp(0, -sign * (offset + product(X, w))) + penalty @ w**2 / 2)

    loss, done, count = objective(w), False, 0
    while count < iterations and not done:
        count += 1
        p = sigmoid(offset + product(X, w))
        residual, curved = share * (p - (sign > 0)), share * p * (1 - p)
        gradient, hessian = np.zeros(len(w)), np.zeros((len(w), len(w)))
        for part, block in blocks(X):
            gradient += block.T @ residual[part]
            hessian += (block.T * curved[part]) @ block
        gradient += penalty * w
        hessian[np.diag_indices_from(hessian)] += penalty
        step = np.linalg.solve(hessian, gradient)
        promised, t = float(gradient @ step) / 2, 1.0
        while (tried := objective(w - t * step)) > loss - 0.5 * t * promised and t > 1e-8:
            t /= 2
        done = promised < tolerance or tried >= loss
        if tried < loss:
            w, loss = w - t * step, tried
    weight = w[:-1] / scale
    bias = w[-1] * intercept - centre @ weight
    note = "" if done else unconverged(count)
    column = np.append(weight, bias)[:, None]
    return Solution(weight[:, None], np.array([bias]), column, product(X, w)[:, None], loss, count, note)
