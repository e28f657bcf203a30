"""What do methods reach that give each target synapses of its own? Join, retraining, pursuit (METHOD 8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnxtweak.engine.machine.large_arrays import by_rows, of_columns
from onnxtweak.method.compare.comparison import CURVE, MethodResult
from onnxtweak.method.compare.inputs import CompareInputs
from onnxtweak.method.join import prefix_sums
from onnxtweak.method.retrain.schedule import NeuronPool, parse_schedule, run_schedule
from onnxtweak.method.retrain.weights import boosts, loss, problem_of, retrain_best
from onnxtweak.method.solvers.matching_pursuit import pursued
from onnxtweak.method.table import Table
from onnxtweak.method.tuning.bias_path import BiasPaths
from onnxtweak.method.tuning.boosted import boost_table
from onnxtweak.method.tuning.by_head import choose_point
from onnxtweak.method.tuning.label_point import best_thresholds
from onnxtweak.method.tuning.operating_point import choose
from onnxtweak.method.tuning.target_bias import set_target_bias
from onnxtweak.metric.several import f1_of
from onnxtweak.patch import Linear
from onnxtweak.settings import RetrainSettings

# Neurons per target that pursuit may end with; validation chooses among them.
PURSUED = (1, 2, 5, 10, 20, 50, 100)


def try_join(inputs: CompareInputs) -> MethodResult:
    """The thesis's join: n and scale from the grid, no bias; its curve on test is read off the same grid."""
    counts = tuple(inputs.join.count)
    of, prefix = inputs.validation, _prefix(inputs, inputs.validation)
    point = choose_point(of.Z, of.labels, inputs.goal, prefix, counts, inputs.join.scale)
    columns, patch = _synapses(inputs, point.n, point.scale)
    result = inputs.result(columns, patch, point=np.zeros(inputs.classes))
    if inputs.goal.head.several:
        return result
    return replace(result, at=_grid_readings(inputs, _prefix(inputs, inputs.test), counts))


def try_join_and_bias(inputs: CompareInputs) -> MethodResult:
    """A join of one n and scale for all targets, and the best bias on top of it."""
    goal, validation = inputs.goal, inputs.validation
    ones = np.ones(len(goal))

    def synapses(point: tuple[int, float]) -> tuple[np.ndarray, Linear]:
        n, scale = point
        return _synapses(inputs, (ones * n).astype(int), ones * scale)

    def target_right(point: tuple[int, float]) -> float:
        logits, margin = validation.patched(*synapses(point)), inputs.settings.margin
        if goal.head.several:
            biased = goal.head.predict_biased(logits, best_thresholds(logits, validation.labels, goal))
            return float(f1_of(biased, validation.labels)[goal.targets].mean())
        choice = set_target_bias(logits, validation.Z, validation.labels, goal, margin=margin)
        return int(choice.right[goal.wanted(validation.labels)].sum()) if choice.holds else 0

    grid = [(n, scale) for n in inputs.join.count for scale in inputs.join.scale]
    return inputs.result(*synapses(max(grid, key=target_right)))


def try_sr1(inputs: CompareInputs) -> MethodResult:
    """Synapses of the join's neurons retrained by cross-entropy, then the bias."""
    return _retrained(inputs, inputs.joined, inputs.join.count, 1.0)


def try_sr2(inputs: CompareInputs) -> MethodResult:
    """The same with twice the loss on target samples."""
    return _retrained(inputs, inputs.joined, inputs.join.count, 2.0)


def try_pursuit(inputs: CompareInputs) -> MethodResult:
    """OMP-n: each target's neurons picked one by one from all that the tables hold, then the bias."""
    all_columns = np.arange(inputs.fit.T.shape[1])
    several = inputs.goal.head.several
    problems = [
        (inputs.fit.of_label(j), 1) if several else (inputs.fit, j) for j in inputs.goal.targets.tolist()
    ]
    columns = [pursued(table, all_columns, j, max(PURSUED)) for table, j in problems]
    return _retrained(inputs, columns, PURSUED, 1.0, intercept=True)


def try_schedule(inputs: CompareInputs) -> MethodResult:
    """Joins and retrainings of the targets in turn, ever fewer of them; its operating point is part of it."""
    columns = np.unique(np.concatenate(inputs.joined))
    names = tuple(map(str, range(inputs.classes)))
    pool = NeuronPool(inputs.fit.columns(columns), inputs.validation.columns(columns), inputs.goal, names)
    engine = inputs.engine.unrecorded
    stages = narrowing(len(inputs.goal))
    synapses, _ = run_schedule(parse_schedule(stages), pool, inputs.join, RetrainSettings(), engine)
    targets = sorted(synapses.column)
    own = [columns[synapses.column[j]] for j in targets]
    weights = [synapses.weight[j] for j in targets]
    patch = _end_to_end(inputs.classes, np.array(targets, np.int64), own, weights)
    result = inputs.result(np.concatenate([columns[:0], *own]), patch, point=np.zeros(inputs.classes))
    return replace(result, note=stages)


def narrowing(targets: int) -> str:
    """A schedule of the thesis's kind for this many targets: all, half, and one of them."""
    steps = sorted({targets, max(targets // 2, 1), 1}, reverse=True)
    return " ".join(f"J{c} R{c}" for c in steps) + " J1"


def _retrained(
    inputs: CompareInputs,
    chosen: Sequence[np.ndarray],
    counts: Sequence[int],
    penalty: float,
    *,
    intercept: bool = False,
) -> MethodResult:
    """Weights of each target's first n columns, trained; n by the loss on validation."""
    tried, temperature = [], inputs.temperatures
    for n in counts:
        columns = [c[:n] for c in chosen]
        fit, validation = (
            problem_of(
                [of_columns(split.T, c) for c in columns],
                split.Z,
                split.labels,
                inputs.goal,
                penalty,
                temperature,
                columns,
            )
            for split in (inputs.fit, inputs.validation)
        )
        ridges, device = RetrainSettings().ridge, inputs.fit.device
        found = retrain_best(fit, validation, ridges, intercept=intercept, device=device)
        left = loss(validation, boosts(validation.tables, found.weight, found.bias))
        tried.append((left, n, columns, found))
    _, n, columns, found = min(tried, key=lambda candidate: candidate[0])
    patch = _end_to_end(inputs.classes, inputs.goal.targets, columns, found.weight, found.bias)
    return replace(inputs.result(np.concatenate(columns), patch), note=f"{n} neurons per target")


def _end_to_end(
    classes: int,
    targets: np.ndarray,
    columns: Sequence[np.ndarray],
    weights: Sequence[np.ndarray],
    bias: np.ndarray | None = None,
) -> Linear:
    """Weights of each target's columns, end to end, and its bias, as a linear patch."""
    weight, shift = np.zeros((sum(map(len, columns)), classes)), np.zeros(classes)
    at = 0
    for j, c, w in zip(targets, columns, weights, strict=True):
        weight[at : at + len(c), j] = w
        at += len(c)
    if bias is not None:
        shift[targets] = bias
    return Linear(weight, shift)


def _synapses(inputs: CompareInputs, n: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, Linear]:
    """The join's synapses at an operating point: columns, and the patch that reads them."""
    columns = [c[: int(k)] if s else c[:0] for c, k, s in zip(inputs.joined, n, scale, strict=True)]
    weights = [
        r.weight[: len(c)] * s / k for r, c, k, s in zip(inputs.rankings, columns, n, scale, strict=True)
    ]
    return np.concatenate(columns), _end_to_end(inputs.classes, inputs.goal.targets, columns, weights)


def _prefix(inputs: CompareInputs, table: Table) -> np.ndarray:
    T = of_columns(table.T, np.concatenate(inputs.joined))
    return prefix_sums([T], inputs.rankings, inputs.join.count)


def _grid_readings(inputs: CompareInputs, prefix: np.ndarray, counts: tuple[int, ...]) -> np.ndarray:
    """Target accuracy (D,) on test that the join's own grid reaches at each drop of CURVE."""
    goal, labels = inputs.goal, inputs.test.labels
    table = boost_table(inputs.test.Z, labels, goal)
    paths = BiasPaths(table, prefix, counts)
    own = goal.wanted(labels)
    was, point = by_rows(goal.head.right, inputs.test.Z, labels), None
    found = []
    for drop in CURVE:
        within = replace(goal, max_overall_drop=drop)
        point = choose(table, prefix, counts, inputs.join.scale, goal=within, paths=paths, after=point)
        positions = [counts.index(int(n)) for n in point.n]
        boost = np.stack(
            [prefix[:, t, g] * point.scale[t] / point.n[t] for t, g in enumerate(positions)], axis=1
        )
        right = table.right(boost)
        enough = right.sum() >= within.overall_floor(int(was.sum()), len(labels))
        held = enough and goal.classes_hold(was, right, labels, table.classes)
        found.append(right[own].mean() if held else np.nan)
    return np.array(found)
