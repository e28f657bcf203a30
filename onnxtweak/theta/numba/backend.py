"""The folds of theta on the CPU, in Numba: the limits, the sums, the counts, and what may still count.

The neurons are cut into tiles of `TILE`, so that the state of a tile stays in the cache while all samples of
a batch pass by.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import njit

from onnxtweak.theta.numba.count_kernels import add_rows, beyond_panel, lowest_bit
from onnxtweak.theta.numba.limits import fold_limits
from onnxtweak.theta.numba.simd import LANES, STREAMS, flat
from onnxtweak.theta.threads import share_out

__all__ = ["find_survivors", "fold_limits", "fold_sums", "fold_wanted"]

TILE = 2048
# Survivors there is room for at first.
_ROOM = 4096


@njit(cache=True, nogil=True, boundscheck=False)
def _sums(values, rows, begins, total, peak, neurons, first, last):
    """Tiles [first, last) of `fold_sums`. rows : where samples begin; those of target j from begins[j] on."""
    for start in range(first * TILE, min(last * TILE, neurons), TILE):
        stop = min(start + TILE, neurons)
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


@njit(cache=True, nogil=True, boundscheck=False)
def _count(v, s, hi, lo, count_hi, count_lo, last_hi, last_lo):
    for m in range(hi.size):
        x = v[m] * s
        count_hi[m] += np.int32(x > hi[m])
        count_lo[m] += np.int32(-x > lo[m])
        up = x if x > 0 else np.float32(np.inf)
        down = -x if x < 0 else np.float32(np.inf)
        last_hi[m] = up if up < last_hi[m] else last_hi[m]
        last_lo[m] = down if down < last_lo[m] else last_lo[m]


@njit(cache=True, nogil=True, boundscheck=False)
def _wanted(V, wanted, hi, lo, count_hi, count_lo, last_hi, last_lo, first, last):
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


@njit(cache=True, nogil=True, boundscheck=False)
def _survivors(values, rows, targets, factors, hi, lo, neurons, first, last):
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


def fold_sums(V, member, total, peak, pool: ThreadPoolExecutor | None = None) -> None:
    """See `numpy_backend.fold_sums`; `pool`: threads to share the tiles among."""
    neurons = V.shape[1]
    order = np.argsort(member, kind="stable")  # in each target, sample by sample
    begins = np.searchsorted(member[order], np.arange(len(total) + 1))
    rows = (order * neurons).astype(np.uintp)
    work = (flat(V), rows, begins, flat(total), flat(peak), neurons)
    share_out(_sums, work, -(-neurons // TILE), pool)


def fold_wanted(
    V, wanted, hi, lo, count_hi, count_lo, last_hi, last_lo, pool: ThreadPoolExecutor | None = None
) -> None:
    """See `numpy_backend.fold_wanted`; `pool`: threads to share the tiles among."""
    work = (V, wanted, hi, lo, count_hi, count_lo, last_hi, last_lo)
    share_out(_wanted, work, -(-V.shape[1] // TILE), pool)


def find_survivors(V, wanted, hi, lo, pool: ThreadPoolExecutor | None = None):
    """See `numpy_backend.find_survivors`, in another order; `pool`: threads to share the neurons among."""
    neurons = V.shape[1]
    # Target by target, whose limits stay in the cache.
    targets, rows = map(np.ascontiguousarray, np.nonzero(wanted.T))
    work = (flat(V), rows, targets, wanted[rows, targets], flat(hi), flat(lo), neurons)
    parts = share_out(_survivors, work, -(-neurons // TILE), pool if len(rows) else None)
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))
