"""The folds of theta on the CPU, in Numba: the limits, the sums, the counts, and what may still count.

The neurons are cut into tiles of `TILE`, so that the state of a tile stays in the cache while all samples of
a batch pass by.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import njit

from onnxtweak.theta.limits import fold_limits
from onnxtweak.theta.threads import share_out

__all__ = ["find_survivors", "fold_limits", "fold_sums", "fold_wanted"]

TILE = 1024


@njit(cache=True, nogil=True, boundscheck=False)
def _add(v, total, peak):
    for m in range(total.size):
        x = v[m]
        total[m] += x
        x = abs(x)
        peak[m] = x if x > peak[m] else peak[m]


@njit(cache=True, nogil=True, boundscheck=False)
def _sums(V, member, total, peak, first, last):
    """Tiles [first, last) of `fold_sums`."""
    B, M = V.shape
    for tile in range(first, last):
        start = tile * TILE
        stop = min(start + TILE, M)
        for r in range(B):
            j = member[r]
            if j >= 0:
                _add(V[r, start:stop], total[j, start:stop], peak[j, start:stop])


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
def _beyond(v, s, hi, lo):
    """How many ratios of one sample lie beyond the limits: vectorised, to skip the samples with none."""
    found = 0
    for m in range(hi.size):
        x = v[m] * s
        found += np.int32(x > hi[m]) + np.int32(-x > lo[m])
    return found


@njit(cache=True, nogil=True, boundscheck=False)
def _survivors(V, rows, targets, factors, hi, lo, start, stop):
    """Survivors among neurons [start, stop) of the listed (row, target, factor) triples."""
    room = 0
    for k in range(rows.size):
        j = targets[k]
        room += _beyond(V[rows[k], start:stop], factors[k], hi[j, start:stop], lo[j, start:stop])
    target = np.empty(room, np.int32)
    neuron = np.empty(room, np.int32)
    ratio = np.empty(room, np.float32)
    at = 0
    for k in range(rows.size):
        j = targets[k]
        for tile in range(start, stop, TILE):
            end = min(tile + TILE, stop)
            v = V[rows[k], tile:end]
            if _beyond(v, factors[k], hi[j, tile:end], lo[j, tile:end]) == 0:
                continue
            for m in range(v.size):
                x = v[m] * factors[k]
                if x > hi[j, tile + m] or -x > lo[j, tile + m]:
                    target[at] = j
                    neuron[at] = tile + m
                    ratio[at] = x
                    at += 1
    return target, neuron, ratio


def fold_sums(V, member, total, peak, pool: ThreadPoolExecutor | None = None) -> None:
    """See `numpy_backend.fold_sums`; `pool`: threads to share the tiles among."""
    share_out(_sums, (V, member, total, peak), -(-V.shape[1] // TILE), pool)


def fold_wanted(
    V, wanted, hi, lo, count_hi, count_lo, last_hi, last_lo, pool: ThreadPoolExecutor | None = None
) -> None:
    """See `numpy_backend.fold_wanted`; `pool`: threads to share the tiles among."""
    work = (V, wanted, hi, lo, count_hi, count_lo, last_hi, last_lo)
    share_out(_wanted, work, -(-V.shape[1] // TILE), pool)


def find_survivors(V, wanted, hi, lo, pool: ThreadPoolExecutor | None = None):
    """See `numpy_backend.find_survivors`, in another order; `pool`: threads to share the neurons among."""
    rows, targets = np.nonzero(wanted)
    work = (V, rows, targets, wanted[rows, targets], hi, lo)
    parts = share_out(_survivors, work, V.shape[1], pool if len(rows) else None)
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))
