"""Which weights fit best where several targets, each with neurons of its own, share one softmax?

All targets are solved at once by L-BFGS. Each one's weights are put on the principal axes of its own Hessian
at the start, which leaves little for the iterations to find out. Where targets share neurons, each neuron's
values are multiplied once for all of them. What is as long as the samples is NumPy's or CuPy's, by `xp`; what
is as long as the weights is small, and NumPy's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np

from onnxtweak.engine.machine.large_arrays import beside, blocks, column_sums, filled, let_go
from onnxtweak.engine.machine.products import product, transposed_product
from onnxtweak.engine.workers.learning_device import on_host
from onnxtweak.method.solvers.lbfgs import lbfgs
from onnxtweak.method.solvers.standard import scale_of_uncentred

# Converged when a quadratic model promises less than this, in nats per sample.
_TOLERANCE = 1e-11
_ITERATIONS = 1000
# The penalty of a bias; principal axes whose variance is less than this share of the largest are left out.
FLOOR = 1e-8
# Above this many numbers the neurons of all targets together are kept in single precision.
_LARGE = 30_000_000
# A product of all neurons with all targets takes this many times fewer seconds per multiplication than one of
# each target with its own neurons: it stays in the cache.
_SHARED_PAYS = 8
# Samples whose probability is nearly 0 or 1 still count with this share of the mean curvature.
_DECIDED = 0.1


@dataclass(frozen=True)
class TargetColumns:
    """All targets' neurons on columns of unit deviation.

    shared : whether `parts` is one X (N, K) with each neuron once; else it is one X (N, K_t) per target.
    place : per target, its columns of X. turn : per target (K_t, A_t), orthogonal, its principal axes.
    inverse, mean : per target (K_t,) float64, 1 / scale and mean of its columns. xp : the library of `parts`.
    """

    parts: tuple[Any, ...]
    place: tuple[np.ndarray, ...]
    shared: bool
    turn: tuple[np.ndarray, ...]
    inverse: tuple[np.ndarray, ...]
    mean: tuple[np.ndarray, ...]
    xp: ModuleType = np

    def of(self, t: int) -> Iterator[tuple[slice, Any]]:
        """X (N, K_t) of one target, by blocks of rows; on a GPU all at once."""
        X = self.parts[0 if self.shared else t]
        each = blocks(X) if self.xp is np else iter([(slice(0, len(X)), X)])
        own = self.xp.asarray(self.place[t])
        return ((part, block[:, own]) for part, block in each) if self.shared else each

    def product(self, t: int, W: np.ndarray) -> Any:
        """X W of one part, for W (K_t,) or (K_t, c)."""
        X, W = self.parts[t], W.astype(self.parts[t].dtype)
        return product(X, W) if self.xp is np else X @ self.xp.asarray(W)

    def transposed_product(self, t: int, R: Any) -> np.ndarray:
        """X^T R of one part, for R (N,) or (N, c)."""
        X = self.parts[t]
        return transposed_product(X, R) if self.xp is np else on_host(X.T @ R.astype(X.dtype))


@dataclass(frozen=True)
class TargetWeights:
    """A solution. weight : (K_t,) float64 per target, bias (c,) float64, in the neurons' own units.

    ridge : as asked for. note : for the user; empty where the solver converged.
    """

    weight: tuple[np.ndarray, ...]
    bias: np.ndarray
    ridge: float
    note: str = ""

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All of it as arrays."""
        each = {f"weight {t}": weight for t, weight in enumerate(self.weight)}
        return {**each, "bias": self.bias, "ridge": np.array(self.ridge), "note": np.array(self.note)}

    @classmethod
    def of_arrays(cls, found: Mapping[str, np.ndarray]) -> TargetWeights:
        """What `arrays` gave."""
        weight = tuple(found[f"weight {t}"] for t in range(len(found["bias"])))
        return cls(weight, found["bias"], float(found["ridge"]), str(found["note"]))

    def scaled(self, scale: float) -> TargetWeights:
        """The weights and biases times a number."""
        return replace(self, weight=tuple(w * scale for w in self.weight), bias=self.bias * scale)


def target_columns(
    tables: Sequence[np.ndarray],
    columns: Sequence[np.ndarray] | None,
    centred: bool,
    xp: ModuleType = np,
) -> TargetColumns:
    """The targets' neurons, standardised once for all penalties.

    tables : T (N, K_t) per target. columns : per target (K_t,) int64, which neurons they are; None: unknown,
    and none counts as shared. centred : whether a bias takes up the columns' means. xp : NumPy or CuPy.
    """
    shared, place = False, tuple(np.arange(T.shape[1]) for T in tables)
    if columns is not None:
        every, first = np.unique(np.concatenate(columns), return_index=True)
        shared = len(every) * len(columns) <= _SHARED_PAYS * sum(map(len, columns))
        if shared:
            place = tuple(np.searchsorted(every, c) for c in columns)
            tables = [_gathered(tables, first)]
    kind = np.float64 if sum(T.size for T in tables) <= _LARGE else np.float32
    parts, inverse, mean = zip(*(_standard(T, centred, kind, xp) for T in tables), strict=True)
    if shared:
        inverse, mean = (tuple(each[0][c] for c in place) for each in (inverse, mean))
        gram = _gram(parts[0])
        turn = tuple(_principal(gram[np.ix_(c, c)]) for c in place)
    else:
        turn = tuple(_principal(_gram(X)) for X in parts)
    return TargetColumns(parts, place, shared, turn, inverse, mean, xp)


def _gathered(tables: Sequence[np.ndarray], first: np.ndarray) -> np.ndarray:
    """Columns (N, K) of the tables side by side, `first` (K,) being their positions there."""
    ends = np.cumsum([0, *(T.shape[1] for T in tables)])
    table = np.searchsorted(ends, first, side="right") - 1
    found = beside(tables[0], (len(tables[0]), len(first)), tables[0].dtype)
    for t in np.unique(table):
        own = table == t
        for part, block in blocks(tables[t]):
            found[part, own] = block[:, first[own] - ends[t]]
            let_go(found[part])
    return found


def _standard(T: np.ndarray, centred: bool, kind: type, xp: ModuleType) -> tuple[Any, np.ndarray, np.ndarray]:
    mean = column_sums(T) / max(len(T), 1) * centred
    inverse = 1.0 / scale_of_uncentred(T)
    standard = ((part, (block - mean) * inverse) for part, block in blocks(T))
    if xp is np:
        return filled(T, standard, len(mean), kind), inverse, mean
    X = xp.empty((len(T), len(mean)), kind)
    for part, block in standard:
        X[part] = xp.asarray(block.astype(kind))
    return X, inverse, mean


def _gram(X: Any) -> np.ndarray:
    if not isinstance(X, np.ndarray):
        return on_host((X.T @ X).astype(np.float64)) / max(len(X), 1)
    gram = np.zeros((X.shape[1], X.shape[1]))
    for _, block in blocks(X):
        gram += block.T @ block
    return gram / max(len(X), 1)


def _principal(gram: np.ndarray) -> np.ndarray:
    """Principal axes (K, A), those that are noise left out. gram (K, K)."""
    variance, turn = np.linalg.eigh(gram)
    return turn[:, variance > FLOOR * max(float(variance.max(initial=0.0)), 1e-300)]


def solve(
    neurons: TargetColumns,
    offsets: np.ndarray,
    place: np.ndarray,
    weights: np.ndarray,
    ridge: float,
    *,
    intercept: bool,
    start: TargetWeights | None = None,
) -> TargetWeights:
    """Weights of all targets, and biases where `intercept` asks for them.

    offsets (N, c + 1), place (N,), weights (N,) : as in `RetrainProblem`. start : where to
    begin; None: at zero.
    """
    if start is None:
        zeros = tuple(np.zeros(len(c)) for c in neurons.place)
        start = TargetWeights(zeros, np.zeros(len(neurons.place)), ridge)
    joint = _JointObjective(neurons, offsets, place, weights, max(ridge, FLOOR), intercept)
    joint.turn_to(start.weight, start.bias)
    end = lbfgs(joint, joint.begin, _TOLERANCE, _ITERATIONS)
    return TargetWeights(*joint.in_units(end.U), ridge, end.note)


class _JointObjective:
    """All targets at once, for `lbfgs`: weights on the axes of each in turn, then the biases.

    turn : per target (K_t, A_t), orthogonal. centre : per target (A_t,), means on the axes, weighted by
    curvature, that the bias takes up. begin : where to start.
    """

    def __init__(
        self,
        neurons: TargetColumns,
        offsets: np.ndarray,
        place: np.ndarray,
        weights: np.ndarray,
        ridge: float,
        intercept: bool,
    ) -> None:
        self.neurons, self.intercept, xp = neurons, intercept, neurons.xp
        self.offsets, self.labels = xp.asarray(offsets), xp.asarray(place)
        self.share = xp.asarray(weights / weights.sum())
        self.rows = xp.arange(len(place))
        count = len(neurons.place)
        self.right = (self.labels[:, None] == xp.arange(count)) * self.share[:, None]
        self.ends = np.cumsum([0, *(turn.shape[1] for turn in neurons.turn)])
        self.penalty = np.append(np.full(self.ends[-1], ridge), np.full(count, FLOOR))
        self.free = np.append(np.ones(self.ends[-1]), np.full(count, float(intercept)))

    def turn_to(self, start: Sequence[np.ndarray], bias: np.ndarray) -> None:
        """Take the principal axes of the Hessian at some weights and biases, and begin there."""
        on = self.neurons
        self.turn, self.centre = list(on.turn), [np.zeros(turn.shape[1]) for turn in on.turn]
        inner = [
            turn.T @ np.divide(w, i, out=np.zeros(len(w)), where=i > 0)
            for turn, w, i in zip(on.turn, start, on.inverse, strict=True)
        ]
        shift = bias + np.array([m @ w for m, w in zip(on.mean, start, strict=True)])
        scores = self.scores(np.concatenate([*inner, shift * self.intercept]))
        p = self._probabilities(scores)[1]
        h = p * (1 - p) * self.share[:, None]
        h += _DECIDED * on.xp.maximum(h.mean(axis=0), 1e-5 / len(h))
        self.total = on_host(h.sum(axis=0))
        turns: list[np.ndarray] = []
        self.centre, self.along = [], []
        for t, turn in enumerate(on.turn):
            each, size = h[:, t].astype(on.parts[0].dtype), len(turn)
            middle, bent = np.zeros(size), np.zeros((size, size))
            for part, X in on.of(t):
                middle += on_host(each[part] @ X)
                bent += on_host((X.T * each[part]) @ X)
            middle = middle / self.total[t] * self.intercept
            bent -= np.outer(middle, middle) * self.total[t]
            along, again = np.linalg.eigh(turn.T @ bent @ turn)
            turns.append(turn @ again)
            self.centre.append(turns[t].T @ middle)
            self.along.append(np.maximum(along, 0))
            inner[t] = again.T @ inner[t]
        self.turn = turns
        moved = [c @ u for c, u in zip(self.centre, inner, strict=True)]
        self.begin = np.concatenate([*inner, (shift + moved) * self.intercept])

    def _split(self, U: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """Weights on the axes of each target, and the biases of uncentred columns."""
        *parts, bias = np.split(U, self.ends[1:])
        return parts, bias - np.array([c @ u for c, u in zip(self.centre, parts, strict=True)])

    def scores(self, U: np.ndarray) -> Any:
        parts, bias = self._split(U)
        on, inner = self.neurons, [turn @ u for turn, u in zip(self.turn, parts, strict=True)]
        if on.shared:
            W = np.zeros((on.parts[0].shape[1], len(inner)), on.parts[0].dtype)
            for t, w in enumerate(inner):
                W[on.place[t], t] = w
            return on.product(0, W) + on.xp.asarray(bias)
        each = [on.product(t, w) for t, w in enumerate(inner)]
        return on.xp.column_stack(each) + on.xp.asarray(bias)

    def _probabilities(self, scores: Any) -> tuple[Any, Any]:
        """Cross-entropy of each sample (N,), and probabilities of the targets (N, c)."""
        xp = self.neurons.xp
        logits = self.offsets.copy()
        logits[:, :-1] += scores
        logits -= logits.max(axis=1, keepdims=True)
        own = logits[self.rows, self.labels]
        xp.exp(logits, out=logits)
        total = logits.sum(axis=1)
        return xp.log(total) - own, logits[:, :-1] / total[:, None]

    def value(self, scores: Any, U: np.ndarray) -> tuple[float, Any]:
        each, p = self._probabilities(scores)
        return float(self.share @ each + float(self.penalty @ U**2) / 2), p

    def gradient(self, p: Any, U: np.ndarray) -> np.ndarray:
        residual = p * self.share[:, None] - self.right
        on, sums = self.neurons, on_host(residual.sum(axis=0))
        if on.shared:
            every = on.transposed_product(0, residual)
            inner = [every[c, t] for t, c in enumerate(on.place)]
        else:
            inner = [on.transposed_product(t, residual[:, t]) for t in range(len(on.parts))]
        parts = [
            turn.T @ g - c * s for turn, g, c, s in zip(self.turn, inner, self.centre, sums, strict=True)
        ]
        return (np.concatenate([*parts, sums]) + self.penalty * U) * self.free

    def curvature(self, p: Any) -> np.ndarray:
        """Diagonal of the Hessian at `begin`, on the axes that `turn_to` chose for it."""
        return np.concatenate([*self.along, self.total]) + self.penalty

    def in_units(self, U: np.ndarray) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
        """Weights and biases in the neurons' own units."""
        parts, bias = self._split(U)
        on = self.neurons
        weight = [i * (turn @ u) for i, turn, u in zip(on.inverse, self.turn, parts, strict=True)]
        return tuple(weight), bias - np.array([m @ w for m, w in zip(on.mean, weight, strict=True)])
