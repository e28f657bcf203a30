"""Counts without a second sweep: which ratios of wrong target samples are still within the limits?

A count asks how many ratios `v * wanted` exceed the finished limit. The limits only grow (METHOD 11), so a
ratio that does not exceed today's limit never counts; those that do are kept until a higher limit drops them.
On average less than one per neuron is left at the end. Exact, in any order.
"""

from __future__ import annotations

import numpy as np

from onnxtweak.theta.numba.survivor_kernels import count_all, keep_beyond
from onnxtweak.theta.state import ThetaState

# Bytes that one kept ratio takes: target, neuron, ratio.
RATIO_BYTES = 12
# Pruning sorts nothing but touches every kept ratio: done when this many have come on top of the last rest.
_FRESH = 1 << 18


class Survivors:
    """The ratios of one tap that may still count. Positive ratios belong to `hi`, negative ones to `lo`."""

    def __init__(self, most: int) -> None:
        """most : how many may be kept."""
        self.most = most
        self.overflowed = False
        self._chunks: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._size = self._rest = 0

    def add(self, state: ThetaState, target: np.ndarray, neuron: np.ndarray, ratio: np.ndarray) -> None:
        """Keep what a batch found. target, neuron (n,) int32; ratio (n,) float32.

        When more than `most` would stay after pruning, all are dropped and `overflowed` is set.
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
        """Take in those of another shard, as copies. state : with the limits of both."""
        if other.overflowed:
            self.overflowed = True
            self._chunks.clear()
        self.add(state, *other.all())

    def restore(self, target: np.ndarray, neuron: np.ndarray, ratio: np.ndarray, overflowed: bool) -> None:
        """Be as another was when `all` was called on it."""
        self.overflowed = overflowed
        self._chunks = [] if overflowed else [(target, neuron, ratio)]
        self._size = self._rest = 0 if overflowed else len(ratio)

    def prune(self, state: ThetaState) -> None:
        """Drop what the limits of `state` have overtaken."""
        kept = self.all()
        count = keep_beyond(*kept, state.hi, state.lo)
        self._chunks = [tuple(array[:count].copy() for array in kept)]
        self._size = self._rest = count

    def count(self, state: ThetaState) -> None:
        """Fill the counts of a state whose limits are finished, and `last_*` of neurons without a limit."""
        self.prune(state)
        (kept,) = self._chunks
        count_all(*kept, state.count_hi, state.count_lo, state.last_hi, state.last_lo)

    def all(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A copy of everything kept: target, neuron (n,) int32, ratio (n,) float32."""
        if not self._chunks:
            return np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32)
        target, neuron, ratio = (np.concatenate(parts) for parts in zip(*self._chunks, strict=True))
        return target, neuron, ratio
