"""How are samples summed, counted and searched for survivors, tile by tile? The loops of `backend`, in Numba.

The neurons are cut into tiles of `TILE`, so that the state of a tile stays in the cache while all samples of
a batch pass by. `first`, `last` : tiles [first, last).
"""

from __future__ import annotations

import numpy as np

from onnxtweak.theta.numba.compiled import compiled
from onnxtweak.theta.numba.count_kernels import add_rows, beyond_panel, lowest_bit
from onnxtweak.theta.numba.simd import LANES, STREAMS

TILE = 2048
# Survivors there is room for at first.
_ROOM = 4096


def by_target(member: np.ndarray, targets: int, neurons: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the samples of each target begin in V, one after the other, and where each target's do.

    member (b,) int64 : as in `fold_sums`. Returns rows (b,) uintp; begins (targets + 1,) int64.
    """
    order = np.argsort(member, kind="stable")  # in each target, sample by sample
    begins = np.searchsorted(member[order], np.arange(targets + 1))
    return (order * neurons).astype(np.uintp), begins


@compiled
def sum_tiles(values, rows, begins, total, peak, neurons, first, last):
    """Tiles [first, last) of `fold_sums`. rows, begins : as `by_target` has them."""
    sum_span(values, rows, begins, total, peak, neurons, first * TILE, min(last * TILE, neurons))


@compiled
def sum_span(values, rows, begins, total, peak, neurons, first, last):
    """Neurons [first, last) of `fold_sums`, a tile at a time."""
    for start in range(first, last, TILE):
        stop = min(start + TILE, last)
        whole = start + (stop - start) // LANES * LANES
        for j in range(begins.size - 1):
            # So few at a time that the hardware reads all of them ahead.
            for k in range(begins[j], begins[j + 1], STREAMS):
                end = min(k + STREAMS, begins[j + 1])
                here = np.uintp(j * neurons + start)
                add_rows(
                    values, rows, np.uintp(k), np.uintp(end - k), np.uintp(start), total, peak, here,
                    np.uintp((stop - start) // LANES),
                )  # fmt: skip
                for i in range(k, end):
                    for m in range(whole, stop):
                        v = values[rows[i] + np.uintp(m)]
                        at = j * neurons + m
                        total[at] += v
                        peak[at] = abs(v) if abs(v) > peak[at] else peak[at]


@compiled
def _count(v, s, hi, lo, count_hi, count_lo, last_hi, last_lo):
    for m in range(hi.size):
        x = v[m] * s
        count_hi[m] += np.int32(x > hi[m])
        count_lo[m] += np.int32(-x > lo[m])
        up = x if x > 0 else np.float32(np.inf)
        down = -x if x < 0 else np.float32(np.inf)
        last_hi[m] = up if up < last_hi[m] else last_hi[m]
        last_lo[m] = down if down < last_lo[m] else last_lo[m]


@compiled
def count_tiles(V, wanted, hi, lo, count_hi, count_lo, last_hi, last_lo, first, last):
    """Tiles [first, last) of `fold_wanted`."""
    B, M = V.shape
    for tile in range(first, last):
        start = tile * TILE
        stop = min(start + TILE, M)
        for j in range(wanted.shape[1]):
            for r in range(B):
                s = wanted[r, j]
                if s == 0:
                    continue
                _count(
                    V[r, start:stop], s, hi[j, start:stop], lo[j, start:stop],
                    count_hi[j, start:stop], count_lo[j, start:stop],
                    last_hi[j, start:stop], last_lo[j, start:stop],
                )  # fmt: skip


@compiled
def find_in_tiles(values, rows, targets, factors, hi, lo, neurons, first, last):
    """Survivors among the tiles [first, last) of the listed (row, target, factor) triples."""
    target = np.empty(_ROOM, np.int32)
    neuron = np.empty(_ROOM, np.int32)
    ratio = np.empty(_ROOM, np.float32)
    found = 0
    for begin in range(first * TILE, min(last * TILE, neurons), TILE):
        end = min(begin + TILE, neurons)
        for k in range(rows.size):
            row, limits, s = rows[k] * neurons, targets[k] * neurons, factors[k]
            if found + end - begin > target.size:
                more = max(target.size, end - begin)
                target = np.concatenate((target, np.empty(more, np.int32)))
                neuron = np.concatenate((neuron, np.empty(more, np.int32)))
                ratio = np.concatenate((ratio, np.empty(more, np.float32)))
            whole = begin + (end - begin) // LANES * LANES
            for start in range(begin, whole, LANES):
                here = np.uintp(limits + start)
                mask = beyond_panel(values, np.uintp(row + start), s, hi, lo, here)
                while mask:
                    m = start + np.int64(lowest_bit(mask))
                    target[found], neuron[found], ratio[found] = targets[k], m, values[row + m] * s
                    found += 1
                    mask &= mask - np.uint32(1)
            for m in range(whole, end):
                x = values[row + m] * s
                if x > hi[limits + m] or -x > lo[limits + m]:
                    target[found], neuron[found], ratio[found] = targets[k], m, x
                    found += 1
    return target[:found], neuron[:found], ratio[:found]
