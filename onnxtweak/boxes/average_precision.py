"""How well are objects found? Average precision of each class at each overlap, as COCO defines it.

What is found in a picture is taken from the best score down; each finds the object of its class that it
overlaps most, of those that are not found yet, if by enough. Precision at a recall is the best at that recall
or a higher one, and its mean at 101 recalls from 0 to 1 is the average precision.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxtweak.boxes.overlap import overlaps
from onnxtweak.boxes.suppression import Detections
from onnxtweak.boxes.truth import Truth

THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10))  # IoU
_RECALLS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True, eq=False)
class _OfClass:
    """What is found of one class, from the best score down.

    sample (d,) int64. right (U, d) bool : at thresholds that differ in it; row (T,) int64 : in which of these
    each threshold stands. there (N,) int64 : objects in each sample. score (objects,) float : of what finds
    each object at the first threshold; 0 for nothing.
    """

    sample: np.ndarray
    right: np.ndarray
    row: np.ndarray
    there: np.ndarray
    score: np.ndarray

    def value(self, weight: np.ndarray) -> np.ndarray:
        """Average precision at each threshold, (T,) float64. weight (N,) : how much each sample counts.

        NaN where no sample that counts has an object of the class.
        """
        objects = float(weight @ self.there)
        if not objects > 0:
            return np.full(len(self.row), np.nan)
        if not len(self.sample):
            return np.zeros(len(self.row))
        own = weight[self.sample]
        return _areas(np.cumsum(own * self.right, axis=1), np.cumsum(own), objects)[self.row]


def _areas(found: np.ndarray, taken: np.ndarray, objects: float) -> np.ndarray:
    """Under precision-recall curves, (U,) float64: all at once, for resamples ask for thousands.

    found (U, d), taken (d,) : of the best 1, 2, ... those that are right, and all.
    """
    best = np.zeros((len(found), len(taken) + 1))  # beyond the last there is no precision
    precision = np.divide(found, taken, out=best[:, :-1], where=taken > 0)
    np.maximum.accumulate(precision[:, ::-1], axis=1, out=precision[:, ::-1])
    place = [each.searchsorted(_RECALLS) for each in found / objects]
    return np.stack([own.take(at) for own, at in zip(best, place, strict=True)]).mean(axis=1)


@dataclass(frozen=True, eq=False)
class Found:
    """What is found of each class. samples : N."""

    each: tuple[_OfClass, ...]
    samples: int

    @classmethod
    def of(
        cls, detections: Detections, truth: Truth, classes: int, thresholds: tuple[float, ...] = THRESHOLDS
    ) -> Found:
        """thresholds : overlaps from which an object counts as found."""
        found = tuple(_of_class(detections, truth, number, thresholds) for number in range(classes))
        return cls(found, truth.samples)

    def average_precision(self, weight: np.ndarray | None = None) -> np.ndarray:
        """Of each class at each threshold, (T, C) float64; NaN for a class without objects.

        weight (N,) : how much each sample counts; None: all alike.
        """
        weight = np.ones(self.samples) if weight is None else weight
        return np.stack([one.value(weight) for one in self.each], axis=1)

    def found(self, least: float) -> list[np.ndarray]:
        """Which objects of each class are found at the first threshold by this score, (objects,) bool."""
        return [one.score >= least for one in self.each]

    def holding(self, groups: np.ndarray | None = None) -> np.ndarray:
        """How many samples, or groups (N,) of them, hold an object of each class, (C,) int64."""
        codes = np.arange(self.samples) if groups is None else groups
        return np.array([len(np.unique(codes[one.there > 0])) for one in self.each])

    @property
    def objects(self) -> np.ndarray:
        """How many there are of each class, (C,) int64."""
        return np.array([int(one.there.sum()) for one in self.each])


def _of_class(detections: Detections, truth: Truth, number: int, thresholds: tuple[float, ...]) -> _OfClass:
    own = np.flatnonzero(detections.number == number)
    own = own[np.argsort(-detections.score[own], kind="stable")]
    sample = detections.sample[own]
    right = np.zeros((len(thresholds), len(own)), bool)
    there = np.flatnonzero(truth.number == number)
    count = np.bincount(truth.sample[there], minlength=truth.samples)
    score = np.zeros(len(there))
    for one in np.unique(sample).tolist():
        wanted = np.flatnonzero(truth.sample[there] == one)
        if len(wanted):
            rows = np.flatnonzero(sample == one)
            each = overlaps(detections.box[own[rows]], truth.box[there[wanted]])
            for t, least in enumerate(thresholds):
                finds = _finds(each, least)
                right[t, rows] = finds >= 0
                if t == 0:
                    score[wanted[finds[finds >= 0]]] = detections.score[own[rows[finds >= 0]]]
    curves, row = np.unique(right, axis=0, return_inverse=True)
    return _OfClass(sample, curves, row.reshape(-1), count, score)


def _finds(each: np.ndarray, least: float) -> np.ndarray:
    """The object that each of some boxes finds, the best box first, (d,) int64; -1 for none. each (d, n)."""
    free = np.ones(each.shape[1], bool)
    found = np.full(len(each), -1)
    for row, overlap in enumerate(each):
        overlap = np.where(free, overlap, -1.0)
        place = int(overlap.argmax())
        if overlap[place] >= least:
            free[place], found[row] = False, place
    return found


def mean(each: np.ndarray) -> float:
    """Of the classes that have objects; NaN where none has."""
    known = each[np.isfinite(each)]
    return float(known.mean()) if len(known) else float("nan")
