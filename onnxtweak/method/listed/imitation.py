"""How would other samples look if what spoils must-samples befell them? Imitations, to be learnt from too.

A must-sample `x` is compared with `m`, the mean of the samples of its class that are most like it:

    x = gain m + offset + rest        gain, offset : least squares over the numbers of the sample

and another sample `x'`, of any class, imitates it as `gain x' + offset + rest`, within the range of what was
seen. Fog, noise, lower contrast, another camera come out much as they are; what moves or mixes numbers of a
sample (a long blur) does not. Whether imitations help, samples held out decide (METHOD 14).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxtweak.method.table import Table

# Samples that are most like a must-sample. Between 3 and 40 little changes.
_NEAREST = 10


@dataclass(frozen=True, eq=False)
class Imitated:
    """Rows of imitations. table : their labels are those of the samples that imitate. like (n,) int64 : the
    number of the must-row that each is like."""

    table: Table
    like: np.ndarray

    def of(self, must: np.ndarray) -> Table:
        """Those that are like some must-rows. must (k,) int64 : their numbers."""
        return self.table.rows(np.flatnonzero(np.isin(self.like, must)))


@dataclass(frozen=True, eq=False)
class Spoiling:
    """What befell some must-samples of D numbers each. number (m,) int64 : which they are.

    gain, offset (m,) float32; rest (m, D) float32. low, high : the least and the largest number seen.
    """

    number: np.ndarray
    gain: np.ndarray
    offset: np.ndarray
    rest: np.ndarray
    low: float
    high: float

    @classmethod
    def of(cls, must: tuple[np.ndarray, np.ndarray], sound: tuple[np.ndarray, np.ndarray]) -> Spoiling:
        """Of must-samples of whose class there are sound ones. Each : samples (n, D) float32, labels (n,)."""
        (x, labels), (others, of_others) = must, sound
        known = np.flatnonzero(np.isin(labels, of_others))
        mean = np.empty((len(known), x.shape[1]), np.float32)
        for label in np.unique(labels[known]):
            own, same = known[labels[known] == label], others[of_others == label]
            centred = same - same.mean(axis=1, keepdims=True)
            length = np.linalg.norm(centred, axis=1) + np.finfo(np.float32).tiny
            alike = centred @ (x[own] - x[own].mean(axis=1, keepdims=True)).T / length[:, None]
            nearest = np.argsort(-alike, axis=0, kind="stable")[:_NEAREST]
            mean[np.searchsorted(known, own)] = [same[each].mean(axis=0) for each in nearest.T]
        x = x[known]
        level, own_level = mean.mean(axis=1), x.mean(axis=1)
        spread = mean - level[:, None]
        square = (spread**2).sum(axis=1)
        gain = (spread * x).sum(axis=1) / np.where(square > 0, square, np.inf)
        offset = own_level - gain * level
        rest = x - gain[:, None] * mean - offset[:, None]
        ends = [end for one in (x, others) if one.size for end in (float(one.min()), float(one.max()))]
        return cls(known, gain, offset, rest, min(ends, default=0.0), max(ends, default=0.0))

    def on(self, samples: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Samples (n, D) float32 as if that had befallen them. which (n,) int64 : like which, by place."""
        found = self.gain[which, None] * samples + self.offset[which, None] + self.rest[which]
        return np.clip(found, self.low, self.high)
