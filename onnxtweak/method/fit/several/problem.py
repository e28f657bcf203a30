"""What does each of several labels learn from? Its marks, on top of its calibrated logit (METHOD 17)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from onnxtweak.engine.machine.large_arrays import added, in_blocks, let_go, light_parts, of_columns
from onnxtweak.method.folds import Arrays, Folds, Make, digest_of, not_kept
from onnxtweak.method.softmax import sigmoid
from onnxtweak.method.table import Table
from onnxtweak.method.temperature import calibrate_labels

# Of so many judged samples, ridges are compared on two of the five folds; all are held out at the best.
_ENOUGH = 4000


@dataclass(frozen=True, eq=False)
class MarksProblem:
    """The target labels, (c,) of all C. What is as large as their logits lies where these do.

    Z, cool (N, c) : the base's logits, and these calibrated.
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
        own, marks = of_columns(table.Z, targets), np.take(table.labels, targets, axis=1)
        told = folds.judged if table.kept is None else folds.judged & ~table.kept
        slope, shift = calibrate_labels(own, np.where(told[:, None], marks, marks.dtype.type(-1)))
        cool = in_blocks(lambda Z: (Z * slope + shift).astype(Z.dtype), own)
        truth = marks
        if table.kept is not None:

            def learnt(kept: np.ndarray, cool: np.ndarray, marks: np.ndarray) -> np.ndarray:
                return np.where(kept[:, None], sigmoid(cool.astype(np.float64)), marks)

            truth = in_blocks(learnt, table.kept, cool, marks)
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

    def losses_of_label(self, c: int, logits: np.ndarray) -> np.ndarray:
        """Cross-entropy of a label's marks, (N,) float64, under its calibrated logits (N,); unknown: 0."""
        found = _losses(self.marks[:, c], self.truth[:, c], logits)
        return found if self.emphasis is None else found * self.emphasis

    def losses(self, logits: np.ndarray) -> np.ndarray:
        """The same of all labels, (N, c) for logits (N, c), where these lie."""
        return in_blocks(lambda rows, logits: self._losses_of(rows, logits), np.arange(len(logits)), logits)

    def _losses_of(self, rows: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """Those of some rows (n,) int64, in order, (n, c)."""
        part = slice(int(rows[0]), int(rows[-1]) + 1)
        each = _losses(self.marks[part], self.truth[part], logits)
        let_go(self.truth[part])
        return each if self.emphasis is None else each * self.emphasis[part, None]

    def loss_of_labels(self, logits: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
        """The mean over samples whose mark is known, (c,). rows (N,) bool : which; None: the judged."""
        rows = self.folds.judged if rows is None else rows
        known, total = np.zeros(logits.shape[1], np.int64), np.zeros(logits.shape[1])
        for part in light_parts(logits):
            own = rows[part]
            if own.any():
                known += (self.marks[part][own] >= 0).sum(axis=0)
                total = added(total, self._losses_of(np.arange(part.start, part.stop), logits[part])[own])
            let_go(logits[part])
        found: np.ndarray = total / np.maximum(known, 1)
        return found

    def loss_of_samples(self, logits: np.ndarray) -> np.ndarray:
        """The sum over the labels of each sample that ridges are compared on."""
        found = np.empty(len(logits))
        for part in light_parts(logits):
            found[part] = self._losses_of(np.arange(part.start, part.stop), logits[part]).sum(axis=1)
            let_go(logits[part])
        return found[self.counted]

    def known_truth(self, rows: np.ndarray) -> np.ndarray:
        """What weights are fitted to where some samples (N,) bool, or int, are held out: -1 there."""
        if self.truth is self.marks:
            truth = np.maximum(self.marks, self.marks.dtype.type(-1))
            truth[rows] = -1
            return truth
        out = np.zeros(len(self.marks), bool)
        out[rows] = True

        def known(out: np.ndarray, marks: np.ndarray, truth: np.ndarray) -> np.ndarray:
            return np.where(out[:, None] | (marks < 0), -1.0, truth)

        return in_blocks(known, out, self.marks, self.truth)

    def whole(self, of_targets: np.ndarray) -> np.ndarray:
        """Numbers (c,) or (K, c) of the targets as those of all labels, zero for the others."""
        found = np.zeros((*of_targets.shape[:-1], self.classes))
        found[..., self.targets] = of_targets
        return found


def _losses(marks: np.ndarray, truth: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Cross-entropy of marks under logits of one shape, float64; 0 where a mark is not known."""
    x = logits.astype(np.float64)
    found: np.ndarray = np.where(marks >= 0, np.logaddexp(0, x) - x * truth, 0.0)
    return found
