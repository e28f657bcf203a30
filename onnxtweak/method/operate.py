"""Where to operate: which n and scale for each target, judged on validation (METHOD 4)?

The choice maximises the accuracy over the target classes among the points whose overall accuracy (and, if
asked, every class) stays within the allowed drop. The base itself, scale 0, is always among the points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from onnxtweak.method.decide import Decisions, best_rival, predict, rival_gap
from onnxtweak.theta.line_search import plateaus
from onnxtweak.types import Trial

# Coordinate ascent over targets: more sweeps than this never changed a choice that mattered.
_SWEEPS = 3
# With an exact scale, how many of the best plateaus are re-evaluated before giving up on one n.
_RETRIES = 50


@dataclass(frozen=True)
class Allowed:
    """What may be lost on validation, in percentage points; class_drop None: any class may lose."""

    overall_drop: float = 0.0
    class_drop: float | None = None


@dataclass(frozen=True)
class Operation:
    """The chosen point. n (c,) int64, scale (c,) float64 per target; a scale of 0 leaves that target alone.

    trials : the best target accuracy for each drop in overall accuracy that was seen. grid : every n and
    scale that was tried for all targets at once, in the order tried.
    """

    n: np.ndarray
    scale: np.ndarray
    trials: tuple[Trial, ...]
    grid: tuple[Trial, ...] = ()


@dataclass(frozen=True)
class _Point:
    """One operating point and how it did; compares by what is wanted of it."""

    n: tuple[int, ...]
    scale: tuple[float, ...]
    target_right: int
    overall_right: int
    allowed: bool

    @property
    def worth(self) -> tuple:
        return (self.allowed, self.target_right, self.overall_right, -sum(self.scale), -sum(self.n))


class _Judge:
    """Evaluates points on validation and remembers the trade-off between overall and target accuracy."""

    def __init__(self, table: Decisions, prefix: np.ndarray, counts: tuple[int, ...], allowed: Allowed):
        self.table, self.prefix, self.counts = table, prefix, counts
        self.of_target = np.isin(table.labels, table.targets)
        self.best: dict[int, _Point] = {}
        c = len(table.targets)
        start = predict(table, np.zeros((len(table.labels), c))) == table.labels
        self.base_right = int(start.sum())
        self.floor = self.base_right - math.floor(allowed.overall_drop / 100 * len(table.labels) + 1e-9)
        self.support = np.bincount(table.labels, minlength=table.classes)
        base_classes = np.bincount(table.labels[start], minlength=table.classes)
        self.class_floor = (
            None
            if allowed.class_drop is None
            else base_classes - np.floor(allowed.class_drop / 100 * self.support + 1e-9)
        )
        self.base = self.point((counts[0],) * c, (0.0,) * c)

    def boost(self, n: tuple[int, ...], scale: tuple[float, ...]) -> np.ndarray:
        """(N, c) boost of a point: the sum of its first n synapses, times scale / n."""
        return np.stack([self.column(t, n[t], scale[t]) for t in range(len(n))], axis=1)

    def column(self, t: int, n: int, scale: float) -> np.ndarray:
        """(N,) boost of one target."""
        return self.prefix[:, t, self.counts.index(n)] * (scale / n)

    def point(self, n: tuple[int, ...], scale: tuple[float, ...]) -> _Point:
        return self.seen(n, scale, predict(self.table, self.boost(n, scale)))

    def along(self, start: _Point, t: int) -> Callable[[int, float], _Point]:
        """`point` where only target t leaves the start: n and scale of t to what comes of them.

        The best of all other classes is the same for all of these points, and found once.
        """
        value, label = best_rival(self.table, self.boost(start.n, start.scale), t)
        own, number = self.table.target_logits[:, t], self.table.targets[t]

        def point(n: int, scale: float) -> _Point:
            boosted = own + self.column(t, n, scale).astype(own.dtype)
            wins = (boosted > value) | ((boosted == value) & (number < label))
            return self.seen(
                _with(start.n, t, n), _with(start.scale, t, scale), np.where(wins, number, label)
            )

        return point

    def seen(self, n: tuple[int, ...], scale: tuple[float, ...], predicted: np.ndarray) -> _Point:
        """The point at which so is predicted (N,), remembered."""
        right = predicted == self.table.labels
        overall, target = int(right.sum()), int((right & self.of_target).sum())
        allowed = overall >= self.floor
        if allowed and self.class_floor is not None:
            classes = np.bincount(self.table.labels[right], minlength=self.table.classes)
            allowed = bool((classes >= self.class_floor).all())
        point = _Point(n, scale, target, overall, allowed)
        seen = self.best.get(overall)
        if seen is None or target > seen.target_right:
            self.best[overall] = point
        return point

    def trials(self) -> tuple[Trial, ...]:
        """The upper hull of what was seen: falling overall accuracy, rising target accuracy."""
        found, top = [], -1
        for overall in sorted(self.best, reverse=True):
            point = self.best[overall]
            if point.target_right > top:
                top = point.target_right
                found.append(self.trial(point))
        return tuple(found)

    def trial(self, point: _Point) -> Trial:
        """A point as it is reported; n and scale are those of the first target."""
        drop = (self.base_right - point.overall_right) / len(self.table.labels) * 100
        wanted = max(int(self.of_target.sum()), 1)
        return Trial(point.n[0], point.scale[0], drop, point.target_right / wanted)


def choose(
    table: Decisions,
    prefix: np.ndarray,
    counts: tuple[int, ...],
    scales: tuple[float, ...] | None,
    allowed: Allowed,
) -> Operation:
    """The best allowed point.

    prefix (N, c, G) float : summed boost of the first counts[g] synapses of each target, at scale 1 and
    before the division by n. scales : the grid; None searches the exact scale along each direction.
    First one point for all targets, then each target on its own, in turn.
    """
    judge = _Judge(table, prefix, counts, allowed)
    best, targets = judge.base, len(table.targets)
    grid = [judge.point((n,) * targets, (float(s),) * targets) for n in counts for s in scales or ()]
    best = max([best, *grid], key=_worth)
    if targets > 1 or scales is None:
        for _ in range(_SWEEPS):
            before = best
            for t in range(targets):
                point_at = judge.along(best, t)
                for n in counts:
                    for scale in _scales_for(judge, best, t, n) if scales is None else scales:
                        point = point_at(n, float(scale))
                        if point.allowed and scales is None:
                            best = max(best, point, key=_worth)
                            break  # candidates come best first
                        best = max(best, point, key=_worth)
            if best == before:
                break
    return Operation(
        np.array(best.n, np.int64),
        np.array(best.scale, np.float64),
        judge.trials(),
        tuple(map(judge.trial, grid)),
    )


def _worth(point: _Point) -> tuple:
    return point.worth


def _with(values: tuple, at: int, value) -> tuple:
    return (*values[:at], value, *values[at + 1 :])


def _scales_for(judge: _Judge, best: _Point, target: int, n: int) -> Iterator[float]:
    """Scales for one target's direction, most promising first, by the exact line search."""
    table = judge.table
    others = _with(best.scale, target, 0.0)
    gap, rival = rival_gap(table, judge.boost(best.n, others), target)
    is_own = table.labels == table.targets[target]
    is_rival = table.labels == rival
    gain = is_own.astype(np.int64) - (is_rival & ~is_own)
    # Boosting one target may take samples from another target's right answers.
    of_target = np.where(judge.of_target, gain, 0)
    v = judge.prefix[:, target, judge.counts.index(n)] / n
    found = plateaus(v, gap, gain, of_target)
    here = judge.point(best.n, others)
    possible = np.flatnonzero(found.overall >= judge.floor - here.overall_right)
    order = np.lexsort((found.scale[possible], -found.overall[possible], -found.target[possible]))
    yield from found.scale[possible[order[:_RETRIES]]]
