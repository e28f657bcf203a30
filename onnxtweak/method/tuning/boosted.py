"""What would be predicted if the target logits were boosted? Arithmetic on logits, no model needed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxtweak.engine.machine.large_arrays import light_blocks
from onnxtweak.goal import ResolvedGoal


@dataclass(frozen=True)
class BoostTable:
    """What matters of Z when only the logits of c targets can move.

    labels (N,) int64. target_logits (N, c) : of the goal's targets. rest (N,) and rest_label (N,) : logit and
    number of the best other class. classes : C.
    """

    goal: ResolvedGoal
    labels: np.ndarray
    target_logits: np.ndarray
    rest: np.ndarray
    rest_label: np.ndarray
    classes: int

    def right(self, boost: np.ndarray) -> np.ndarray:
        """Which samples are right, (N,) bool, with `boost` (N, c), or (c,) for all samples alike."""
        return predict(self, np.broadcast_to(boost, self.target_logits.shape)) == self.labels


def boost_table(Z: np.ndarray, labels: np.ndarray, goal: ResolvedGoal) -> BoostTable:
    """Reduce Z (N, C) for boosts of the goal's targets."""
    own = np.empty((len(Z), len(goal)), Z.dtype)
    rest, rest_label = np.empty(len(Z), Z.dtype), np.empty(len(Z), np.int64)
    for part, block in light_blocks(Z):
        others, own[part] = block.copy(), block[:, goal.targets]
        others[:, goal.targets] = -np.inf
        rest[part], rest_label[part] = goal.head.best(others)
    return BoostTable(goal, labels, own, rest, rest_label, Z.shape[1])


def predict(table: BoostTable, boost: np.ndarray) -> np.ndarray:
    """Predicted class (N,) when `boost` (N, c) is added to the target logits.

    Added in the logits' own precision, and ties go to the lowest class: as the spliced file does it.
    """
    boosted = table.target_logits + boost.astype(table.target_logits.dtype)
    return best_among(table, boosted)[1]


def best_among(table: BoostTable, boosted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best of all classes where the target logits are `boosted` (N, c): logit (N,), class (N,)."""
    value, position = table.goal.head.best(boosted)
    number = table.goal.targets[position]
    wins = table.goal.head.beats(value, number, table.rest, table.rest_label)
    return np.where(wins, value, table.rest), np.where(wins, number, table.rest_label)


def rival_gap(table: BoostTable, boost: np.ndarray, target: int) -> tuple[np.ndarray, np.ndarray]:
    """Gap and best rival of one target (position) under the others' boosts: (N,) float64 and int64."""
    boosted = table.target_logits + boost.astype(table.target_logits.dtype)
    boosted[:, target] = -np.inf
    value, label = best_among(table, boosted)
    return value.astype(np.float64) - table.target_logits[:, target].astype(np.float64), label
