"""What does a detector decide at each of its anchors? One class of object, or none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxtweak.head import Decisions, Head


@dataclass(frozen=True)
class Boxes(Head):
    """A score for every class at each anchor, which has a box.

    background : column of the scores that stands for no object; None: every class has a score of its own, and
    none is there where no score is positive. Classes are those of objects, C, and class C is none.
    """

    background: int | None = None

    @property
    def several(self) -> bool:
        return True

    @property
    def measure(self) -> str:
        return "average precision"

    @property
    def rule(self) -> str:
        return "the scores of every class at each anchor"

    def objects(self, columns: int) -> int:
        """C, where the scores have so many columns."""
        return columns - (self.background is not None)

    def columns(self, classes: np.ndarray, many: int) -> np.ndarray:
        """Columns of the scores, of so many, for classes (n,) of objects and none; -1 for no column."""
        own = np.arange(many) if self.background is None else np.delete(np.arange(many), self.background)
        nothing = -1 if self.background is None else self.background
        found: np.ndarray = np.append(own, nothing)[classes]
        return found

    def decisions(self, predicted: np.ndarray, labels: np.ndarray) -> Decisions:
        """One for each anchor that counts, about the class that it is of; about C for none."""
        known = np.flatnonzero(labels >= 0)
        return Decisions(labels[known], predicted[known] == labels[known], known)

    def right(self, Z: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Which anchors are right, (N,) bool; those that do not count are not."""
        found: np.ndarray = self.predict(Z) == labels
        return found

    def scores(self, Z: np.ndarray) -> np.ndarray:
        """What a detector shows for logits Z (N, columns): (N, C) between 0 and 1."""
        if self.background is None:
            shown: np.ndarray = 1 / (1 + np.exp(-np.clip(Z, -80, 80)))
            return shown
        power = np.exp(Z - Z.max(axis=1, keepdims=True))
        return np.delete(power / power.sum(axis=1, keepdims=True), self.background, axis=1)

    def predict(self, Z: Any) -> Any:
        """The class at each anchor, (N,) int64, for scores Z (N, columns)."""
        if self.background is None:
            return np.where(Z.max(axis=1) > 0, Z.argmax(axis=1), Z.shape[1])
        column = Z.argmax(axis=1)
        shifted = np.where(column > self.background, column - 1, column)
        return np.where(column == self.background, Z.shape[1] - 1, shifted)

    def margin(self, Z: np.ndarray) -> np.ndarray:
        if self.background is None:
            Z = np.column_stack([Z, np.zeros(len(Z), Z.dtype)])
        return super().margin(Z)
