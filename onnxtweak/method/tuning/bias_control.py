"""What would biases alone do? The control that every patch is shown beside (METHOD 3, 8)."""

from __future__ import annotations

import numpy as np

from onnxtweak.engine.machine.large_arrays import let_go, parts, transposed
from onnxtweak.goal import ResolvedGoal
from onnxtweak.head import Head
from onnxtweak.method.folds import KeptArrays, kept_of, not_kept
from onnxtweak.method.tuning.boosted import BoostTable
from onnxtweak.method.tuning.operating_point import choose
from onnxtweak.theta.line_search import net_gain

# How often the classes take turns at most.
_TURNS = 5


def overall_bias(
    Z: np.ndarray,
    labels: np.ndarray,
    goal: ResolvedGoal,
    weight: np.ndarray | None = None,
    kept: KeptArrays = not_kept,
) -> np.ndarray:
    """Biases (C,) float64, on the targets, with the best overall accuracy. Z (N, C); labels (N,).

    Each is exact while the others stay as they are; the classes take turns until none gains. weight (N,)
    int64 : how much a sample counts; None: all alike. kept : as of `Folds`.
    """
    what, of = f"overall bias of {goal.targets.tolist()} {goal.head}", (Z, labels, weight)
    return kept_of(kept, what, of, lambda: {"bias": _overall_bias(Z, labels, goal, weight)})["bias"]


def _overall_bias(
    Z: np.ndarray, labels: np.ndarray, goal: ResolvedGoal, weight: np.ndarray | None
) -> np.ndarray:
    leading = _Leading(Z, goal.head)
    ones, bias = np.ones(len(Z)), np.zeros(Z.shape[1])
    for _ in range(_TURNS):
        total = 0
        for j in goal.targets.tolist():
            own, (value, rival) = leading.logits(j), leading.rivals(j)
            gain = (labels == j).astype(np.int64) - (labels == rival)
            gain = gain if weight is None else gain * weight
            step, gained = net_gain(ones, value - own, gain)
            leading.move(j, own, step)
            bias[j] += step
            total += gained
        if not total:
            break
    return bias


class _Leading:
    """The two classes that lead on each sample, while classes are moved one after the other.

    value (2, N) float64, number (2, N) int64 : their logits and which they are, the first first. The others
    are looked at again only on samples where a class has fallen behind.
    """

    def __init__(self, Z: np.ndarray, head: Head) -> None:
        """Z (N, C)."""
        self.Z, self.columns, self.head = Z, transposed(Z), head
        self.steps: dict[int, list[float]] = {}
        self.value, self.number = np.empty((2, len(Z))), np.empty((2, len(Z)), np.int64)
        self._look(np.arange(len(Z)))

    def logits(self, j: int) -> np.ndarray:
        """Those of a class, as far as it has been moved: (N,) float64."""
        found = self.columns[j].astype(np.float64)
        let_go(self.columns[j])
        for step in self.steps.get(j, ()):
            found += step
        return found

    def rivals(self, j: int) -> tuple[np.ndarray, np.ndarray]:
        """The highest logit (N,) of the other classes, and its class (N,)."""
        leads = (self.number[0] == j).astype(np.int64)
        rows = np.arange(len(self.Z))
        return self.value[leads, rows], self.number[leads, rows]

    def move(self, j: int, logits: np.ndarray, step: float) -> None:
        """Move a class, whose logits (N,) are known, by a step."""
        if not step:
            return
        self.steps.setdefault(j, []).append(step)
        now = logits + step
        value, rival = self.rivals(j)
        ahead = self.head.beats(now, j, value, rival)
        led, followed = self.number == j
        # Where it leads, its best rival comes second; where it did and does not any more, or has come down as
        # the second, another may be that.
        self.value[1], self.number[1] = (
            np.where(ahead, value, self.value[1]),
            np.where(ahead, rival, self.number[1]),
        )
        self.value[0], self.number[0] = np.where(ahead, now, value), np.where(ahead, j, rival)
        unsure = ~ahead & (led | (followed & (step < 0)))
        second = ~ahead & ~unsure & self.head.beats(now, j, self.value[1], self.number[1]) | (
            ~ahead & followed
        )
        self.value[1], self.number[1] = (
            np.where(second, now, self.value[1]),
            np.where(second, j, self.number[1]),
        )
        self._look(np.flatnonzero(unsure))

    def _look(self, rows: np.ndarray) -> None:
        """Find the leading two of some samples (n,) int64 among all classes."""
        for part in parts(len(rows)):
            own = rows[part]
            logits = self.Z[own].astype(np.float64)
            let_go(self.Z)
            for j, steps in self.steps.items():
                for step in steps:
                    logits[:, j] += step
            for place in range(2):
                self.value[place, own], self.number[place, own] = self.head.best(logits)
                logits[np.arange(len(own)), self.number[place, own]] = -np.inf


def best_bias(table: BoostTable) -> np.ndarray:
    """The control of every claim: the exactly best bias per target for the same goal, (C,) float64."""
    ones = np.ones((len(table.labels), len(table.goal), 1))
    return table.goal.on_all_classes(choose(table, ones, (1,), None).scale, table.classes)
