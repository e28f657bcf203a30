"""Which few neurons does each of several labels read, within a budget? Its own, by pursuit (METHOD 7.2, 17).

Neurons are chosen again for every fold, so that the held-out logits owe nothing to their samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from onnxtweak.engine.machine.large_arrays import add_rows, copied, in_blocks
from onnxtweak.method.fit.several.problem import MarksProblem
from onnxtweak.method.fit.several.weights import in_ridges
from onnxtweak.method.fit.small import MOST_PURSUED, RIDGES
from onnxtweak.method.folds import Arrays, digest_of
from onnxtweak.method.solvers.design import Design, design
from onnxtweak.method.solvers.logistic import logistic
from onnxtweak.method.solvers.matching_pursuit import pursued
from onnxtweak.method.solvers.multinomial import Solution
from onnxtweak.method.table import Table
from onnxtweak.patch import Linear


@dataclass(frozen=True, eq=False)
class LabelSynapses:
    """Few columns for each label, its `own`; `columns` are all of these. The rest as of `LabelWeights`."""

    name: str
    columns: np.ndarray
    held_out: np.ndarray
    ridge: np.ndarray
    table: Table
    own: tuple[np.ndarray, ...]

    @property
    def described(self) -> str:
        return in_ridges(self.name, self.ridge)

    def patch(self, problem: MarksProblem, chosen: np.ndarray) -> tuple[Linear, tuple[str, ...]]:
        """As of `LabelWeights`."""
        everything, found = problem.known_truth(np.empty(0, np.int64)), self.table
        weight, bias = np.zeros((len(self.columns), len(self.own))), problem.shift.copy()

        def solved(c: int) -> Arrays:
            made = design(found.T, self.own[c], turn=False)
            one = _solved(problem, made, everything, c, self.ridge[c])
            return {"weight": one.weight[:, 0], "bias": one.bias}

        for c, own in enumerate(self.own):
            one = problem.kept(f"label {c} at {self.ridge[c]} of {own.tolist()}", partial(solved, c))
            weight[np.searchsorted(self.columns, own), c] = one["weight"]
            bias[c] += one["bias"][0]
        scale = chosen / problem.slope
        return Linear(problem.whole(weight * scale), problem.whole(bias * scale)), ()


def pursue_labels(problem: MarksProblem, table: Table, columns: np.ndarray, count: int) -> LabelSynapses:
    """Up to `count` of the columns (K,) for each label, at its best ridge. table : that of the problem."""

    def placed(Z: np.ndarray, cool: np.ndarray) -> np.ndarray:
        found = Z.copy()
        found[:, problem.targets] = cool
        return found

    cool = in_blocks(placed, table.Z, problem.cool)
    calibrated, folds = replace(table, Z=cool), problem.folds.coarse
    count = min(count, MOST_PURSUED)
    held = [copied(problem.cool) for _ in RIDGES]
    named = f"{count} each of {digest_of(columns)}"

    def added(k: int) -> Arrays:
        """What is added to the logits of a fold at each ridge."""
        rows, kind = folds.held_out(k), problem.cool.dtype
        found = np.zeros((len(RIDGES), len(rows), len(problem.targets)), kind)
        truth = problem.known_truth(rows)
        for c, own in enumerate(_chosen(problem, calibrated.rows(folds.learning(k)), columns, count)):
            made = design(table.T, own, turn=False)
            for r, ridge in enumerate(RIDGES):
                solved = _solved(problem, made, truth, c, ridge)
                found[r, :, c] = solved.scores[rows, 0].astype(kind)
        return {"scores": found}

    for k in folds.numbers.tolist():
        scores = problem.kept(f"{named}, fold {k}", partial(added, k))["scores"]
        for logits, own in zip(held, scores, strict=True):
            add_rows(logits, folds.held_out(k), own, np.arange(logits.shape[1]))
    losses = np.array([problem.loss_of_labels(logits) for logits in held])
    best = losses.argmin(axis=0)

    def chosen_of(*each: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.take_along_axis(np.stack(each), best[None, None], axis=0)[0]
        return found

    held_out = in_blocks(chosen_of, *held)
    at_last = problem.kept(
        f"{named}, all samples",
        lambda: {str(c): own for c, own in enumerate(_chosen(problem, calibrated, columns, count))},
    )
    chosen = [at_last[str(c)] for c in range(len(problem.targets))]
    every = np.unique(np.concatenate([columns[:0], *chosen]))
    name = f"{sum(map(len, chosen)):,} synapses by pursuit"
    return LabelSynapses(name, every, held_out, np.array(RIDGES)[best], table, tuple(chosen))


def _chosen(problem: MarksProblem, table: Table, columns: np.ndarray, count: int) -> Sequence[np.ndarray]:
    """The columns of each label, ascending; none for one without a sample, or without one that lacks it."""
    found = []
    for j in problem.targets.tolist():
        own = table.of_label(j)
        both = len(np.unique(own.labels)) == 2
        found.append(np.sort(pursued(own, columns, 1, count)) if both else columns[:0])
    return found


def _solved(problem: MarksProblem, made: Design, truth: np.ndarray, c: int, ridge: float) -> Solution:
    """Weights of label c of the targets on its own columns."""
    one = slice(c, c + 1)
    cool = problem.cool[:, one].copy()  # in memory: a vector, which many steps look at
    return logistic(made, cool, truth[:, one], ridge, weight=problem.weight)
