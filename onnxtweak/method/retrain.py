"""Synaptic retraining (METHOD 5, thesis 3.2.4): which weights of the chosen synapses fit best?

The base is frozen: only table T, the chosen neurons' values, and Z are needed. The weighted cross-entropy is
convex in the weights, so it does not matter that the thesis starts from the join: Newton's method ends at the
same optimum from anywhere. Several targets share a softmax with one rest class; solving for one target while
the others hold still is again the problem of one target, so targets take turns until nothing moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxtweak.method.solve import one_target, rest_offset

# Turns of all targets. They hardly interact: a handful of turns is usual.
_TURNS = 50
# Converged when a turn lowers the loss by less than this, in nats a sample.
_TOLERANCE = 1e-9


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
    bias = np.zeros(len(of.tables))
    weight = [np.zeros(T.shape[1]) for T in of.tables] if start is None else [w.copy() for w in start]
    deviation = [T.std(axis=0, dtype=np.float64) for T in of.tables]
    boost = boosts(of.tables, weight)
    before, note = np.inf, ""
    for _ in range(_TURNS):
        for t, T in enumerate(of.tables):
            others = of.offsets.copy()
            others[:, :-1] += boost
            others[:, t] -= boost[:, t]
            solved = one_target(
                T,
                others,
                of.place,
                t,
                ridge=ridge,
                sample_weight=of.weights,
                intercept=intercept,
                start=np.append(weight[t], bias[t]),
            )
            weight[t], bias[t] = solved.weight[:, 0], solved.bias[0]
            boost[:, t] = T @ weight[t] + bias[t]
            note = solved.note
        if len(of.tables) == 1:
            return Retrained(tuple(weight), bias, note)
        penalty = sum(float(d**2 @ w**2) for d, w in zip(deviation, weight, strict=True))
        now = loss(of, boost) + ridge / 2 * penalty
        if before - now < _TOLERANCE:
            return Retrained(tuple(weight), bias, note)
        before = now
    return Retrained(tuple(weight), bias, f"the targets' weights still moved after {_TURNS} turns")


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
