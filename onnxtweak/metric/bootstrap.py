"""How far can a metric, or a change of it, be trusted? Samples drawn again with replacement say so.

A metric such as the worst class, or a recall at the best cut, has no interval in closed form. Each resample
gives every sample a weight, how often it was drawn, and groups that belong together are drawn whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from onnxtweak.intervals import Interval
from onnxtweak.metric.kinds import Metric, Predictions

RESAMPLES = 1000
# Resamples are so many at least, and samples that are drawn in all of them together so many at most.
_FEWEST, _MOST_DRAWN = 100, 30_000_000
_BLOCK = 1 << 14  # weights in a block
_TAILS = (2.5, 97.5)  # of a 95 % interval


def resampled(
    metric: Metric, made: Sequence[Predictions], groups: np.ndarray | None = None, *, many: int = RESAMPLES
) -> np.ndarray:
    """The metric of several models on the same samples, (resamples, models) float64.

    groups (N,) int64 : samples that are drawn together. The seed is fixed. Of very many samples fewer
    resamples are made, at least 100: they tell the same.
    """
    values = [metric.weighed(each) for each in made]
    blocks = drawn_together(len(made[0]), made[0].labels.size, groups, many=many)
    return np.concatenate([np.stack([value(weights) for value in values], axis=1) for weights in blocks])


def drawn_together(
    samples: int, decisions: int, groups: np.ndarray | None = None, *, many: int = RESAMPLES
) -> Iterator[np.ndarray]:
    """How often each sample is drawn, (R, N) float64, in one block of resamples after the other.

    decisions : how many the samples hold, one each or more. The rest as of `resampled`.
    """
    codes, drawn = np.arange(samples), samples
    if groups is not None:
        _, codes = np.unique(groups, return_inverse=True)
        drawn = int(codes.max(initial=-1)) + 1
    rng = np.random.Generator(np.random.PCG64(0))
    many, at_once = (
        min(many, max(_FEWEST, _MOST_DRAWN // max(decisions, 1))),
        max(_BLOCK // max(samples, 1), 1),
    )
    for first in range(0, many, at_once):
        count = min(at_once, many - first)
        place = rng.integers(0, drawn, (count, drawn)) + drawn * np.arange(count)[:, None]
        times = np.bincount(place.reshape(-1), minlength=count * drawn).reshape(count, drawn)
        yield (times if groups is None else times.take(codes, axis=1)).astype(np.float64)


def interval(values: np.ndarray) -> Interval | None:
    """The 95 % interval of values (many,) on resamples; None where they are no numbers."""
    known = values[np.isfinite(values)]
    if not len(known):
        return None
    low, high = np.percentile(known, _TAILS)
    return float(low), float(high)
