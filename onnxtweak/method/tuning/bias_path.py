"""What would be predicted along the boost, or bias, of one target while the others' stay as they are?

Many choices are made on the same tables: for every class in turn, at every drop that is read off. What one
finds (the best of all other classes, breakpoints, how many samples are right) is kept for the next.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import cached_property

import numpy as np

from onnxtweak.method.tuning.boosted import BoostTable, best_among
from onnxtweak.theta.line_search import Plateaus, plateaus

# Bytes that may be kept; bytes that a path takes per sample, and per sample and count of synapses.
_CACHE_BYTES = 2**27
_BYTES, _BYTES_PER_COUNT = 40, 24


class BiasPaths:
    """What a table predicts under boosts of its targets, at any point and along one target from any."""

    def __init__(self, table: BoostTable, prefix: np.ndarray, counts: tuple[int, ...]) -> None:
        """prefix (N, c, G) float : summed boost of the first counts[g] synapses, before the division by n."""
        self.table, self.prefix, self.counts = table, prefix, counts
        self.of_target = table.goal.wanted(table.labels)
        each = (_BYTES + _BYTES_PER_COUNT * len(counts)) * max(len(table.labels), 1)
        self._most = max(_CACHE_BYTES // each, 1)
        self._known: OrderedDict[tuple, BiasPath] = OrderedDict()
        self._right: dict[tuple, tuple[int, int]] = {}
        self._boosted, self._at = table.target_logits.copy(), [(counts[0], 0.0)] * len(table.goal)

    def column(self, t: int, n: int, scale: float) -> np.ndarray:
        """(N,) boost of one target: the sum of its first n synapses, times scale / n."""
        return self.prefix[:, t, self.counts.index(n)] * (scale / n)

    def right_at(self, n: tuple[int, ...], scale: tuple[float, ...]) -> tuple[int, int]:
        """How many samples are right at a point: of all, and of the targets'."""
        if (n, scale) not in self._right:
            self._right[n, scale] = self.count(self.right(n, scale))
        return self._right[n, scale]

    def right(self, n: tuple[int, ...], scale: tuple[float, ...]) -> np.ndarray:
        """(N,) bool: which samples are right at a point."""
        boost = np.stack([self.column(t, n[t], scale[t]) for t in range(len(n))], axis=1)
        return self.table.right(boost)

    def count(self, right: np.ndarray) -> tuple[int, int]:
        """How many of the samples that are right, (N,) bool: of all, and of the targets'."""
        return int(np.count_nonzero(right)), int(np.count_nonzero(right & self.of_target))

    def through(self, n: tuple[int, ...], scale: tuple[float, ...], t: int) -> BiasPath:
        """The path through a point along which only target t moves."""
        others = tuple((k, s) if s else (0, 0.0) for k, s in zip(n, scale, strict=True))
        key = t, others[:t] + others[t + 1 :]
        if key not in self._known:
            self._known[key] = BiasPath(self, t, *self._rival(n, scale, t))
            if len(self._known) > self._most:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key]

    def _rival(self, n: tuple[int, ...], scale: tuple[float, ...], t: int) -> tuple[np.ndarray, np.ndarray]:
        """The best class but target t at a point: logit (N,), class (N,)."""
        logits = self.table.target_logits
        for k, wanted in enumerate(zip(n, scale, strict=True)):
            if self._at[k] != wanted:  # points that follow each other differ in few targets
                self._boosted[:, k] = logits[:, k] + self.column(k, *wanted).astype(logits.dtype)
                self._at[k] = wanted
        own = self._boosted[:, t].copy()
        self._boosted[:, t] = -np.inf
        found = best_among(self.table, self._boosted)
        self._boosted[:, t] = own
        return found


class BiasPath:
    """Where only target t moves. value (N,), label (N,) : logit and number of the best other class."""

    def __init__(self, paths: BiasPaths, t: int, value: np.ndarray, label: np.ndarray) -> None:
        self.paths, self.t, self.value, self.label = paths, t, value, label
        self.own, self.number = paths.table.target_logits[:, t], paths.table.goal.targets[t]
        self._right: dict[tuple[int, float], tuple[int, int]] = {}
        self._plateaus: dict[int, Plateaus] = {}

    def right(self, n: int, scale: float) -> np.ndarray:
        """(N,) bool: which samples are right with this boost of the target."""
        boosted = self.own + self.paths.column(self.t, n, scale).astype(self.own.dtype)
        wins = self.paths.table.goal.head.beats(boosted, self.number, self.value, self.label)
        return np.where(wins, self.number, self.label) == self.paths.table.labels

    def right_at(self, n: int, scale: float) -> tuple[int, int]:
        """How many samples are right with it: of all, and of the targets'."""
        if (n, scale) not in self._right:
            self._right[n, scale] = self.paths.count(self.right(n, scale))
        return self._right[n, scale]

    @cached_property
    def _gains(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Gap to the rival (N,), and what overtaking it gains: of all samples, and of the targets'."""
        labels = self.paths.table.labels
        is_own = labels == self.number
        gain = is_own.astype(np.int64) - ((labels == self.label) & ~is_own)
        # Boosting one target may take samples from another target's right answers.
        of_target = np.where(self.paths.of_target, gain, 0)
        return self.value.astype(np.float64) - self.own.astype(np.float64), gain, of_target

    def plateaus(self, n: int) -> Plateaus:
        """All distinct outcomes along the boost of the first n synapses."""
        if n not in self._plateaus:
            v = self.paths.prefix[:, self.t, self.paths.counts.index(n)] / n
            self._plateaus[n] = plateaus(v, *self._gains)
        return self._plateaus[n]
