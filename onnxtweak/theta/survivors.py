"""Which ratios of wrong target samples may still count? Survivors: counts without a second sweep.

A count is the number of ratios `v * wanted` that exceed the finished limit. The limits only grow (METHOD 11),
so a ratio that does not exceed the limit so far can never count; those that do survive until a higher limit
drops them. On average less than one per neuron is left at the end. Exact, in any order.
"""

from __future__ import annotations

import numpy as np

from onnxtweak.theta.backend import Found
from onnxtweak.theta.state import ThetaState

# Bytes of one survivor: target, neuron, ratio.
RATIO_BYTES = 12
# Pruning reads every survivor: done when so many have come since the last time, or as many as were left then.
_FRESH = 1 << 18


class Survivors:
    """The ratios of one tap that may still count. Positive ratios belong to `hi`, negative ones to `lo`."""

    def __init__(self, most: int) -> None:
        """most : how many may be kept in memory."""
        self.most = most
        self.overflowed = False
        self._chunks: list[Found] = []
        self._size = self._rest = 0

    def add(self, state: ThetaState, target: np.ndarray, neuron: np.ndarray, ratio: np.ndarray) -> None:
        """Keep those found in a batch: target, neuron (n,) int32; ratio (n,) float32.

        When more than `most` are left after pruning, all are dropped and `overflowed` is set.
        """
        if self.overflowed or not len(ratio):
            return
        self._chunks.append((target, neuron, ratio))
        self._size += len(ratio)
        if self._size - self._rest > max(_FRESH, self._rest):
            self.prune(state)
        if self._size > self.most:
            self.prune(state)
            if self._size > self.most:
                self.overflowed = True
                self._chunks.clear()

    def absorb(self, state: ThetaState, other: Survivors) -> None:
        """Add copies of another shard's. state : with the limits of both."""
        if other.overflowed:
            self.overflowed = True
            self._chunks.clear()
        self.add(state, *other.all())

    def restore(self, target: np.ndarray, neuron: np.ndarray, ratio: np.ndarray, overflowed: bool) -> None:
        """Restore what `all` returned, and `overflowed`."""
        self.overflowed = overflowed
        self._chunks = [] if overflowed else [(target, neuron, ratio)]
        self._size = self._rest = 0 if overflowed else len(ratio)

    def prune(self, state: ThetaState) -> None:
        """Drop those that no longer exceed the limits of `state`."""
        # Numba is loaded by those who score alone: what plans a pass needs `RATIO_BYTES` from here.
        from onnxtweak.theta.numba.survivor_kernels import keep_beyond

        target, neuron, ratio = self.all()
        count = keep_beyond(target, neuron, ratio, state.hi, state.lo)
        self._chunks = [(target[:count].copy(), neuron[:count].copy(), ratio[:count].copy())]
        self._size = self._rest = count

    def count(self, state: ThetaState) -> None:
        """Fill the counts of a state whose limits are finished, and `last_*` of neurons without a limit."""
        from onnxtweak.theta.numba.survivor_kernels import count_all

        self.prune(state)
        (survivors,) = self._chunks
        count_all(*survivors, state.count_hi, state.count_lo, state.last_hi, state.last_lo)

    def all(self) -> Found:
        """A copy of all of them: target, neuron (n,) int32, ratio (n,) float32."""
        if not self._chunks:
            return np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32)
        target, neuron, ratio = (np.concatenate(parts) for parts in zip(*self._chunks, strict=True))
        return target, neuron, ratio
