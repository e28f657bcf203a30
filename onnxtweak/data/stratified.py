"""How are samples dealt out so that every class is everywhere, and groups stay whole?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxtweak.data.dataset import Dataset, counted
from onnxtweak.data.several.marks import rarest
from onnxtweak.errors import DataError
from onnxtweak.quantities import number_of

_MOST_TIMES = 50  # that a position is repeated where repetitions stand for weights
_NOT_PLAIN = 0.75  # of the positions drawn
# A label is rare that fewer positions have; they are looked for among so many times the positions drawn.
_RARE, _AMONG = 0.2, 40


def stratified_split(
    labels: np.ndarray, fractions: Sequence[float], seed: int, groups: np.ndarray | None = None
) -> tuple[np.ndarray, ...]:
    """Rows of each part, ascending int64, each class divided by `fractions` as evenly as whole samples allow.

    labels (N,) int64. A class with at least as many samples as there are parts is present in each.
    Deterministic in (labels, fractions, seed). groups (N,) int64 : as of `deal_groups`, by which they are
    dealt then. Raises DataError when a part stays empty.
    """
    if groups is None:
        split = _deal_samples(labels, fractions, seed)
        what = number_of(len(labels), "sample")
    else:
        dealt = deal_groups(labels, groups, fractions, seed)
        split = tuple(np.flatnonzero(dealt == part) for part in range(len(fractions)))
        count = len(np.unique(groups))
        what = f"samples of {count} {'group' if count == 1 else 'groups'}"
    if not all(map(len, split)):
        raise DataError(
            f"{what} are too few to split into {len(fractions)} parts",
            hint="give more samples, or give --val and --test",
        )
    return split


def deal_groups(labels: np.ndarray, groups: np.ndarray, fractions: Sequence[float], seed: int) -> np.ndarray:
    """The part of each sample, (N,) int64: no group in two parts, classes divided as evenly as that allows.

    labels, groups (N,) int64. The largest groups are dealt first, each to the part that then departs least
    from `fractions` of every class and of all samples (squared departures over the samples expected). A class
    that is left with no more groups than there are parts without it goes to one of these, and no part stays
    empty where there are as many groups as parts. Deterministic in (labels, groups, fractions, seed).
    """
    share = np.asarray(fractions, np.float64) / np.sum(fractions)
    _, groups = np.unique(groups, return_inverse=True)
    classes, labels = np.unique(labels, return_inverse=True)
    whole = len(classes)  # one more "class": all samples
    order = np.lexsort((labels, groups))
    starts = np.searchsorted(groups[order], np.arange(groups.max(initial=-1) + 2))
    held = [
        np.unique(labels[order[a:b]], return_counts=True) for a, b in zip(starts, starts[1:], strict=False)
    ]
    # How many groups are left that have a sample of a class, or any sample.
    left = np.bincount(np.concatenate([kinds for kinds, _ in held]), minlength=whole)
    left = np.append(left, len(held))
    expected = np.outer(share, np.append(np.bincount(labels, minlength=whole), len(labels)))
    filled = np.zeros_like(expected)
    part_of = np.empty(len(held), np.int64)
    shuffled = np.random.Generator(np.random.PCG64(seed)).permutation(len(held))
    for group in shuffled[np.argsort(-np.diff(starts)[shuffled], kind="stable")].tolist():
        kinds, counts = held[group]
        rare = kinds[left[kinds].argmin()]
        kinds, counts = np.append(kinds, whole), np.append(counts, counts.sum())
        possible = np.ones(len(share), bool)
        for needed in (rare, whole):
            lacking = filled[:, needed] == 0
            possible = lacking if lacking.any() and left[needed] <= lacking.sum() else possible
        room = expected[:, kinds]
        cost = ((2 * counts * (filled[:, kinds] - room) + counts**2) / room).sum(axis=1)
        part = int(np.where(possible, np.round(cost, 9), np.inf).argmin())
        filled[part, kinds] += counts
        left[kinds] -= 1
        part_of[group] = part
    return part_of[groups]


def drawn_rows(
    data: Dataset, samples: np.ndarray, most: int, seed: int, *, labelled: bool = True
) -> np.ndarray:
    """Rows of positions of some samples, ascending int64: about `most`, as many of each sample, drawn.

    data : whose samples have a label at every position. labelled : whether those that do not count are left
    out. samples (n,) int64, ascending. Deterministic in the labels and `seed`.
    """
    known, each = data.labels, max(1, most // max(len(samples), 1))
    if data.several:
        known = known.max(axis=1)
    known = known.reshape(len(data), -1)
    rng = np.random.Generator(np.random.PCG64(seed))
    rows = [np.empty(0, np.int64)]
    for sample, own in zip(samples.tolist(), data.by_part.positions_of(samples).tolist(), strict=True):
        places = np.flatnonzero(known[sample, :own] >= (0 if labelled else -1))
        if len(places) > each:
            places = np.sort(rng.choice(places, each, replace=False))
        rows.append(sample * data.positions + places)
    return np.concatenate(rows)


@dataclass(frozen=True, eq=False)
class Thinned:
    """Positions that were drawn, some more likely than others.

    rows (n,) int64 : which, ascending. weights (n,) float64 : how much each counts, the inverse of how likely
    it was to be drawn. judged (n,) bool : those that may be judged on, whatever the base made of them.
    """

    rows: np.ndarray
    weights: np.ndarray
    judged: np.ndarray

    def weight(self, rows: np.ndarray) -> np.ndarray:
        """Of some of the rows, (m,) float64."""
        found: np.ndarray = self.weights[np.searchsorted(self.rows, rows)]
        return found

    @property
    def times(self) -> np.ndarray:
        """How often each row counts, the least once, (n,) int64: drawn so that these are right on average."""
        each = np.minimum(self.weights / self.weights.min(initial=np.inf), _MOST_TIMES)
        draw = np.random.Generator(np.random.PCG64(0)).random(len(each))
        found: np.ndarray = np.floor(each + draw).astype(np.int64)
        return found

    def may_be_judged_on(self, rows: np.ndarray) -> np.ndarray:
        """Which of some of the rows, (m,) bool."""
        found: np.ndarray = self.judged[np.searchsorted(self.rows, rows)]
        return found


def thinned(rows: np.ndarray, hard: np.ndarray, plain: np.ndarray, most: int, seed: int) -> Thinned:
    """About `most` of some positions: hard ones, up to a half, and of the others the more that are not plain.

    rows (n,) int64 : ascending. hard (n,) bool : those that teach most; none of them is judged on unless it
    is drawn among all. plain (n,) bool : of which a few will do.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    likely = np.zeros(len(rows))
    chosen, judged = np.zeros((2, len(rows)), bool)
    room = most - min(int(hard.sum()), most // 2)
    others = min(int((~plain).sum()), max(room - int(plain.sum()), round(_NOT_PLAIN * room)))
    for own, count in ((plain, room - others), (~plain, others)):
        among = np.flatnonzero(own)
        drawn = rng.choice(among, min(count, len(among)), replace=False)
        judged[drawn], likely[among] = True, len(drawn) / max(len(among), 1)
    left = np.flatnonzero(hard & ~judged)
    more = rng.choice(left, min(most - room, len(left)), replace=False)
    chosen[more] = chosen[judged] = True
    likely[hard] += (1 - likely[hard]) * len(more) / max(len(left), 1)
    return Thinned(rows[chosen], 1 / likely[chosen], judged[chosen])


def drawn_marks(data: Dataset, samples: np.ndarray, most: int, seed: int) -> Thinned:
    """About `most` positions of some samples, up to half of them with a label that few positions have.

    data : whose positions may have several labels at once. The rest as of `drawn_rows`.
    """
    rows = drawn_rows(data, samples, _AMONG * most, seed)
    if len(rows) <= most:
        return Thinned(rows, np.ones(len(rows)), np.ones(len(rows), bool))
    there = data.labels[rows] == 1
    rare = there.mean(axis=0) < _RARE
    return thinned(rows, there[:, rare].any(axis=1), np.zeros(len(rows), bool), most, seed)


def labels_of_samples(data: Dataset) -> np.ndarray:
    """A label for each sample, (N,) int64, by which samples are dealt out: of several, the rarest."""
    if data.pending is not None:
        return data.labels
    if data.several:
        if not data.sizes:
            return rarest(data.labels)
        return rarest(data.labels.reshape(len(data), data.positions, -1).max(axis=1))
    if not data.sizes:
        return data.labels
    count = counted(data.labels)
    found = np.zeros(len(data), np.int64)
    for sample, row in enumerate(data.labels.reshape(len(data), -1)):
        there = np.flatnonzero(np.bincount(row[row >= 0], minlength=1))
        found[sample] = there[count[there].argmin()] if len(there) else 0
    return found


def _deal_samples(labels: np.ndarray, fractions: Sequence[float], seed: int) -> tuple[np.ndarray, ...]:
    shuffle = np.random.Generator(np.random.PCG64(seed)).permutation
    parts: list[list[np.ndarray]] = [[] for _ in fractions]
    owed = np.zeros(len(fractions))
    for number in np.unique(labels):
        rows = shuffle(np.flatnonzero(labels == number))
        exact = len(rows) * np.asarray(fractions) / np.sum(fractions)
        counts = _counts(exact, owed)
        owed += exact - counts
        ends = np.cumsum(counts)
        for part, piece in zip(parts, np.split(rows, ends[:-1]), strict=True):
            part.append(piece)
    return tuple(np.sort(np.concatenate([np.empty(0, np.int64), *part])) for part in parts)


def _counts(exact: np.ndarray, owed: np.ndarray) -> np.ndarray:
    """Integers with the sum of `exact`, by largest remainder; none is zero where there are samples enough.

    owed : how many samples each part is short of so far, over all classes; it breaks ties, so that the parts
    come out even.
    """
    samples = round(exact.sum())
    # Rounding keeps 20 * 0.2 from losing a sample to 3.9999999.
    counts = np.floor(np.round(exact, 9)).astype(np.int64)
    order = np.lexsort((-np.round(owed, 9), -np.round(exact - counts, 9)))
    counts[order[: samples - counts.sum()]] += 1
    while samples >= len(counts) and (counts == 0).any():
        counts[counts.argmax()] -= 1
        counts[counts.argmin()] += 1
    return counts
