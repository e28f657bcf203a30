"""What do methods reach that give each target synapses of its own: join, retraining, pursuit?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnxtweak.engine.passes import RunStats
from onnxtweak.method.compare.comparison import CURVE, MethodResult
from onnxtweak.method.compare.inputs import CompareInputs
from onnxtweak.method.join import prefix_sums
from onnxtweak.method.retrain.schedule import NeuronPool, parse_schedule, run_schedule
from onnxtweak.method.retrain.weights import boosts, loss, problem, retrain_best
from onnxtweak.method.solvers.matching_pursuit import pursued
from onnxtweak.method.table import Table
from onnxtweak.method.tuning.bias_path import BiasPaths
from onnxtweak.method.tuning.boosted import boost_table
from onnxtweak.method.tuning.operating_point import choose
from onnxtweak.method.tuning.target_bias import set_target_bias
from onnxtweak.patch import Linear
from onnxtweak.settings import RetrainSettings
from onnxtweak.types import silent

# Neurons a target that pursuit may end with; which of these, is chosen on validation.
PURSUED = (1, 2, 5, 10, 20, 50, 100)


def try_join(of: CompareInputs) -> MethodResult:
    """The thesis's join: n and scale from the grid, no bias; on test the curve is that of its grid."""
    counts = tuple(of.join.count)
    table = boost_table(of.validation.Z, of.validation.labels, of.goal)
    point = choose(table, _prefix(of, of.validation), counts, of.join.scale)
    columns, patch = _synapses(of, point.n, point.scale)
    made = of.result(columns, patch, point=np.zeros(len(of.goal)))
    return replace(made, at=_grid_readings(of, _prefix(of, of.test), counts))


def try_join_and_bias(of: CompareInputs) -> MethodResult:
    """A join of one n and scale for all targets, and the best bias on top of it."""
    best, chosen = -1, None
    for n in of.join.count:
        for scale in of.join.scale:
            each = np.ones(len(of.goal))
            columns, patch = _synapses(of, (each * n).astype(int), each * scale)
            spent = set_target_bias(
                of.validation.patched(columns, patch),
                of.validation.Z,
                of.validation.labels,
                of.goal,
                margin=of.settings.margin,
            )
            right = int(spent.right[of.goal.wanted(of.validation.labels)].sum()) if spent.holds else 0
            if right > best:
                best, chosen = right, (columns, patch)
    return of.result(*chosen)


def try_sr1(of: CompareInputs) -> MethodResult:
    """Synapses of the join's neurons retrained by cross-entropy, then the bias."""
    return _retrained(of, of.joined, of.join.count, 1.0)


def try_sr2(of: CompareInputs) -> MethodResult:
    """The same with twice the loss on target samples."""
    return _retrained(of, of.joined, of.join.count, 2.0)


def try_pursuit(of: CompareInputs) -> MethodResult:
    """OMP-n: each target's neurons picked one by one from all that the tables hold, then the bias."""
    everything = np.arange(of.fit.T.shape[1])
    columns = [pursued(of.fit, everything, int(j), max(PURSUED)) for j in of.goal.targets]
    return _retrained(of, columns, PURSUED, 1.0, intercept=True)


def try_schedule(of: CompareInputs) -> MethodResult:
    """Joins and retrainings of the targets in turn, ever fewer of them; its own point is part of it."""
    columns = np.unique(np.concatenate(of.joined))
    names = tuple(map(str, range(of.classes)))
    pool = NeuronPool(of.fit.columns(columns), of.validation.columns(columns), of.goal, names)
    engine = replace(of.engine, progress=silent, stats=RunStats())
    stages = narrowing(len(of.goal))
    grown, _ = run_schedule(parse_schedule(stages), pool, of.join, RetrainSettings(), engine)
    targets = sorted(grown.column)
    placed = [columns[grown.column[j]] for j in targets]
    patch = _placed(of, targets, placed, [grown.weight[j] for j in targets])
    made = of.result(np.concatenate([columns[:0], *placed]), patch, point=np.zeros(len(of.goal)))
    return replace(made, note=stages)


def narrowing(targets: int) -> str:
    """The thesis's kind of schedule for so many targets: all, half, and one of them."""
    steps = sorted({targets, max(targets // 2, 1), 1}, reverse=True)
    return " ".join(f"J{c} R{c}" for c in steps) + " J1"


def _retrained(
    of: CompareInputs,
    chosen: Sequence[np.ndarray],
    counts: Sequence[int],
    penalty: float,
    *,
    intercept: bool = False,
) -> MethodResult:
    """Weights of each target's first n columns, trained; n by the loss on validation."""
    best = None
    for n in counts:
        columns = [c[:n] for c in chosen]
        problems = [
            problem(
                [table.T[:, c] for c in columns], table.Z, table.labels, of.goal.targets, penalty, columns
            )
            for table in (of.fit, of.validation)
        ]
        made, _ = retrain_best(*problems, RetrainSettings().ridge, intercept=intercept)
        left = loss(problems[1], boosts(problems[1].tables, made.weight, made.bias))
        if best is None or left < best[0]:
            patch = _placed(of, of.goal.targets, columns, made.weight, made.bias)
            best = left, np.concatenate(columns), patch, n
    return replace(of.result(*best[1:3]), note=f"{best[3]} neurons a target")


def _placed(
    of: CompareInputs,
    targets: Sequence[int],
    columns: Sequence[np.ndarray],
    weights: Sequence[np.ndarray],
    bias: np.ndarray | None = None,
) -> Linear:
    """Weights of each target's columns, and its bias, as a linear patch."""
    whole, shift = np.zeros((sum(map(len, columns)), of.classes)), np.zeros(of.classes)
    at = 0
    for j, c, w in zip(targets, columns, weights, strict=True):
        whole[at : at + len(c), j] = w
        at += len(c)
    if bias is not None:
        shift[targets] = bias
    return Linear(whole, shift)


def _synapses(of: CompareInputs, n: Sequence[int], scale: Sequence[float]) -> tuple[np.ndarray, Linear]:
    """The join's synapses at an operating point."""
    columns = [c[: int(k)] if s else c[:0] for c, k, s in zip(of.joined, n, scale, strict=True)]
    weights = [r.weight[: len(c)] * s / k for r, c, k, s in zip(of.rankings, columns, n, scale, strict=True)]
    return np.concatenate(columns), _placed(of, of.goal.targets, columns, weights)


def _prefix(of: CompareInputs, table: Table) -> np.ndarray:
    T = table.T[:, np.concatenate(of.joined)]
    return prefix_sums([T], of.rankings, of.join.count)


def _grid_readings(of: CompareInputs, prefix: np.ndarray, counts: tuple[int, ...]) -> np.ndarray:
    """Target accuracy on test of the join's own grid, at each drop of CURVE."""
    goal, labels = of.goal, of.test.labels
    table = boost_table(of.test.Z, labels, goal)
    lines = BiasPaths(table, prefix, counts)
    own, base = goal.wanted(labels), int(goal.head.right(of.test.Z, labels).sum())
    found = []
    for drop in CURVE:
        within = replace(goal, max_overall_drop=drop)
        point = choose(table, prefix, counts, of.join.scale, goal=within, lines=lines)
        places = [counts.index(int(n)) for n in point.n]
        boost = np.stack(
            [prefix[:, t, g] * point.scale[t] / point.n[t] for t, g in enumerate(places)], axis=1
        )
        right = table.right(boost)
        enough = right.sum() >= within.overall_floor(base, len(labels))
        found.append(right[own].mean() if enough else np.nan)
    return np.array(found)
