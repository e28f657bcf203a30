"""Synaptic retraining (METHOD 5, thesis 3.2.4): which weights of the chosen synapses fit best?

The base is frozen: only table T, the chosen neurons' values, and Z are needed. The weighted cross-entropy is
convex in the weights, so it does not matter that the thesis starts from the join: any start ends at the same
optimum. One target is solved by Newton's method. Several share a softmax with one rest class, and are solved
together (`solvers.multi_target`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from onnxtweak.method.solvers.multi_target import TargetColumns, solve, standardised
from onnxtweak.method.solvers.multinomial import one_target, rest_offset, unfinished


@dataclass(frozen=True)
class RetrainProblem:
    """Retraining on one split: what of Z matters when only c target logits can move.

    tables : T (N, K_t) per target. offsets (N, c + 1) float64 and place (N,) int64 : logits of the targets
    and of all the rest together, and which of them is right. weights (N,) : of the samples, mean 1. columns :
    (K_t,) int64 per target, which neurons its table holds; None: not known, and none counts as shared.
    """

    tables: tuple[np.ndarray, ...]
    offsets: np.ndarray
    place: np.ndarray
    weights: np.ndarray
    columns: tuple[np.ndarray, ...] | None = None


def problem(
    tables: Sequence[np.ndarray],
    Z: np.ndarray,
    labels: np.ndarray,
    targets: np.ndarray,
    penalty: float,
    columns: Sequence[np.ndarray] | None = None,
) -> RetrainProblem:
    """tables : T (N, K_t) per target; Z (N, C); labels (N,); targets (c,) ascending. columns : as there.

    penalty : weight of the loss on samples of the targets, against 1 on the others: 1 is SR-1, 2 is SR-2.
    """
    offsets, place = rest_offset(Z, labels, targets)
    weights = np.where(place < len(targets), float(penalty), 1.0)
    known = None if columns is None else tuple(columns)
    return RetrainProblem(tuple(tables), offsets, place, weights / weights.mean(), known)


def boosts(
    tables: Sequence[np.ndarray], weight: Sequence[np.ndarray], bias: np.ndarray | float = 0.0
) -> np.ndarray:
    """What is added to the target logits: (N, c) float64. weight : (K_t,) per target; bias (c,)."""
    return np.column_stack([T @ w for T, w in zip(tables, weight, strict=True)]) + bias


def loss(of: RetrainProblem, boost: np.ndarray) -> float:
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
    of: RetrainProblem, ridge: float, start: Sequence[np.ndarray] | None = None, *, intercept: bool = False
) -> Retrained:
    """The weights with the least `loss` plus `ridge / 2` times their squares, on columns of unit deviation.

    start : weights to begin with; only the time depends on them. intercept : whether each target also gets a
    bias, which the thesis's synapses do not have.
    """
    if len(of.tables) > 1:
        return _together(of, _ready(of, intercept), ridge, start, intercept)
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


def retrain_path(
    of: RetrainProblem,
    ridges: Sequence[float],
    start: Sequence[np.ndarray] | None = None,
    *,
    intercept: bool = False,
) -> Iterator[Retrained]:
    """`retrain` at one ridge after the other, each solution starting the next."""
    ready, bias = _ready(of, intercept) if len(of.tables) > 1 else None, None
    for ridge in ridges:
        if ready is None:
            found = retrain(of, ridge, start, intercept=intercept)
        else:
            found = _together(of, ready, ridge, start, intercept, bias)
        start, bias = found.weight, found.bias
        yield found


def _ready(of: RetrainProblem, intercept: bool) -> TargetColumns:
    return standardised(of.tables, of.columns, intercept)


def _together(
    of: RetrainProblem,
    neurons: TargetColumns,
    ridge: float,
    start: Sequence[np.ndarray] | None,
    intercept: bool,
    bias: np.ndarray | None = None,
) -> Retrained:
    weight, bias, count, done = solve(
        neurons, of.offsets, of.place, of.weights, ridge, intercept=intercept, start=(start, bias)
    )
    return Retrained(tuple(weight), bias, "" if done else unfinished(count))


def retrain_best(
    fit: RetrainProblem,
    validation: RetrainProblem,
    ridges: Sequence[float],
    start: Sequence[np.ndarray] | None = None,
    *,
    intercept: bool = False,
) -> tuple[Retrained, float]:
    """The ridge whose weights have the least loss on validation: (weights, ridge).

    Strong penalties come first, each solution starting the next.
    """
    best: tuple[float, Retrained, float] | None = None
    falling = sorted(set(ridges), reverse=True)
    path = retrain_path(fit, falling, start, intercept=intercept)
    for ridge, found in zip(falling, path, strict=True):
        judged = loss(validation, boosts(validation.tables, found.weight, found.bias))
        if best is None or judged < best[0]:
            best = judged, found, ridge
    return best[1], best[2]
