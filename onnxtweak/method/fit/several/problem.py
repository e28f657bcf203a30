"""What does each of several labels learn from? Its marks, on top of its calibrated logit (METHOD 17)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from onnxtweak.method.folds import Arrays, Folds, Make, digest_of, not_kept
from onnxtweak.method.softmax import sigmoid
from onnxtweak.method.table import Table
from onnxtweak.method.temperature import calibrate_labels

# Of so many judged samples, ridges are compared on two of the five folds; all are held out at the best.
_ENOUGH = 4000


@dataclass(frozen=True, eq=False)
class MarksProblem:
    """The target labels, (c,) of all C. Z, cool (N, c) : the base's logits, and these calibrated.

    marks (N, c) : 1, 0, -1. truth (N, c) : what weights are fitted to, the marks; of samples that should stay
    as they are, calibrated probabilities. weight (N,) : how much each counts while weights are fitted; None:
    all alike. slope, shift (c,) : of the calibration. classes : C. emphasis (N,) : how much each counts where
    weights and thresholds are judged; None: all alike.
    """

    Z: np.ndarray
    cool: np.ndarray
    marks: np.ndarray
    truth: np.ndarray
    weight: np.ndarray | None
    slope: np.ndarray
    shift: np.ndarray
    targets: np.ndarray
    classes: int
    folds: Folds
    emphasis: np.ndarray | None = None

    @classmethod
    def of(cls, table: Table, targets: np.ndarray, folds: Folds) -> MarksProblem:
        own, marks = table.Z[:, targets], table.labels[:, targets]
        told = folds.judged if table.kept is None else folds.judged & ~table.kept
        slope, shift = calibrate_labels(own[told], marks[told])
        cool = (own * slope + shift).astype(own.dtype)
        truth = marks
        if table.kept is not None:
            truth = np.where(table.kept[:, None], sigmoid(cool.astype(np.float64)), marks)
        return cls(own, cool, marks, truth, table.weight, slope, shift, targets, table.Z.shape[1], folds)

    def kept(self, what: str, make: Make) -> Arrays:
        """What is made of this problem, or what an earlier run made of it."""
        if self.folds.kept is not_kept:
            return make()
        own = digest_of(self.cool, self.marks, self.truth, self.weight, self.emphasis, self.slope, self.shift)
        return self.folds.kept(f"{what} {own} {self.folds.digest}", make)

    def emphasised(self, counts: np.ndarray) -> MarksProblem:
        """The same with some samples counting for more. counts (N,)."""
        weight = counts if self.weight is None else counts * self.weight
        return replace(self, weight=weight, emphasis=counts)

    @property
    def compared(self) -> np.ndarray:
        """The coarse folds that ridges are compared on."""
        coarse = self.folds.coarse
        return coarse.numbers if coarse.judged.sum() < _ENOUGH else coarse.numbers[:2]

    @property
    def counted(self) -> np.ndarray:
        """Their judged samples, (N,) bool."""
        coarse = self.folds.coarse
        return np.isin(coarse.number, self.compared) & coarse.judged

    def losses(self, logits: np.ndarray) -> np.ndarray:
        """Cross-entropy of each mark under calibrated logits, (N, c) float64; 0 where it is not known."""
        x = logits.astype(np.float64)
        each = np.where(self.marks >= 0, np.logaddexp(0, x) - x * self.truth, 0.0)
        return each if self.emphasis is None else each * self.emphasis[:, None]

    def loss_of_labels(self, logits: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
        """The mean over samples whose mark is known, (c,). rows (N,) bool : which; None: the judged."""
        rows = self.folds.judged if rows is None else rows
        known = (self.marks[rows] >= 0).sum(axis=0)
        found: np.ndarray = self.losses(logits)[rows].sum(axis=0) / np.maximum(known, 1)
        return found

    def loss_of_samples(self, logits: np.ndarray) -> np.ndarray:
        """The sum over the labels of each sample that ridges are compared on."""
        found: np.ndarray = self.losses(logits)[self.counted].sum(axis=1)
        return found

    def known_truth(self, rows: np.ndarray) -> np.ndarray:
        """What weights are fitted to where some samples (N,) bool, or int, are held out: -1 there."""
        truth = np.where(self.marks >= 0, self.truth, -1)
        truth[rows] = -1
        return truth

    def whole(self, of_targets: np.ndarray) -> np.ndarray:
        """Numbers (c,) or (K, c) of the targets as those of all labels, zero for the others."""
        found = np.zeros((*of_targets.shape[:-1], self.classes))
        found[..., self.targets] = of_targets
        return found
