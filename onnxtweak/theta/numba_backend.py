"""The folds of theta in Numba: each value of V is read from memory once, for all targets.

V is cut into tiles of `TILE` neurons. A first sweep over a tile finds, for every sample, the largest |v|
and whether any v is negative; it also brings the tile into the cache. A sample whose largest |v| times its
reciprocal gap cannot raise any maximum of the tile is skipped: exact, because rounding is monotone. The
longer a run, the higher the maxima, the more is skipped.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
from numba import njit

TILE = 512
ROWS = 32  # samples per tile: TILE * ROWS * 4 bytes stay in a 1 MB second-level cache with room to spare
_INFINITY_BITS = 0x7F800000
_SIGN_FREE = 0x7FFFFFFF


@njit(cache=True, nogil=True, boundscheck=False)
def _sweep(bits):
    """Largest |v| as bits, and the OR of all bits (its sign bit tells a negative), of one row of a tile.

    On integers, because a float maximum must mind NaN and is then not vectorised. Slices, because an index
    that may be negative is not vectorised either.
    """
    largest = np.int32(0)
    signs = np.int32(0)
    for m in range(bits.size):
        b = bits[m]
        signs |= b
        largest = max(largest, b & np.int32(_SIGN_FREE))
    return largest, signs


@njit(cache=True, nogil=True, boundscheck=False)
def _raise1(v, s, best):
    for m in range(best.size):
        x = v[m] * s
        b = best[m]
        best[m] = x if x > b else b


@njit(cache=True, nogil=True, boundscheck=False)
def _raise4(v0, s0, v1, s1, v2, s2, v3, s3, best):
    """Four samples at once: the running maximum is loaded and stored once for four products."""
    for m in range(best.size):
        a = v0[m] * s0
        b = v1[m] * s1
        c = v2[m] * s2
        d = v3[m] * s3
        a = a if a > b else b
        c = c if c > d else d
        a = a if a > c else c
        b = best[m]
        best[m] = a if a > b else b


@njit(cache=True, nogil=True, boundscheck=False)
def _raise_rows(V, rows, factors, count, start, stop, best):
    i = 0
    while i + 4 <= count:
        _raise4(
            V[rows[i], start:stop], factors[i],
            V[rows[i + 1], start:stop], factors[i + 1],
            V[rows[i + 2], start:stop], factors[i + 2],
            V[rows[i + 3], start:stop], factors[i + 3],
            best[start:stop],
        )  # fmt: skip
        i += 4
    while i < count:
        _raise1(V[rows[i], start:stop], factors[i], best[start:stop])
        i += 1


@njit(cache=True, nogil=True, boundscheck=False)
def _lowest(values):
    """Smallest of a stretch of non-negative floats, by their bits."""
    lowest = np.int32(_INFINITY_BITS)
    for m in range(values.size):
        lowest = min(lowest, values[m])
    return lowest


@njit(cache=True, nogil=True, boundscheck=False)
def _limits(V, bits, limit, hi, lo, hi_bits, lo_bits, bad, first, last):
    """Tiles [first, last) of `fold_limits`."""
    B, M = V.shape
    targets = limit.shape[1]
    largest = np.empty(ROWS, np.float32)
    largest_bits = largest.view(np.int32)
    negative = np.empty(ROWS, np.bool_)
    up = np.empty(2 * ROWS, np.int64)
    up_factor = np.empty(2 * ROWS, np.float32)
    down = np.empty(2 * ROWS, np.int64)
    down_factor = np.empty(2 * ROWS, np.float32)
    floor = np.empty(2, np.float32)
    floor_bits = floor.view(np.int32)
    for tile in range(first, last):
        start = tile * TILE
        stop = min(start + TILE, M)
        for r0 in range(0, B, ROWS):
            r1 = min(r0 + ROWS, B)
            for r in range(r0, r1):
                top, signs = _sweep(bits[r, start:stop])
                if top >= _INFINITY_BITS:
                    for m in range(start, stop):
                        if (bits[r, m] & _SIGN_FREE) >= _INFINITY_BITS:
                            bad[m] = True
                    top = np.int32(_INFINITY_BITS)
                largest_bits[r - r0] = top
                negative[r - r0] = signs < 0
            for j in range(targets):
                floor_bits[0] = _lowest(hi_bits[j, start:stop])
                floor_bits[1] = _lowest(lo_bits[j, start:stop])
                ups = 0
                downs = 0
                for r in range(r0, r1):
                    s = limit[r, j]
                    if s == 0:
                        continue
                    reach = largest[r - r0] * abs(s)
                    if (s > 0 or negative[r - r0]) and not reach <= floor[0]:
                        up[ups] = r
                        up_factor[ups] = s
                        ups += 1
                    if (s < 0 or negative[r - r0]) and not reach <= floor[1]:
                        down[downs] = r
                        down_factor[downs] = -s
                        downs += 1
                _raise_rows(V, up, up_factor, ups, start, stop, hi[j])
                _raise_rows(V, down, down_factor, downs, start, stop, lo[j])


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


def _over_tiles(kernel, arguments: tuple, neurons: int, pool: ThreadPoolExecutor | None) -> None:
    tiles = -(-neurons // TILE)
    edges = _shares(tiles, 1 if pool is None else pool._max_workers)
    if len(edges) == 2:
        kernel(*arguments, 0, tiles)
        return
    parts = [pool.submit(kernel, *arguments, a, b) for a, b in pairwise(edges)]
    for part in parts:
        part.result()


def fold_limits(V, limit, hi, lo, bad, pool: ThreadPoolExecutor | None = None) -> None:
    """See `numpy_backend.fold_limits`; `pool`: threads to share the tiles among."""
    views = (V.view(np.int32), limit, hi, lo, hi.view(np.int32), lo.view(np.int32))
    _over_tiles(_limits, (V, *views, bad), V.shape[1], pool)


def fold_sums(V, member, total, peak, pool: ThreadPoolExecutor | None = None) -> None:
    """See `numpy_backend.fold_sums`; `pool`: threads to share the tiles among."""
    _over_tiles(_sums, (V, member, total, peak), V.shape[1], pool)


def fold_wanted(
    V, wanted, hi, lo, count_hi, count_lo, last_hi, last_lo, pool: ThreadPoolExecutor | None = None
) -> None:
    """See `numpy_backend.fold_wanted`; `pool`: threads to share the tiles among."""
    _over_tiles(_wanted, (V, wanted, hi, lo, count_hi, count_lo, last_hi, last_lo), V.shape[1], pool)


def find_survivors(V, wanted, hi, lo, pool: ThreadPoolExecutor | None = None):
    """See `numpy_backend.find_survivors`, in another order; `pool`: threads to share the neurons among."""
    rows, targets = np.nonzero(wanted)
    work = (V, rows, targets, wanted[rows, targets], hi, lo)
    edges = _shares(V.shape[1], 1 if pool is None or not len(rows) else pool._max_workers)
    if len(edges) == 2:
        return _survivors(*work, 0, V.shape[1])
    parts = [pool.submit(_survivors, *work, a, b) for a, b in pairwise(edges)]
    return tuple(np.concatenate(column) for column in zip(*(part.result() for part in parts), strict=True))


def _shares(count: int, workers: int) -> list[int]:
    """Edges of as even shares of `count` as whole numbers allow, none of them empty."""
    workers = max(1, min(workers, count))
    return [count * k // workers for k in range(workers + 1)]
