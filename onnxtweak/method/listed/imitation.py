"""How would other samples look if what spoils must-samples befell them? Imitations, to be learnt from too.

A must-sample `x` is compared with `m`, the mean of the samples of its class that are most like it:

    x = gain m + offset + rest        gain, offset : least squares over the numbers of the sample

and another sample `x'`, of any class, imitates it as `gain x' + offset + rest`, within the range of what was
seen. The rest is laid on as it is where it hangs together, as fog does, and is drawn anew for each number
where it does not, as noise: how much of either, its correlations tell. Fog, noise, lower contrast, another
camera come out much as they are; what moves or mixes numbers of a sample (a long blur) does not. Whether
imitations help, samples held out decide (METHOD 14).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxtweak.method.table import Table

# Samples that are most like a must-sample. Between 3 and 40 little changes.
_NEAREST = 10
# Rests of fewer samples do not tell how their numbers depend on each other; a number whose rests deviate by
# less is the same in all.
_FEWEST, _SAME = 6, 1e-6


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

    gain, offset (m,) float32; rest (m, D) float32. apart : the share of the rests' variance in which their
    numbers do not depend on each other, from 0 to 1. low, high : the least and the largest number seen.
    """

    number: np.ndarray
    gain: np.ndarray
    offset: np.ndarray
    rest: np.ndarray
    apart: float
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
        return cls(known, gain, offset, rest, _apart(rest), min(ends, default=0.0), max(ends, default=0.0))

    def on(self, samples: np.ndarray, which: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Samples (n, D) float32 as if that had befallen them. which (n,) int64 : like which, by place.

        rng : draws the must-sample that each number's own part of the rest is taken from.
        """
        mean = self.rest.mean(axis=0)
        drawn = rng.integers(0, len(self.rest), samples.shape, np.int32)
        own = np.take_along_axis(self.rest, drawn, axis=0) - mean
        rest = np.sqrt(1 - self.apart) * (self.rest[which] - mean) + np.sqrt(self.apart) * own
        found = self.gain[which, None] * samples + self.offset[which, None] + (mean + rest)
        return np.clip(found, self.low, self.high).astype(np.float32)


def _apart(rest: np.ndarray) -> float:
    """The weight of no correlation at all in the best estimate of the correlations of rest (m, D): J. Schäfer
    and K. Strimmer, *A Shrinkage Approach to Large-Scale Covariance Matrix Estimation*, 2005.

    It is `sum Var(r) / sum r^2` over the correlations `r` of any two numbers.
    """
    z = rest.astype(np.float64) - rest.mean(axis=0)
    scale = np.sqrt((z**2).mean(axis=0))
    z = z[:, scale > _SAME] / scale[scale > _SAME]
    count, numbers = z.shape
    if count < _FEWEST or numbers < 2:
        return 0.0
    # Sums over all pairs of numbers, by the products of samples: there may be 100,000 numbers.
    squares = float(((z @ z.T / count) ** 2).sum()) - numbers
    products = float(((z**2).sum(axis=1) ** 2).sum() - (z**4).sum())
    varying = count / (count - 1) ** 3 * (products - count * squares)
    return float(np.clip(varying / squares, 0, 1)) if squares > 0 else 1.0
