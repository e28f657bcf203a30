"""Synaptic retraining (METHOD 5, thesis 3.2.4): which weights of the chosen synapses fit best?

The base is frozen: only table T, the chosen neurons' values, and Z are needed. The weighted cross-entropy is
convex in the weights, so it does not matter that the thesis starts from the join: any start ends at the same
optimum. One target is solved by Newton's method. Several share a softmax with one rest class, and are solved
together, each on the principal axes of its own neurons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxtweak.method.solve import descend, one_target, rest_offset, unfinished

# Converged when a quadratic model promises less than this, in nats a sample.
_TOLERANCE = 1e-11
_ITERATIONS = 1000
# A bias is penalised by this alone; principal axes with less than this share of the largest are left out.
_FLOOR = 1e-8
# Above this many numbers the neurons of all targets together are kept in single precision.
_LARGE = 30_000_000


@dataclass(frozen=True)
class Problem:
    """Retraining on one split: what of Z matters when only c target logits can move.

    tables : T (N, K_t) per target. offsets (N, c + 1) float64 and place (N,) int64 : logits of the targets
    and of all the rest together, and which of them is right. weights (N,) : of the samples, mean 1.
    """

    tables: tuple[np.ndarray, ...]
    offsets: np.ndarray
    place: np.ndarray
    weights: np.ndarray


def problem(
    tables: Sequence[np.ndarray], Z: np.ndarray, labels: np.ndarray, targets: np.ndarray, penalty: float
) -> Problem:
    """tables : T (N, K_t) per target; Z (N, C); labels (N,); targets (c,) ascending.

    penalty : weight of the loss on samples of the targets, against 1 on the others: 1 is SR-1, 2 is SR-2.
    """
    offsets, place = rest_offset(Z, labels, targets)
    weights = np.where(place < len(targets), float(penalty), 1.0)
    return Problem(tuple(tables), offsets, place, weights / weights.mean())


def boosts(
    tables: Sequence[np.ndarray], weight: Sequence[np.ndarray], bias: np.ndarray | float = 0.0
) -> np.ndarray:
    """What is added to the target logits: (N, c) float64. weight : (K_t,) per target; bias (c,)."""
    return np.column_stack([T @ w for T, w in zip(tables, weight, strict=True)]) + bias


def loss(of: Problem, boost: np.ndarray) -> float:
    """Mean weighted cross-entropy in nats with `boost` (N, c), less the constant that no weight changes."""
    logits = of.offsets.copy()
    logits[:, :-1] += boost
    top = logits.max(axis=1)
    own = logits[np.arange(len(logits)), of.place]
    return float(np.mean(of.weights * (top + np.log(np.exp(logits - top[:, None]).sum(axis=1)) - own)))


@dataclass(frozen=True)
class Retrained:
    """weight : (K_t,) float64 per target. bias (c,). note : empty, or why the optimum was not reached."""

    weight: tuple[np.ndarray, ...]
    bias: np.ndarray
    note: str = ""


def retrain(
    of: Problem, ridge: float, start: Sequence[np.ndarray] | None = None, *, intercept: bool = False
) -> Retrained:
    """The weights with the least `loss` plus `ridge / 2` times their squares, on columns of unit deviation.

    start : weights to begin with; only the time depends on them. intercept : whether each target also gets a
    bias, which the thesis's synapses do not have.
    """
    if len(of.tables) > 1:
        return _together(of, ridge, start, intercept)
    weight = np.zeros(of.tables[0].shape[1]) if start is None else start[0]
    solved = one_target(
        of.tables[0],
        of.offsets,
        of.place,
        0,
        ridge=ridge,
        sample_weight=of.weights,
        intercept=intercept,
        start=np.append(weight, 0.0),
    )
    return Retrained((solved.weight[:, 0],), solved.bias, solved.note)


def _together(of: Problem, ridge: float, start: Sequence[np.ndarray] | None, intercept: bool) -> Retrained:
    size = len(of.place) * sum(T.shape[1] for T in of.tables)
    kind = np.float64 if size <= _LARGE else np.float32
    joint = _Joint(of, [_axes(T, intercept, kind) for T in of.tables], max(ridge, _FLOOR), intercept)
    begin = np.zeros(joint.ends[-1] + len(of.tables)) if start is None else joint.place(start)
    found, _, _, count, done = descend(joint, begin, _TOLERANCE, _ITERATIONS)
    weight, bias = joint.weights(found)
    return Retrained(tuple(weight), bias, "" if done else unfinished(count))


@dataclass(frozen=True)
class _Axes:
    """One target's neurons on their principal axes: X (N, A), what a unit weight there is on T, and means."""

    X: np.ndarray
    variance: np.ndarray
    back: np.ndarray
    mean: np.ndarray


def _axes(T: np.ndarray, centred: bool, kind: type) -> _Axes:
    mean = T.mean(axis=0, dtype=np.float64) * centred
    deviation = T.std(axis=0, dtype=np.float64)
    varies = deviation > 1e-6 * np.abs(T).max(axis=0, initial=1e-12)
    inverse = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=varies)
    X = (T - mean) * inverse
    variance, turn = np.linalg.eigh(X.T @ X / max(len(X), 1))
    keep = variance > _FLOOR * max(float(variance.max(initial=0.0)), 1e-300)
    back = inverse[:, None] * turn[:, keep]
    return _Axes((X @ turn[:, keep]).astype(kind), variance[keep], back, mean)


class _Joint:
    """All targets at once, for `descend`: weights on the axes of each in turn, then the biases."""

    def __init__(self, of: Problem, axes: Sequence[_Axes], ridge: float, intercept: bool):
        self.of, self.axes = of, axes
        self.ends = np.cumsum([0, *(a.X.shape[1] for a in axes)])
        self.share = of.weights / of.weights.sum()
        self.rows = np.arange(len(of.place))
        self.right = (of.place[:, None] == np.arange(len(axes))) * self.share[:, None]
        self.penalty = np.append(np.full(self.ends[-1], ridge), np.full(len(axes), _FLOOR))
        self.free = np.append(np.ones(self.ends[-1]), np.full(len(axes), float(intercept)))

    def _split(self, U: np.ndarray) -> list[np.ndarray]:
        return np.split(U, self.ends[1:])

    def scores(self, U: np.ndarray) -> np.ndarray:
        *parts, bias = self._split(U)
        return (
            np.column_stack([a.X @ u.astype(a.X.dtype) for a, u in zip(self.axes, parts, strict=True)]) + bias
        )

    def value(self, scores: np.ndarray, U: np.ndarray) -> tuple[float, np.ndarray]:
        logits = self.of.offsets.copy()
        logits[:, :-1] += scores
        logits -= logits.max(axis=1, keepdims=True)
        own = logits[self.rows, self.of.place]
        np.exp(logits, out=logits)
        total = logits.sum(axis=1)
        loss = self.share @ (np.log(total) - own) + float(self.penalty @ U**2) / 2
        return float(loss), logits[:, :-1] / total[:, None]

    def gradient(self, p: np.ndarray, U: np.ndarray) -> np.ndarray:
        residual = p * self.share[:, None] - self.right
        parts = [a.X.T @ residual[:, t].astype(a.X.dtype) for t, a in enumerate(self.axes)]
        return (np.concatenate([*parts, residual.sum(axis=0)]) + self.penalty * U) * self.free

    def curvature(self, p: np.ndarray) -> np.ndarray:
        h = np.maximum((p * (1 - p) * self.share[:, None]).sum(axis=0), 1e-5)
        parts = [a.variance * h[t] for t, a in enumerate(self.axes)]
        return np.concatenate([*parts, h]) + self.penalty

    def place(self, weight: Sequence[np.ndarray]) -> np.ndarray:
        """Weights in the neurons' own units, on the axes."""
        parts = [np.linalg.lstsq(a.back, w, rcond=None)[0] for a, w in zip(self.axes, weight, strict=True)]
        return np.concatenate([*parts, np.zeros(len(parts))])

    def weights(self, U: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """Weights and biases in the neurons' own units."""
        *parts, bias = self._split(U)
        weight = [a.back @ u for a, u in zip(self.axes, parts, strict=True)]
        shift = [a.mean @ w for a, w in zip(self.axes, weight, strict=True)]
        return weight, bias - np.array(shift)


def retrain_best(
    fit: Problem,
    validation: Problem,
    ridges: Sequence[float],
    start: Sequence[np.ndarray] | None = None,
    *,
    intercept: bool = False,
) -> tuple[Retrained, float]:
    """The ridge whose weights have the least loss on validation: (weights, ridge).

    Strong penalties come first, each solution starting the next.
    """
    best: tuple[float, Retrained, float] | None = None
    for ridge in sorted(set(ridges), reverse=True):
        found = retrain(fit, ridge, start, intercept=intercept)
        start = found.weight
        judged = loss(validation, boosts(validation.tables, found.weight, found.bias))
        if best is None or judged < best[0]:
            best = judged, found, ridge
    return best[1], best[2]
