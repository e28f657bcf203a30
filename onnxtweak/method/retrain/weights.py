"""Which weights of the chosen synapses fit best? Synaptic retraining (METHOD 5, thesis 3.2.4).

The base is frozen: only table T, the chosen neurons' values, and Z are needed. The weighted cross-entropy is
convex in the weights, so it does not matter that the thesis starts from the join: any start ends at the same
optimum. One target is solved by Newton's method. Several share a softmax with one rest class, and are solved
together (`solvers.multi_target`). Of several labels at once each is a problem of its own, against the cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import ModuleType

import numpy as np

from onnxtweak.engine.machine.large_arrays import by_rows
from onnxtweak.engine.machine.products import product
from onnxtweak.engine.workers.learning_device import LearningDevice
from onnxtweak.goal import ResolvedGoal
from onnxtweak.method.softmax import log_sum_exp
from onnxtweak.method.solvers.multi_target import TargetWeights, solve, target_columns
from onnxtweak.method.solvers.multinomial import one_target
from onnxtweak.method.solvers.softmax_loss import rest_offset
from onnxtweak.method.table import Table
from onnxtweak.method.temperature import fit_temperature


@dataclass(frozen=True)
class RetrainProblem:
    """Retraining on one split: what of Z matters when only c target logits can move.

    tables : T (N, K_t) per target. offsets (N, c + 1) float64 and place (N,) int64 : logits of the targets
    and of all the rest together, and which of them is right. weights (N,) : of the samples, mean 1. columns :
    (K_t,) int64 per target, which neurons its table holds; None: unknown, and none counts as shared.
    temperature : of the base, by which the offsets are divided already; weights and boosts are not.
    """

    tables: tuple[np.ndarray, ...]
    offsets: np.ndarray
    place: np.ndarray
    weights: np.ndarray
    columns: tuple[np.ndarray, ...] | None = None
    temperature: float = 1.0

    @classmethod
    def of(
        cls,
        tables: Sequence[np.ndarray],
        Z: np.ndarray,
        labels: np.ndarray,
        targets: np.ndarray,
        penalty: float,
        columns: Sequence[np.ndarray] | None = None,
        temperature: float = 1.0,
    ) -> RetrainProblem:
        """The problem of one split: Z (N, C), cooled by a temperature; labels (N,); targets (c,) ascending.

        penalty : weight of the loss on samples of the targets, against 1 on the others: 1 is SR-1, 2 is SR-2.
        """
        offsets, place = rest_offset(by_rows(lambda Z: Z / Z.dtype.type(temperature), Z), labels, targets)
        weights = np.where(place < len(targets), float(penalty), 1.0)
        known = None if columns is None else tuple(columns)
        return cls(tuple(tables), offsets, place, weights / weights.mean(), known, temperature)


@dataclass(frozen=True)
class LabelsProblem:
    """Retraining several labels at once on one split: `each` target label's own problem, of the same samples.

    Samples whose mark is not known count nothing.
    """

    each: tuple[RetrainProblem, ...]

    @property
    def tables(self) -> tuple[np.ndarray, ...]:
        """T (N, K_t) per target."""
        return tuple(one.tables[0] for one in self.each)


def problem_of(
    tables: Sequence[np.ndarray],
    Z: np.ndarray,
    labels: np.ndarray,
    goal: ResolvedGoal,
    penalty: float,
    temperature: np.ndarray,
    columns: Sequence[np.ndarray] | None = None,
) -> RetrainProblem | LabelsProblem:
    """The problem of one split as the goal's head asks for it. temperature : `temperatures` of validation.

    The rest as of `RetrainProblem.of`; of several labels, labels are marks (N, C).
    """
    if not goal.head.several:
        return RetrainProblem.of(tables, Z, labels, goal.targets, penalty, columns, float(temperature[0]))
    found = []
    for t, j in enumerate(goal.targets):
        against_cut = np.column_stack([np.zeros(len(Z), Z.dtype), Z[:, j]])
        own = RetrainProblem.of(
            tables[t : t + 1],
            against_cut,
            (labels[:, j] == 1).astype(np.int64),
            np.ones(1, np.int64),
            penalty,
            temperature=float(temperature[t]),
        )
        weights = own.weights * (labels[:, j] >= 0)
        found.append(replace(own, weights=weights / max(float(weights.mean()), 1e-12)))
    return LabelsProblem(tuple(found))


def temperatures(Z: np.ndarray, labels: np.ndarray, goal: ResolvedGoal) -> np.ndarray:
    """The base's temperature on some samples, (1,); of several labels that of each target, (c,)."""
    if not goal.head.several:
        return np.array([fit_temperature(Z, labels)])
    bare = Table(np.empty((len(Z), 0), np.float32), Z, labels)
    each = (bare.of_label(j) for j in goal.targets.tolist())
    return np.array([fit_temperature(one.Z, one.labels) for one in each])


def boosts(
    tables: Sequence[np.ndarray], weight: Sequence[np.ndarray], bias: np.ndarray | float = 0.0
) -> np.ndarray:
    """What is added to the target logits: (N, c) float64. weight : (K_t,) per target; bias (c,)."""
    return np.column_stack([product(T, w) for T, w in zip(tables, weight, strict=True)]) + bias


def loss(problem: RetrainProblem | LabelsProblem, boost: np.ndarray) -> float:
    """Mean weighted cross-entropy in nats with `boost` (N, c), less the constant that no weight changes."""
    if isinstance(problem, LabelsProblem):
        return sum(loss(one, boost[:, t : t + 1]) for t, one in enumerate(problem.each))
    logits = problem.offsets.copy()
    logits[:, :-1] += boost / problem.temperature
    own = logits[np.arange(len(logits)), problem.place]
    return float(np.mean(problem.weights * (log_sum_exp(logits) - own)))


def retrain(
    problem: RetrainProblem,
    ridge: float,
    start: Sequence[np.ndarray] | None = None,
    *,
    intercept: bool = False,
) -> TargetWeights:
    """The weights with the least `loss` plus `ridge / 2` times their squares, on columns of unit deviation.

    start : weights to begin with; only the time depends on them. intercept : whether each target also gets a
    bias, which the thesis's synapses do not have.
    """
    return next(retrain_path(problem, [ridge], start, intercept=intercept))


def retrain_path(
    problem: RetrainProblem | LabelsProblem,
    ridges: Sequence[float],
    start: Sequence[np.ndarray] | None = None,
    *,
    intercept: bool = False,
    device: LearningDevice | None = None,
) -> Iterator[TargetWeights]:
    """`retrain` at one ridge after the other, each solution starting the next.

    device : where several targets that share a softmax are solved; None, and everything else: on the CPU.
    """
    if isinstance(problem, LabelsProblem):
        starts = [None] * len(problem.each) if start is None else [[one] for one in start]
        paths = (
            retrain_path(one, ridges, own, intercept=intercept)
            for one, own in zip(problem.each, starts, strict=True)
        )
        yield from map(_together, zip(*paths, strict=True))
        return
    zeros, warm = np.zeros(len(problem.tables)), problem.temperature
    found = None if start is None else TargetWeights(tuple(start), zeros, np.inf).scaled(1 / warm)
    if len(problem.tables) == 1:
        for ridge in ridges:
            found = _one_target(problem, ridge, found, intercept)
            yield found.scaled(warm)
        return
    neurons = target_columns(problem.tables, problem.columns, intercept, _library(problem, device))
    split = problem.offsets, problem.place, problem.weights
    for ridge in ridges:
        found = solve(neurons, *split, ridge, intercept=intercept, start=found)
        yield found.scaled(warm)


def _library(problem: RetrainProblem, device: LearningDevice | None) -> ModuleType:
    """Where a problem is best solved. Its table is read twice a step, with its scores in float64."""
    if device is None:
        return np
    table = sum(T.size for T in problem.tables)
    return device.library(table, 2 * table + 24 * problem.offsets.size)


def _together(each: Sequence[TargetWeights]) -> TargetWeights:
    """The weights of several targets, solved one by one."""
    weight, bias = tuple(one.weight[0] for one in each), np.concatenate([one.bias for one in each])
    return TargetWeights(weight, bias, each[0].ridge, next((one.note for one in each if one.note), ""))


def _one_target(
    problem: RetrainProblem, ridge: float, start: TargetWeights | None, intercept: bool
) -> TargetWeights:
    T = problem.tables[0]
    weight = np.zeros(T.shape[1]) if start is None else start.weight[0]
    solved = one_target(
        T,
        problem.offsets,
        problem.place,
        0,
        ridge=ridge,
        sample_weight=problem.weights,
        intercept=intercept,
        start=np.append(weight, 0.0),
    )
    return TargetWeights((solved.weight[:, 0],), solved.bias, ridge, solved.note)


def retrain_best(
    fit: RetrainProblem | LabelsProblem,
    validation: RetrainProblem | LabelsProblem,
    ridges: Sequence[float],
    start: Sequence[np.ndarray] | None = None,
    *,
    intercept: bool = False,
    device: LearningDevice | None = None,
) -> TargetWeights:
    """The weights of the ridge that has the least loss on validation.

    Strong penalties come first, each solution starting the next. device : as of `retrain_path`.
    """
    path = retrain_path(fit, sorted(set(ridges), reverse=True), start, intercept=intercept, device=device)
    tried = [(loss(validation, boosts(validation.tables, found.weight, found.bias)), found) for found in path]
    return min(tried, key=lambda pair: pair[0])[1]
