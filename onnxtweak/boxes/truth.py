"""Which objects are in the pictures, and where?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True, eq=False)
class AnchorBoxes:
    """The base's boxes of anchors that matter.

    rows (m,) int64, ascending : the anchors, counted over all samples. box (m, 4) float32. objectness (m,)
    float32 : what their scores are multiplied with.
    """

    rows: np.ndarray
    box: np.ndarray
    objectness: np.ndarray

    def of(self, rows: np.ndarray) -> tuple[np.ndarray, AnchorBoxes]:
        """Which of some anchors (n,) matter, (k,) int64 places; and these."""
        place = np.minimum(np.searchsorted(self.rows, rows), max(len(self.rows) - 1, 0))
        known = np.flatnonzero(self.rows[place] == rows) if len(self.rows) else np.empty(0, np.int64)
        own = place[known]
        return known, AnchorBoxes(self.rows[own], self.box[own], self.objectness[own])


@dataclass(frozen=True, eq=False)
class Truth:
    """Labelled boxes of N samples.

    sample (B,) int64 : that each box is in, ascending. number (B,) int64 : its class. box (B, 4) float32 :
    left, top, right, bottom, in pixels of what the model is fed. samples : N. anchors : boxes of
    a model, once these are known.
    """

    sample: np.ndarray
    number: np.ndarray
    box: np.ndarray
    samples: int
    anchors: AnchorBoxes | None = None

    @classmethod
    def of(cls, rows: Sequence[np.ndarray]) -> Truth:
        """rows : of each sample (n, 5), class and box of its objects."""
        sample = np.repeat(np.arange(len(rows)), [len(one) for one in rows])
        joined = np.concatenate([np.empty((0, 5), np.float32), *rows])
        return cls(sample, joined[:, 0].astype(np.int64), joined[:, 1:].astype(np.float32), len(rows))

    @property
    def rows(self) -> np.ndarray:
        """All of it, (B, 6) float64: sample, class, box."""
        return np.column_stack([self.sample, self.number, self.box]).astype(np.float64)

    @cached_property
    def starts(self) -> np.ndarray:
        """Where the boxes of each sample begin, (N + 1,) int64."""
        return np.searchsorted(self.sample, np.arange(self.samples + 1))

    def within(self, sample: int) -> tuple[np.ndarray, np.ndarray]:
        """Classes and boxes of a sample."""
        span = slice(int(self.starts[sample]), int(self.starts[sample + 1]))
        return self.number[span], self.box[span]

    def some(self, samples: np.ndarray) -> Truth:
        """The boxes of some samples, (n,) int64, numbered from 0 on in that order."""
        return Truth.of([np.column_stack(self.within(int(one))) for one in samples])

    @property
    def rarest(self) -> np.ndarray:
        """The rarest class of each sample, (N,) int64, by which they are dealt out; behind all for none."""
        count = np.bincount(self.number, minlength=1)
        return np.fromiter(self._rarest(count), np.int64, self.samples)

    def _rarest(self, count: np.ndarray) -> Iterator[int]:
        for sample in range(self.samples):
            number, _ = self.within(sample)
            yield int(number[count[number].argmin()]) if len(number) else len(count)
