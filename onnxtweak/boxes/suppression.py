"""Which of the boxes that a model gives are left, without worse ones that overlap? Class by class."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from onnxtweak.boxes.overlap import overlaps

# As detectors are evaluated: all scores that could matter, and so many boxes of a class in a picture, as COCO
# has it.
LEAST_SCORE, LARGEST_OVERLAP, MOST = 0.001, 0.6, 100
_COMPARED = 1000  # boxes of a class, the best of them


@dataclass(frozen=True, eq=False)
class Detections:
    """Boxes that a model gives for N samples.

    sample, number (D,) int64 : where, and of which class. score (D,) float. box (D, 4) : as of `Truth`.
    """

    sample: np.ndarray
    number: np.ndarray
    score: np.ndarray
    box: np.ndarray
    samples: int

    def from_score(self, least: float) -> Detections:
        """Those with this score or a higher one."""
        own = np.flatnonzero(self.score >= least)
        each = (self.sample[own], self.number[own], self.score[own], self.box[own])
        return Detections(*each, self.samples)

    def within(self, sample: int) -> tuple[np.ndarray, np.ndarray]:
        """Classes and boxes of a sample, as `Truth.within`."""
        own = self.sample == sample
        return self.number[own], self.box[own]

    @classmethod
    def joined(cls, parts: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Detections:
        """parts : class, score and box of what is found in each sample, in order."""
        each = list(parts)
        sample = np.repeat(np.arange(len(each)), [len(number) for number, _, _ in each])
        empty = np.empty(0, np.int64), np.empty(0, np.float32), np.empty((0, 4), np.float32)
        number, score, box = (np.concatenate(some) for some in zip(empty, *each, strict=True))
        return cls(sample, number, score, box, len(each))


def suppressed(boxes: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Class (d,), score (d,) and box (d, 4) of what is left of a sample's anchors.

    boxes (A, 4). scores (A, C) : between 0 and 1, each class for itself.
    """
    none = np.empty(0, np.int64)
    numbers, taken = [none], [none]
    for number in np.flatnonzero((scores > LEAST_SCORE).any(axis=0)).tolist():  # few of many classes
        own = scores[:, number]
        order = np.flatnonzero(own > LEAST_SCORE)
        order = order[np.argsort(-own[order], kind="stable")][:_COMPARED]
        kept = order[_best(boxes[order])][:MOST]
        taken.append(kept)
        numbers.append(np.full(len(kept), number))
    anchors, found = np.concatenate(taken), np.concatenate(numbers)
    return found, scores[anchors, found], boxes[anchors]


def _best(boxes: np.ndarray) -> np.ndarray:
    """Which boxes (n, 4), the best first, are overlapped by none that is better and left itself: places."""
    if len(boxes) < 2:
        return np.arange(len(boxes))
    close = overlaps(boxes, boxes) > LARGEST_OVERLAP
    left = np.ones(len(boxes), bool)
    for place in range(len(boxes)):
        if left[place]:
            left[place + 1 :] &= ~close[place, place + 1 :]
    return np.flatnonzero(left)
