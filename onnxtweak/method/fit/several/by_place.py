"""Do labels at positions get weights of each place's own (METHOD 13, 17)? Each label for itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxtweak.method.fit.candidate import WORTH_HIDDEN, simplest
from onnxtweak.method.fit.positions.places import OwnWeights, in_words, own_weights
from onnxtweak.method.fit.several.problem import MarksProblem
from onnxtweak.method.fit.several.weights import LabelWeights
from onnxtweak.method.softmax import sigmoid
from onnxtweak.method.table import Table
from onnxtweak.patch import DensePatch, Linear, Mlp


@dataclass(frozen=True, eq=False)
class MarksByPlace:
    """Weights that all places share, and their own for labels, `take` (c,) bool. As of `LabelWeights`."""

    shared: LabelWeights
    own: OwnWeights
    take: np.ndarray
    held_out: np.ndarray

    @property
    def name(self) -> str:
        return self.shared.name

    @property
    def columns(self) -> np.ndarray:
        return np.append(self.shared.columns, self.own.places.column)

    @property
    def described(self) -> str:
        return f"{self.shared.described}; {in_words(self.own.places)} for {int(self.take.sum())} labels"

    def patch(self, problem: MarksProblem, chosen: np.ndarray) -> tuple[DensePatch, tuple[str, ...]]:
        """As of `LabelWeights`."""
        shared, notes = self.shared.patch(problem, chosen)
        assert isinstance(shared, Linear | Mlp)
        own = self.own.times(chosen * self.take / problem.slope)
        return own.of_classes(problem.targets, problem.classes).beside(shared, self.shared.columns), notes


def with_places(weights: LabelWeights, problem: MarksProblem, table: Table) -> LabelWeights:
    """The labels' weights, each with its own at each place where it does better with them, if there are."""
    if not table.places:
        return weights
    counts, known = np.ones(len(table.T)) if problem.weight is None else problem.weight, problem.marks >= 0
    judged = problem.folds.judged

    def slopes(Z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        p, each = sigmoid(Z), known * counts[:, None]
        return (problem.truth - p) * each, p * (1 - p) * each

    def loss(Z: np.ndarray) -> float:
        return float(problem.loss_of_labels(Z, judged).sum())

    own = own_weights(table, weights.columns, weights.held_out, slopes, loss, problem.folds)
    if own is None:
        return weights
    base = problem.losses(problem.cool)[judged]
    both = [problem.losses(Z)[judged] for Z in (weights.held_out, own.held_out)]
    there = known[judged]
    take = np.array(
        [
            simplest([loss[there[:, c], c] for loss in both], base[there[:, c], c], WORTH_HIDDEN) == 1
            for c in range(there.shape[1])
        ]
    )
    held_out = np.where(take, own.held_out, weights.held_out).astype(weights.held_out.dtype)
    return MarksByPlace(weights, own, take, held_out) if take.any() else weights
