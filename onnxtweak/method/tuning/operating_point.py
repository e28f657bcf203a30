"""Which operating point is the best: which n and scale for each target, judged on validation (METHOD 4)?

The choice maximises the accuracy over the target classes among the points whose overall accuracy (and, if
asked for, every class) stays within the allowed drop. The base itself, scale 0, is always among the points.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from typing import TypeVar

import numpy as np

from onnxtweak.goal import ResolvedGoal
from onnxtweak.method.folds import Arrays
from onnxtweak.method.tuning.bias_path import BiasPath, BiasPaths
from onnxtweak.method.tuning.boosted import BoostTable
from onnxtweak.patch import DensePatch
from onnxtweak.types import Trial

# Coordinate ascent over targets: more sweeps than this never changed a choice that mattered.
_SWEEPS = 3
# Allowances, in percentage points of overall accuracy, whose choices a larger allowance starts from as well:
# ascent may end lower where it is free to go elsewhere, and who may lose more must not get less.
_ALLOWANCES = (0.0, 0.1, 0.3, 0.5, 1.0, 2.0, 3.0, 5.0)
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

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All of it, as `of_arrays` reads it."""
        tried = {"trials": as_array(self.trials), "grid": as_array(self.grid)}
        return {"n": self.n, "scale": self.scale, **tried}

    @classmethod
    def of_arrays(cls, kept: Arrays) -> OperatingPoint:
        """What `arrays` gave."""
        return cls(kept["n"], kept["scale"], as_trials(kept["trials"]), as_trials(kept["grid"]))

    @classmethod
    def of_patch(
        cls, patch: DensePatch | None, neurons: int, targets: np.ndarray, trials: tuple[Trial, ...]
    ) -> OperatingPoint:
        """Of a patch that is as strong as it should be: scale 1, or its biases if that is all; 0 for None."""
        scale = np.zeros(len(targets))
        if patch is not None and patch.output_bias is not None:
            scale = np.ones(len(targets)) if neurons else np.asarray(patch.output_bias[targets], np.float64)
        return cls(np.full(len(targets), neurons), scale, trials)


def as_array(trials: Sequence[Trial]) -> np.ndarray:
    """Trials as (n, 4) float64, which `as_trials` reads."""
    return np.array([astuple(trial) for trial in trials], np.float64).reshape(-1, 4)


def as_trials(array: np.ndarray) -> tuple[Trial, ...]:
    """What `as_array` gave."""
    return tuple(Trial(int(n), *rest) for n, *rest in array.tolist())


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

    def __init__(self, paths: BiasPaths, goal: ResolvedGoal) -> None:
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


def rising(drop: float) -> tuple[float, ...]:
    """The usual allowances below `drop`, and `drop` itself, ascending."""
    return (*(usual for usual in _ALLOWANCES if usual < drop), drop)


def choose_rising(
    table: BoostTable, prefix: np.ndarray, counts: tuple[int, ...], scales: tuple[float, ...] | None
) -> OperatingPoint:
    """`choose` for the usual allowances up to the goal's in turn: none gets less than a smaller one did."""
    paths, goal = BiasPaths(table, prefix, counts), table.goal
    point = None
    for drop in rising(goal.max_overall_drop) if len(goal) > 1 else (goal.max_overall_drop,):
        within = replace(goal, max_overall_drop=drop)
        point = choose(table, prefix, counts, scales, goal=within, paths=paths, after=point)
    assert point is not None  # there is one allowance at least
    return point


def choose(
    table: BoostTable,
    prefix: np.ndarray,
    counts: tuple[int, ...],
    scales: tuple[float, ...] | None,
    *,
    goal: ResolvedGoal | None = None,
    paths: BiasPaths | None = None,
    after: OperatingPoint | None = None,
) -> OperatingPoint:
    """The best point within the drops that the goal allows; the table's goal, where no other is given.

    prefix (N, c, G) float : summed boost of the first counts[g] synapses of each target, at scale 1 and
    before the division by n. scales : the grid; None searches the exact scale along each direction.
    First one point for all targets, then each target on its own, in turn. paths : of the same table, prefix
    and counts, shared by several choices, each of which reuses what the others found. after : the choice for
    a smaller allowance: a worse one is not made.
    """
    paths = BiasPaths(table, prefix, counts) if paths is None else paths
    judge = _PointJudge(paths, table.goal if goal is None else goal)
    targets = len(table.goal)
    grid = [judge.point((n,) * targets, (float(s),) * targets) for n in counts for s in scales or ()]
    best = max([judge.base, *grid], key=_worth)
    if targets > 1 or scales is None:
        best = _ascended(judge, best, scales)
    if after is not None:
        earlier = judge.point(tuple(after.n.tolist()), tuple(after.scale.tolist()))
        if earlier.worth > best.worth:
            best = _ascended(judge, earlier, scales)
    return OperatingPoint(
        np.array(best.n, np.int64),
        np.array(best.scale, np.float64),
        judge.trials(),
        tuple(map(judge.trial, grid)),
    )


def _ascended(judge: _PointJudge, best: _Point, scales: tuple[float, ...] | None) -> _Point:
    """The best point that is found from one by moving each target on its own, in turn."""
    paths = judge.paths
    for _ in range(_SWEEPS):
        before = best
        for t in range(len(best.n)):
            start, path = best, paths.through(best.n, best.scale, t)
            for n in paths.counts:
                for scale in _scales_for(judge, best, path, n) if scales is None else scales:
                    point = judge.along(start, path, n, float(scale))
                    if point.allowed and scales is None:
                        best = max(best, point, key=_worth)
                        break  # candidates come best first
                    best = max(best, point, key=_worth)
        if best == before:
            break
    return best


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
