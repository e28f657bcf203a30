"""Which neurons do numbers counted through all taps mean: in turns of the classes, or drawn at random?"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import numpy as np

from onnxtweak.types import Neurons, Tap


def numbered(taps: Sequence[Tap], numbers: np.ndarray) -> Neurons:
    """Neurons by numbers (K,) int64 that count through all taps, in the given order."""
    starts = _starts(taps)
    tap_of = np.searchsorted(starts, numbers, side="right") - 1
    return Neurons(tuple(taps), tap_of.astype(np.int32), (numbers - starts[tap_of]).astype(np.int64))


def numbers_of(neurons: Neurons) -> np.ndarray:
    """Their numbers (K,) int64, counted through all of their taps."""
    return _starts(neurons.taps)[neurons.tap_of] + neurons.index


def drawn_at_random(taps: Sequence[Tap], count: int, seed: int) -> Neurons:
    """So many neurons, or all that there are, in the order of taps and indices."""
    drawn = np.random.default_rng(seed).permutation(int(_starts(taps)[-1]))[:count]
    return numbered(taps, np.sort(drawn))


def taking_turns(rankings: Sequence[np.ndarray], count: int) -> np.ndarray:
    """The first `count` distinct numbers, ascending, of rank 1 of each class, then rank 2, and so on.

    rankings : per class, numbers (k,) int64, best first.
    """
    turn = np.concatenate([np.arange(len(ranking)) * len(rankings) + j for j, ranking in enumerate(rankings)])
    merged = np.concatenate(rankings)[np.argsort(turn)]
    _, first = np.unique(merged, return_index=True)
    return np.sort(merged[np.sort(first)[:count]])


def _starts(taps: Sequence[Tap]) -> np.ndarray:
    """Number of the first neuron of each tap, and one past the last of all."""
    return np.cumsum([0, *(tap.neurons for tap in taps)])


def digest_of_neurons(neurons: Neurons) -> str:
    """sha256 in hex of which they are, and in which order."""
    arrays = neurons.tap_of.astype("<i4").tobytes() + neurons.index.astype("<i8").tobytes()
    return sha256(repr(neurons.taps).encode("utf-8", "surrogatepass") + arrays).hexdigest()
