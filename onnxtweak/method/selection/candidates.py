"""What is kept of theta when its state is gone? The candidates for a choice, and a histogram of all.

Blocks of neurons come one after the other, and each is dropped before the next. What is kept of them does
not depend on where the blocks were cut.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from onnxtweak.engine.scoring.finish import BlockScores
from onnxtweak.theta.state import Scores, ThetaState, finish, state_slice

# Neurons that are handled together: few enough that the arithmetic stays in the cache.
_CHUNK = 1 << 17
# Bins per power of ten in the histogram of weights.
_BINS = 64


@dataclass(frozen=True)
class Candidates:
    """The best neurons for one target by each criterion: K of them, in the order of their numbers.

    number (K,) int64 : counted through all taps. weight (K,) float64, count (K,) int32, lift (K,) float64 :
    as in `Scores`, weights never 0.
    """

    number: np.ndarray
    weight: np.ndarray
    count: np.ndarray
    lift: np.ndarray

    def take(self, chosen: np.ndarray) -> Candidates:
        """Some of them."""
        return Candidates(*(part[chosen] for part in vars(self).values()))


@dataclass(frozen=True)
class ThetaSizes:
    """A histogram of |weight| over all neurons, for one target.

    bins (k,) int64 ascending : floors of 64 log10 |weight|. counts (k,) int64. nought : neurons of weight 0.
    """

    bins: np.ndarray
    counts: np.ndarray
    nought: int


@dataclass(frozen=True)
class Theta:
    """Theta of every neuron, as far as choices need it. One entry of `best` and `sizes` per target.

    most : how many of the best by each criterion are known. dropped : neurons that were NaN or infinite.
    predicted (N,) int64 : by the base.
    """

    best: tuple[Candidates, ...]
    sizes: tuple[ThetaSizes, ...]
    most: int
    dropped: int
    predicted: np.ndarray


# Where all scores of some neurons go: target (its position), number of the first neuron, scores.
Sink = Callable[[int, int, Scores], None]


def no_theta(targets: int, most: int) -> Theta:
    """Before the first block."""
    best = Candidates(np.empty(0, np.int64), np.empty(0), np.empty(0, np.int32), np.empty(0))
    sizes = ThetaSizes(np.empty(0, np.int64), np.empty(0, np.int64), 0)
    return Theta((best,) * targets, (sizes,) * targets, most, 0, np.empty(0, np.int64))


def add_block(theta: Theta, block: BlockScores, sink: Sink | None = None, threads: int | None = 1) -> Theta:
    """Theta with the neurons of one more block. Blocks must come in order.

    sink : gets all scores on the way. threads : that targets are shared among; None: all cores.
    """

    def of_target(t: int) -> tuple[Candidates, ThetaSizes]:
        best, sizes = theta.best[t], theta.sizes[t]
        for first, states in chunks:
            parts = [vars(finish(state, t)).values() for state in states]
            scores = Scores(*map(np.concatenate, zip(*parts, strict=True)))
            if sink is not None:
                sink(t, first, scores)
            best = add_scores(best, scores, first, theta.most)
            sizes = add_weights(sizes, scores.weight)
        return best, sizes

    chunks = _chunks(block)
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        best, sizes = zip(*pool.map(of_target, range(len(theta.best))), strict=True)
    dropped = theta.dropped + sum(int(state.bad.sum()) for state in block.states)
    return Theta(best, sizes, theta.most, dropped, block.predicted)


def _chunks(block: BlockScores) -> list[tuple[int, list[ThetaState]]]:
    """Neurons that are handled together: the number of the first, and the states of all, in order."""
    chunks: list[tuple[int, list[ThetaState]]] = []
    room = 0
    for tap_slice, state in zip(block.block, block.states, strict=True):
        start = 0
        while start < len(tap_slice):
            if not room:
                chunks.append((tap_slice.number + start, []))
                room = _CHUNK
            stop = min(start + room, len(tap_slice))
            chunks[-1][1].append(state_slice(state, start, stop))
            room -= stop - start
            start = stop
    return chunks


def top(number: np.ndarray, keys: Sequence[np.ndarray], n: int) -> np.ndarray:
    """Positions (n,), in no order, of the largest by the first key; ties by the next, then the lower number.

    number and each key (K,), numbers ascending.
    """
    chosen = [np.empty(0, np.int64)]
    among = np.arange(len(number))
    for key in keys:
        if len(among) <= n:
            break
        values = key[among]
        cut = np.partition(values, len(values) - n)[len(values) - n]
        above = among[values > cut]
        chosen.append(above)
        among = among[values == cut]
        n -= len(above)
    return np.concatenate([*chosen, among[:n]])


def add_scores(known: Candidates, scores: Scores, first: int, most: int) -> Candidates:
    """The best of the known candidates and of neurons with higher numbers, from `first` on."""
    fresh = _worth(known, scores, most)
    both = [
        np.concatenate(pair)
        for pair in (
            (known.number, fresh + first),
            (known.weight, scores.weight[fresh]),
            (known.count, scores.count[fresh]),
            (known.lift, scores.lift[fresh]),
        )
    ]
    merged = Candidates(*both)
    if len(merged.number) <= most:
        return merged
    size = np.abs(merged.weight)
    fixing = np.flatnonzero(merged.count)
    keep = np.zeros(len(size), bool)
    keep[top(merged.number, (size,), most)] = True
    keep[top(merged.number, (merged.lift, size), most)] = True
    # Of those that fix nothing, the first by count are the first by size.
    keep[fixing[top(merged.number[fixing], (merged.count[fixing], size[fixing]), most)]] = True
    return merged.take(np.flatnonzero(keep))


def _worth(known: Candidates, scores: Scores, most: int) -> np.ndarray:
    """Positions of neurons that may be among the best: a quick look that rules out most of them."""
    size = np.abs(scores.weight)
    if len(known.number) < most:
        return np.flatnonzero(size)
    least_size, least_lift = _floor(np.abs(known.weight), most), _floor(known.lift, most)
    worth = (size > least_size) | (scores.lift >= least_lift)
    fixing = known.count > 0
    if fixing.sum() < most:
        worth |= scores.count > 0
    else:
        least = _floor(known.count[fixing], most)
        # Neurons with this count are the last to get in; of them, the largest do.
        left = most - int((known.count > least).sum())
        tied = _floor(np.abs(known.weight[known.count == least]), left)
        worth |= (scores.count > least) | ((scores.count == least) & (size > tied))
    return np.flatnonzero(worth & (size > 0))


def _floor(key: np.ndarray, n: int) -> float:
    """The n-th largest."""
    return np.partition(key, len(key) - n)[len(key) - n]


def add_weights(known: ThetaSizes, weight: np.ndarray) -> ThetaSizes:
    """The histogram with more neurons. weight (m,) float64."""
    size = np.abs(weight[weight != 0])
    bins = np.floor(np.log10(size) * _BINS).astype(np.int64)
    lowest = int(bins.min(initial=0))
    counts = np.bincount(bins - lowest)
    found = np.flatnonzero(counts)
    merged, position = np.unique(np.concatenate([known.bins, found + lowest]), return_inverse=True)
    total = np.zeros(len(merged), np.int64)
    np.add.at(total, position, np.concatenate([known.counts, counts[found]]))
    return ThetaSizes(merged, total, known.nought + len(weight) - len(size))


def edges_of(bins: np.ndarray) -> np.ndarray:
    """Sizes |weight| at which the bins (k,) of `ThetaSizes` begin."""
    return 10.0 ** (bins / _BINS)
