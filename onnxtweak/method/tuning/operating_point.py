"""Which operating point is the best: which n and scale for each target, judged on validation (METHOD 4)?

The choice maximises the accuracy over the target classes among the points whose overall accuracy (and, if
asked for, every class) stays within the allowed drop. The base itself, scale 0, is always among the points.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from onnxtweak.goal import Goal
from onnxtweak.method.tuning.bias_path import BiasPath, BiasPaths
from onnxtweak.method.tuning.boosted import BoostTable
from onnxtweak.types import Trial

# Coordinate ascent over targets: more sweeps than this never changed a choice that mattered.
_SWEEPS = 3
# With an exact scale, how many of the best plateaus are re-evaluated before giving up on one n.
_RETRIES = 50

_Number = TypeVar("_Number")


@dataclass(frozen=True)
class OperatingPoint:
    """The chosen point. n (c,) int64, scale (c,) float64 per target; a scale of 0 leaves that target alone.

    trials : the best target accuracy at each drop in overall accuracy that was seen. grid : every n and
    scale that was tried for all targets at once, in the order tried.
    """

    n: np.ndarray
    scale: np.ndarray
    trials: tuple[Trial, ...]
    grid: tuple[Trial, ...] = ()


@dataclass(frozen=True)
class _Point:
    """One operating point and how it did."""

    n: tuple[int, ...]
    scale: tuple[float, ...]
    target_right: int
    overall_right: int
    allowed: bool

    @property
    def worth(self) -> tuple[bool, int, int, float, int]:
        """What points are compared by."""
        return (self.allowed, self.target_right, self.overall_right, -sum(self.scale), -sum(self.n))


class _PointJudge:
    """Evaluates points on validation and remembers the trade-off between overall and target accuracy."""

    def __init__(self, paths: BiasPaths, goal: Goal) -> None:
        self.paths, self.table, c = paths, paths.table, len(goal)
        labels, classes = self.table.labels, self.table.classes
        no_op = (paths.counts[0],) * c, (0.0,) * c
        self.base_right = paths.right_at(*no_op)[0]
        self.floor = goal.overall_floor(self.base_right, len(labels))
        self.best: dict[int, _Point] = {}
        self.class_floor = goal.class_floor(paths.right(*no_op), labels, classes)
        self.base = self.point(*no_op)

    def point(self, n: tuple[int, ...], scale: tuple[float, ...]) -> _Point:
        """Any point."""
        return self._judged(n, scale, self.paths.right_at(n, scale), lambda: self.paths.right(n, scale))

    def along(self, start: _Point, path: BiasPath, n: int, scale: float) -> _Point:
        """A point where only the path's target leaves the start."""
        all_n, all_scale = _with(start.n, path.t, n), _with(start.scale, path.t, scale)
        return self._judged(all_n, all_scale, path.right_at(n, scale), lambda: path.right(n, scale))

    def _judged(
        self,
        n: tuple[int, ...],
        scale: tuple[float, ...],
        counted: tuple[int, int],
        right: Callable[[], np.ndarray],
    ) -> _Point:
        """A point, remembered. counted : samples right, of all and of the targets; right : which."""
        overall, target = counted
        allowed = overall >= self.floor
        if allowed and self.class_floor is not None:
            classes = np.bincount(self.table.labels[right()], minlength=self.table.classes)
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
        wanted = max(int(self.paths.of_target.sum()), 1)
        return Trial(point.n[0], point.scale[0], drop, point.target_right / wanted)


def choose(
    table: BoostTable,
    prefix: np.ndarray,
    counts: tuple[int, ...],
    scales: tuple[float, ...] | None,
    *,
    goal: Goal | None = None,
    paths: BiasPaths | None = None,
) -> OperatingPoint:
    """The best point within the drops that the goal allows; the table's goal, where no other is given.

    prefix (N, c, G) float : summed boost of the first counts[g] synapses of each target, at scale 1 and
    before the division by n. scales : the grid; None searches the exact scale along each direction.
    First one point for all targets, then each target on its own, in turn. paths : of the same table, prefix
    and counts, shared by several choices, each of which reuses what the others found.
    """
    paths = BiasPaths(table, prefix, counts) if paths is None else paths
    judge = _PointJudge(paths, table.goal if goal is None else goal)
    best, targets = judge.base, len(table.goal)
    grid = [judge.point((n,) * targets, (float(s),) * targets) for n in counts for s in scales or ()]
    best = max([best, *grid], key=_worth)
    if targets > 1 or scales is None:
        for _ in range(_SWEEPS):
            before = best
            for t in range(targets):
                start, path = best, paths.through(best.n, best.scale, t)
                for n in counts:
                    for scale in _scales_for(judge, best, path, n) if scales is None else scales:
                        point = judge.along(start, path, n, float(scale))
                        if point.allowed and scales is None:
                            best = max(best, point, key=_worth)
                            break  # candidates come best first
                        best = max(best, point, key=_worth)
            if best == before:
                break
    return OperatingPoint(
        np.array(best.n, np.int64),
        np.array(best.scale, np.float64),
        judge.trials(),
        tuple(map(judge.trial, grid)),
    )


def _worth(point: _Point) -> tuple[bool, int, int, float, int]:
    return point.worth


def _with(values: tuple[_Number, ...], at: int, value: _Number) -> tuple[_Number, ...]:
    return (*values[:at], value, *values[at + 1 :])


def _scales_for(judge: _PointJudge, best: _Point, path: BiasPath, n: int) -> Iterator[float]:
    """Scales for one target's direction, most promising first, by the exact line search."""
    unboosted = judge.along(best, path, best.n[path.t], 0.0)
    found = path.plateaus(n)
    possible = np.flatnonzero(found.overall >= judge.floor - unboosted.overall_right)
    order = np.lexsort((found.scale[possible], -found.overall[possible], -found.target[possible]))
    yield from found.scale[possible[order[:_RETRIES]]]
