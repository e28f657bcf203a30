"""Which weights on a table fit best? Convex solvers with the base's logits as a fixed offset (METHOD 5, 7).

Minimised is the weighted mean cross-entropy of `Z + T W + b` plus, on columns scaled to unit deviation, a
ridge and optionally an L1 penalty. The base is W = 0, where every solver starts. One target against all the
rest is a logistic loss with two columns of offset; several are a softmax over the targets and one rest class.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from onnxtweak.method.solvers.proximal import Sparsity, proximal
from onnxtweak.method.solvers.standard import column_scale, scale_of_uncentred

# A ridge below this cannot keep the weights of separable data in the range that float32 logits resolve.
RIDGE_FLOOR = 1e-8
# Principal axes with less of the variance than this are noise of float32; their weights would be too.
_AXIS_FLOOR = 1e-9
# Above this many columns the principal axes cost more than they save.
_AXES_LIMIT = 3000
_MEMORY = 10  # pairs that L-BFGS remembers


@dataclass(frozen=True)
class Design:
    """A table made ready for solving, once for all penalties and folds.

    X (N, A) float : standardised columns, turned into their principal axes where that pays. variance (A,) :
    of each axis. mean, scale (K,) float64 : of the columns; scale is inf for a constant one, so that its
    weight is 0. turn (K, A) float64 : axes in columns; None: X is standardised only.
    """

    X: np.ndarray
    variance: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    turn: np.ndarray | None

    def apply(self, T: np.ndarray) -> np.ndarray:
        """Other samples T (n, K) on the same axes: (n, A)."""
        standard = (T - self.mean.astype(T.dtype)) / self.scale.astype(T.dtype)
        return standard if self.turn is None else standard @ self.turn.astype(T.dtype)


@dataclass(frozen=True)
class Solution:
    """Where a solver ended. weight (K, F), bias (F,) float64, in the units of T.

    axes (A + 1, F) : the same on the design's axes, bias last, for a warm start. scores (N, F) : T W + b.
    loss : the penalised objective. note : empty, or in plain words why it stopped before the optimum.
    """

    weight: np.ndarray
    bias: np.ndarray
    axes: np.ndarray
    scores: np.ndarray
    loss: float
    iterations: int
    note: str = ""


def design(T: np.ndarray, *, turn: bool = True) -> Design:
    """Standardise the columns of T (N, K) and turn them into principal axes. float32 stays float32."""
    kind = np.float32 if T.dtype != np.float64 else np.float64
    mean = T.mean(axis=0, dtype=np.float64)
    X = (T - mean.astype(kind)).astype(kind)
    deviation = np.sqrt(np.einsum("nk,nk->k", X, X, dtype=np.float64) / max(len(T), 1))
    scale = column_scale(deviation, np.abs(mean))
    X /= scale.astype(kind)
    if not turn or not 0 < X.shape[1] <= _AXES_LIMIT:
        return Design(X, np.isfinite(scale).astype(np.float64), mean, scale, None)
    variance, axes = np.linalg.eigh((X.T @ X).astype(np.float64) / len(X))
    keep = variance > _AXIS_FLOOR * max(float(variance[-1]), 1e-300)
    return Design(X @ axes[:, keep].astype(kind), variance[keep], mean, scale, axes[:, keep])


def rest_offset(Z: np.ndarray, labels: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Offsets (N, c + 1) and classes (N,) of the problem in which only c target logits can move.

    The last column is the logsumexp of the other logits, and the class of every other sample. The
    cross-entropy over all classes and over these differ by a constant (METHOD 5). Where every class is a
    target the rest has no share: -inf.
    """
    others = np.delete(Z.astype(np.float64), targets, axis=1)
    rest = np.full(len(Z), -np.inf)
    if others.shape[1]:
        top = others.max(axis=1)
        rest = top + np.log(np.exp(others - top[:, None]).sum(axis=1))
    place = np.full(Z.shape[1], len(targets), np.int64)
    place[targets] = np.arange(len(targets))
    return np.column_stack([Z[:, targets].astype(np.float64), rest]), place[labels]


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
    start: np.ndarray | None = None,
    tolerance: float = 1e-8,
    iterations: int = 300,
) -> Solution:
    """Weights on the free classes that minimise the penalised cross-entropy of `Z + T W + b`.

    table : T (N, K), or its design when several problems share it. Z (N, C), labels (N,). free (F,) : the
    classes that get weights, default all; fixed ones act as a rest class. sample_weight (N,) >= 0; zero
    leaves a sample out, though its scores are still given. start : `Solution.axes` of a similar problem.
    tolerance : stop when a quadratic model promises less than this of the objective. lasso : L1 penalty; with
    one the design must not be turned. grouped : it is on the length of each neuron's weights, not on each
    weight, so that a neuron serves all classes or none. Weights are finite whatever the data; ridge is raised
    to RIDGE_FLOOR.
    """
    made = table if isinstance(table, Design) else design(table, turn=lasso == 0)
    free = np.arange(Z.shape[1]) if free is None else np.asarray(free, np.int64)
    counted = np.arange(len(labels)) if sample_weight is None else np.flatnonzero(sample_weight)
    whole, everyone = made, len(counted) == len(labels)
    if not everyone:  # samples without weight cost nothing but a look at the end
        made = replace(made, X=made.X[counted])
        Z, labels, sample_weight = Z[counted], labels[counted], sample_weight[counted]
    problem = _Objective(made, Z, labels, free, sample_weight, max(ridge, RIDGE_FLOOR))
    begin = np.zeros((made.X.shape[1] + 1, len(free))) if start is None else start.copy()
    if lasso:
        axes, scores, loss, count, done = proximal(
            problem, begin, Sparsity(lasso, grouped), tolerance, iterations
        )
    else:
        axes, scores, loss, count, done = descend(problem, begin, tolerance, iterations)
    if not everyone:
        scores = _scores(whole.X, axes)
    inner = axes[:-1] if made.turn is None else made.turn @ axes[:-1]
    weight = inner / made.scale[:, None]
    note = "" if done else unfinished(count)
    return Solution(weight, axes[-1] - made.mean @ weight, axes, scores, loss, count, note)


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
    share = _shares(sample_weight, len(labels))
    scale = scale_of_uncentred(T)
    centre = T.mean(axis=0, dtype=np.float64) * intercept
    X = np.column_stack([(T - centre) / scale, np.full(len(T), float(intercept))])
    penalty = np.append(np.full(T.shape[1], max(ridge, RIDGE_FLOOR)), RIDGE_FLOOR)
    w = np.zeros(T.shape[1] + 1)
    if start is not None:
        w[:-1] = start[:-1] * np.where(np.isfinite(scale), scale, 0.0)
        w[-1] = start[-1] + centre @ start[:-1]

    def objective(w: np.ndarray) -> float:
        return float(share @ np.logaddexp(0, -sign * (offset + X @ w)) + penalty @ w**2 / 2)

    loss, done, count = objective(w), False, 0
    while count < iterations and not done:
        count += 1
        p = _sigmoid(offset + X @ w)
        gradient = X.T @ (share * (p - (sign > 0))) + penalty * w
        hessian = (X.T * (share * p * (1 - p))) @ X
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
    note = "" if done else unfinished(count)
    column = np.append(weight, bias)[:, None]
    return Solution(weight[:, None], np.array([bias]), column, (X @ w)[:, None], loss, count, note)


class _Objective:
    """The objective on a design's axes. The bias is penalised by the floor alone."""

    def __init__(self, made, Z, labels, free, sample_weight, ridge) -> None:
        self.made = made
        self.share = _shares(sample_weight, len(labels))
        self.rows, self.constant = np.arange(len(labels)), 0.0
        self.all_free = np.array_equal(free, np.arange(Z.shape[1]))
        if not self.all_free:  # those that are fixed act as one
            own = Z[self.rows, labels].astype(np.float64)
            Z, labels = rest_offset(Z, labels, free)
            fixed = labels == len(free)
            self.constant = float(self.share[fixed] @ (Z[fixed, -1] - own[fixed]))
        self.place = labels
        # A float32 table rounds the scores already; its softmax in float32 costs half as much.
        self.offset = np.ascontiguousarray(Z, np.float64 if made.X.dtype == np.float64 else np.float32)
        self.column = self.share[:, None].astype(self.offset.dtype)
        moving = free if self.all_free else np.arange(len(free))
        self.right = (labels[:, None] == moving) * self.column
        self.penalty = np.full((made.X.shape[1] + 1, 1), ridge)
        self.penalty[-1] = RIDGE_FLOOR

    def scores(self, axes: np.ndarray) -> np.ndarray:
        """X U + b, (N, F), in X's own precision."""
        return _scores(self.made.X, axes)

    def value(self, scores: np.ndarray, axes: np.ndarray) -> tuple[float, np.ndarray]:
        """The objective, and the probabilities (N, F) of the free classes."""
        logits = self.offset.copy()
        moving = logits if self.all_free else logits[:, :-1]
        moving += scores
        logits -= logits.max(axis=1, keepdims=True)
        own = logits[self.rows, self.place]
        np.exp(logits, out=logits)
        total = logits.sum(axis=1)
        each = np.log(total) - own
        loss = self.share @ each.astype(np.float64) + (self.penalty * axes**2).sum() / 2
        logits /= total[:, None]
        return float(loss) + self.constant, moving

    def gradient(self, p: np.ndarray, axes: np.ndarray) -> np.ndarray:
        X = self.made.X
        residual = p * self.column - self.right
        sums = residual.sum(axis=0, dtype=np.float64)
        return np.vstack([X.T @ residual, sums]) + self.penalty * axes

    def curvature(self, p: np.ndarray) -> np.ndarray:
        """(A + 1, F): diagonal of the Hessian, as if a sample's curvature did not depend on its place."""
        h = np.maximum((p * (1 - p) * self.column).sum(axis=0, dtype=np.float64), 1e-5)
        return np.append(self.made.variance, 1.0)[:, None] * h + self.penalty


def _scores(X: np.ndarray, axes: np.ndarray) -> np.ndarray:
    return X @ axes[:-1].astype(X.dtype) + axes[-1].astype(X.dtype)


def descend(problem, U: np.ndarray, tolerance: float, iterations: int):
    """L-BFGS preconditioned by the curvature at the start. Scores are linear, so a trial costs no product.

    problem : has `scores`, `value`, `gradient` and `curvature`. Returns weights, scores, loss,
    iterations, and whether the optimum was reached.
    """
    S = problem.scores(U)
    loss, p = problem.value(S, U)
    inverse = 1 / problem.curvature(p)
    gradient = problem.gradient(p, U)
    pairs: list[tuple[np.ndarray, np.ndarray, float]] = []
    for count in range(iterations):
        if float((gradient**2 * inverse).sum()) / 2 < tolerance:
            return U, S, loss, count, True
        step = -_two_loop(gradient, pairs, inverse)
        slope = float((gradient * step).sum())
        moved, t = problem.scores(step), 1.0
        while True:
            tried, p = problem.value(S + t * moved, U + t * step)
            if tried <= loss + 1e-4 * t * slope:
                break
            if t < 1e-6:  # the products' precision is reached
                return U, S, loss, count, True
            t /= 2
        U, S, loss = U + t * step, S + t * moved, tried
        new = problem.gradient(p, U)
        change, bent = t * step, new - gradient
        product = float((change * bent).sum())
        if product > 1e-12 * float((bent**2 * inverse).sum()):
            pairs = [*pairs[-_MEMORY + 1 :], (change, bent, 1 / product)]
        gradient = new
    return U, S, loss, iterations, False


def _two_loop(gradient: np.ndarray, pairs: list, inverse: np.ndarray) -> np.ndarray:
    q, alphas = gradient.copy(), []
    for change, bent, rho in reversed(pairs):
        alphas.append(rho * float((change * q).sum()))
        q -= alphas[-1] * bent
    q *= inverse
    if pairs:  # the latest pair knows the curvature's size better than the start did
        _, bent, rho = pairs[-1]
        q /= rho * float((bent**2 * inverse).sum())
    for (change, bent, rho), alpha in zip(pairs, reversed(alphas), strict=True):
        q += (alpha - rho * float((bent * q).sum())) * change
    return q


def _shares(sample_weight: np.ndarray | None, samples: int) -> np.ndarray:
    """Weights that sum to 1."""
    weight = np.ones(samples) if sample_weight is None else np.asarray(sample_weight, np.float64)
    return weight / max(float(weight.sum()), 1e-300)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -700, 700)))


def unfinished(count: int) -> str:
    """What to say of a solver that did not get to the end."""
    return f"the solver stopped after {count} iterations before it had converged"
