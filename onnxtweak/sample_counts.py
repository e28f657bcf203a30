"""What became of the samples of each class or group, and how much does it show? Counts and intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxtweak.intervals import Interval, deviations, paired

NONE_WANTED = -1  # of groups that are only measured


@dataclass(frozen=True, eq=False)
class GroupedSamples:
    """Samples that are not independent of those of their group, all (N,) int64.

    groups : of each sample. base, bias : 1 where only the patched model is right and -1 where only the base,
    or the best bias, is.
    """

    groups: np.ndarray
    base: np.ndarray
    bias: np.ndarray

    def effect(self, rows: np.ndarray | None, *, bias: bool = False) -> float:
        """The design effect of a change in accuracy, at least 1: so many samples tell as much as one alone.

        It is the variance of the change between groups over what it would be between samples. rows (N,)
        bool : which are judged; None: all. bias : against the best bias.
        """
        rows = np.ones(len(self.groups), bool) if rows is None else rows
        change = (self.bias if bias else self.base)[rows]
        _, groups = np.unique(self.groups[rows], return_inverse=True)
        count = int(groups.max(initial=-1)) + 1
        if count < 2:
            return float(max(len(change), 1))  # one group is one observation
        away = change - change.mean()
        if not away.any():
            return 1.0
        between = (np.bincount(groups, away) ** 2).sum() * count / (count - 1)
        return max(1.0, float(between / (away**2).sum()))


def independent_changes(
    change: np.ndarray, own: np.ndarray, many: int, groups: np.ndarray | None
) -> np.ndarray:
    """As how many samples that changed alone those of each class count, (many,) float64.

    change (N,) : 1 for a sample that is right now, -1 for one that no longer is, else 0. own (N,) int64 : its
    class. groups (N,) int64 : samples that may change together; None: each alone. The root of what is found
    is the standard error of how many are right, from the sums of groups (cluster-robust), at least that of
    samples that change alone.
    """
    (changed,) = change.nonzero()
    classes = own[changed]
    alone = np.bincount(classes, minlength=many).astype(np.float64)
    if groups is None or not len(changed):
        return alone
    own_groups = groups[changed]
    order = np.lexsort((classes, own_groups))
    classes, own_groups = classes[order], own_groups[order]
    first = np.append(True, (classes[1:] != classes[:-1]) | (own_groups[1:] != own_groups[:-1])).nonzero()[0]
    sums = np.add.reduceat(change[changed[order]], first, dtype=np.float64)
    return np.maximum(alone, np.bincount(classes[first], sums**2, many))


@dataclass(frozen=True, eq=False)
class SampleCounts:
    """What became of the samples of each class, or of each group, all (C,) int64.

    samples : how many. fixed, broken : that only the patched model, or only the base, gets right. ahead,
    behind : that only the patched model, or only the best bias, gets right. own (N,) int64 : class or group
    of each sample. dependent : which of them belong together; None: none.
    """

    samples: np.ndarray
    fixed: np.ndarray
    broken: np.ndarray
    ahead: np.ndarray
    behind: np.ndarray
    own: np.ndarray | None = None
    dependent: GroupedSamples | None = None

    @classmethod
    def of(
        cls,
        own: np.ndarray,
        many: int,
        base: np.ndarray,
        bias: np.ndarray,
        groups: np.ndarray | None = None,
    ) -> SampleCounts:
        """Of N samples. own : each one's class or group, of so many. base, bias : as in `GroupedSamples`."""

        def count(rows: np.ndarray) -> np.ndarray:
            return np.bincount(own[rows], minlength=many)

        changed = count(base > 0), count(base < 0), count(bias > 0), count(bias < 0)
        dependent = None if groups is None else GroupedSamples(groups, base, bias)
        return cls(np.bincount(own, minlength=many), *changed, own, dependent)

    @property
    def fell(self) -> np.ndarray:
        """Which classes or groups the patched model does worse on than the base, (C,) bool."""
        found: np.ndarray = self.broken > self.fixed
        return found

    def change(
        self, chosen: np.ndarray | None, *, bias: bool = False, together: int = 1
    ) -> tuple[float | None, Interval | None]:
        """The change of accuracy over some classes or groups, None for all, and its interval; in points.

        bias : against the best bias. together : how many such intervals are to hold at once.
        """
        each = (self.ahead, self.behind) if bias else (self.fixed, self.broken)
        better, worse, samples = (
            int((one if chosen is None else one[chosen]).sum()) for one in (*each, self.samples)
        )
        effect = 1.0
        if self.dependent is not None and self.own is not None:
            effect = self.dependent.effect(None if chosen is None else np.isin(self.own, chosen), bias=bias)
        found = paired(better / effect, worse / effect, samples / effect, together)
        if found is None:
            return None, None
        return (better - worse) / samples * 100, (found[0] * 100, found[1] * 100)


@dataclass(frozen=True, eq=False)
class LabelCounts:
    """What became of each of several labels at once, in F1 instead of accuracy.

    samples, fixed, broken, ahead, behind (C,) int64 : how many samples have the label, and as in
    `SampleCounts` of the decisions about it. f1 (3, C) : of base, patched model and best biases. drawn
    (R, 3, C) : the same of R resamples. touched (C,) bool : whether the patch changes its logit at all.
    units (C,) int64 : how many of what was drawn again hold each label, where these may be few.
    """

    samples: np.ndarray
    fixed: np.ndarray
    broken: np.ndarray
    ahead: np.ndarray
    behind: np.ndarray
    f1: np.ndarray
    drawn: np.ndarray
    touched: np.ndarray
    units: np.ndarray | None = None

    @property
    def fell(self) -> np.ndarray:
        """Which labels the patched model does worse on than the base, (C,) bool."""
        found: np.ndarray = self.f1[1] < self.f1[0]
        return found

    def change(
        self, chosen: np.ndarray | None, *, bias: bool = False, together: int = 1
    ) -> tuple[float | None, Interval | None]:
        """The change of the mean F1 of some labels, None for all, and its interval; in points.

        bias, together : as of `SampleCounts.change`. The interval is the change with so many standard errors
        of the resamples on either side, and of each label that is touched no narrower than if one sample more
        were found and one lost.
        """
        own = np.arange(len(self.samples)) if chosen is None else np.asarray(chosen)
        own = own[self.samples[own] > 0]
        if not len(own):
            return None, None
        before = 2 if bias else 0
        change = float((self.f1[1, own] - self.f1[before, own]).mean())
        each = (self.drawn[:, 1][:, own] - self.drawn[:, before][:, own]).mean(axis=1)
        unsure = own if bias else own[self.touched[own]]
        least = float(np.sqrt((2 / (self.samples[unsure] + 2.0) ** 2).sum())) / len(own)
        drawn = None if self.units is None else max(2, int(self.units[own].max()))
        half = deviations(together, drawn) * max(float(each.std()), least)
        return change * 100, (100 * max(-1.0, change - half), 100 * min(1.0, change + half))


@dataclass(frozen=True, eq=False)
class SliceCounts:
    """What became of each group by a column. right (G,) int64 : right of the base. names : of all G.

    counts : of the groups' samples; of several labels at once, in F1 of the decisions on them.

    wanted : position of the group that should do better, or `NONE_WANTED`. column : that of the groups.
    """

    column: str
    names: Sequence[str]
    wanted: int
    right: np.ndarray
    counts: SampleCounts | LabelCounts

    def __str__(self) -> str:
        return f"{self.column}={self.names[self.wanted]}"
