"""How well are objects found? Average precision of each class at each overlap, as COCO defines it.

What is found in a picture is taken from the best score down; each finds the object of its class that it
overlaps most, of those that are not found yet, if by enough. Precision at a recall is the best at that recall
or a higher one, and its mean at 101 recalls from 0 to 1 is the average precision.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from onnxtweak.boxes.overlap import overlaps
from onnxtweak.boxes.suppression import Detections
from onnxtweak.boxes.truth import Truth

THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10))  # IoU
_BLOCK = 1 << 18  # values of precision-recall curves that are drawn at once
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

    def values(self, weights: np.ndarray) -> np.ndarray:
        """Average precision at each threshold, (R, T) float64. weights (R, N) : how much each sample counts.

        NaN where no sample that counts has an object of the class.
        """
        objects = weights @ self.there
        areas = np.zeros((len(weights), len(self.right)))
        rows, step = np.flatnonzero(objects > 0), max(_BLOCK // max(self.right.size, 1), 1)
        for some in np.split(rows, range(step, len(rows), step)) if len(rows) and len(self.sample) else ():
            own = weights[some].take(self.sample, axis=1)
            found = np.cumsum(own[:, None] * self.right, axis=2)
            areas[some] = _areas(found, np.cumsum(own, axis=1)[:, None], objects[some, None, None])
        areas[~(objects > 0)] = np.nan
        return areas[:, self.row]


def _areas(found: np.ndarray, taken: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """Under precision-recall curves, (R, U) float64: all at once, for resamples ask for thousands.

    found (R, U, d), taken (R, 1, d) : of the best 1, 2, ... those that are right, and all. objects (R, 1, 1).
    """
    best = np.zeros((*found.shape[:2], found.shape[2] + 1))  # beyond the last there is no precision
    precision = np.divide(found, taken, out=best[..., :-1], where=taken > 0)
    np.maximum.accumulate(precision[..., ::-1], axis=2, out=precision[..., ::-1])
    # How many of a curve's places have less than each recall: those that reach it nowhere earlier.
    reached = _RECALLS.searchsorted(found / objects, "right") + (len(_RECALLS) + 1) * _numbers(found)
    count = np.bincount(reached.reshape(-1), minlength=(len(_RECALLS) + 1) * found[..., 0].size)
    place = count.reshape(*found.shape[:2], -1).cumsum(axis=2)[..., :-1]
    areas: np.ndarray = np.take_along_axis(best, place, axis=2).mean(axis=2)
    return areas


def _numbers(found: np.ndarray) -> np.ndarray:
    """Of each curve, (R, U, 1) int64."""
    return np.arange(found[..., 0].size).reshape(*found.shape[:2], 1)


@dataclass(frozen=True, eq=False)
class Found:
    """What is found of each class, or of each of some. samples : N."""

    each: tuple[_OfClass, ...]
    samples: int

    @classmethod
    def of(
        cls,
        detections: Detections,
        truth: Truth,
        classes: Iterable[int],
        thresholds: tuple[float, ...] = THRESHOLDS,
    ) -> Found:
        """classes : which. thresholds : overlaps from which an object counts as found."""
        found = tuple(_of_class(detections, truth, number, thresholds) for number in classes)
        return cls(found, truth.samples)

    def of_some(self, places: np.ndarray) -> Found:
        """Of some of these classes alone. places (c,) int64 : where they are among them."""
        return replace(self, each=tuple(self.each[place] for place in places.tolist()))

    def average_precision(self) -> np.ndarray:
        """Of each class at each threshold, (T, C) float64; NaN for a class without objects."""
        found: np.ndarray = self.drawn(np.ones((1, self.samples)))[0]
        return found

    def drawn(self, weights: np.ndarray) -> np.ndarray:
        """The same in resamples, (R, T, C). weights (R, N) : how often each sample is drawn."""
        return np.stack([one.values(weights) for one in self.each], axis=2)

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
    holding = truth.sample[there]
    count = np.bincount(holding, minlength=truth.samples)
    score = np.zeros(len(there))
    both = np.intersect1d(sample, holding)
    for rows, wanted in zip(_places(sample, both), _places(holding, both), strict=True):
        each = overlaps(detections.box[own[rows]], truth.box[there[wanted]])
        close = each[:0] >= 0
        for t, least in enumerate(thresholds):
            before, close = close, each >= least
            if t == 0 or not np.array_equal(close, before):
                finds = _finds(each, close)
            right[t, rows] = finds >= 0
            if t == 0:
                score[wanted[finds[finds >= 0]]] = detections.score[own[rows[finds >= 0]]]
    curves, row = np.unique(right, axis=0, return_inverse=True)
    return _OfClass(sample, curves, row.reshape(-1), count, score)


def _places(sample: np.ndarray, some: np.ndarray) -> list[np.ndarray]:
    """Where each of some samples, ascending, stands in `sample` (d,): places, ascending."""
    order = np.argsort(sample, kind="stable")
    ends = [np.searchsorted(sample[order], some, side) for side in ("left", "right")]
    return [order[first:last] for first, last in zip(*ends, strict=True)]


def _finds(each: np.ndarray, close: np.ndarray) -> np.ndarray:
    """The object that each of some boxes finds, the best box first, (d,) int64; -1 for none.

    each (d, n) : overlaps. close (d, n) bool : those that suffice.
    """
    free = np.ones(each.shape[1], bool)
    found = np.full(len(each), -1)
    for row in np.flatnonzero(close.any(axis=1)).tolist():
        place = int(np.where(free, each[row], -1.0).argmax())
        if free[place] and close[row, place]:
            free[place], found[row] = False, place
    return found


def mean(each: np.ndarray) -> float:
    """Of the classes that have objects; NaN where none has."""
    known = each[np.isfinite(each)]
    return float(known.mean()) if len(known) else float("nan")
