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

TILE = 1024
# Samples per tile: TILE * ROWS * 4 bytes stay in a second-level cache of half a megabyte and more.
ROWS = 128
# Up to this many targets reading V is the cost: tiles are read SPAN at a time, and fewer samples of each.
FEW, SPAN = 16, 16
_INFINITY_BITS = np.int32(0x7F800000)
_SIGN_FREE = np.int32(0x7FFFFFFF)


@njit(cache=True, nogil=True, boundscheck=False)
def _sweep(bits, at, count):
    """Largest |v| as bits, and the OR of all bits (its sign bit tells a negative), of one row of a tile.

    On integers, because a float maximum must mind NaN and is then not vectorised. Unsigned positions in a
    flat array, because slices cost more than the arithmetic and signed positions are not vectorised. Casts,
    because Numba would widen to 64 bits.
    """
    largest = np.int32(0)
    signs = np.int32(0)
    for k in range(count):
        b = bits[at + np.uintp(k)]
        signs = np.int32(signs | b)
        a = np.int32(b & _SIGN_FREE)
        largest = a if a > largest else largest
    return largest, signs


@njit(cache=True, nogil=True, boundscheck=False)
def _raise1(values, at, s, best):
    for m in range(best.size):
        x = values[at + np.uintp(m)] * s
        b = best[m]
        best[m] = x if x > b else b


@njit(cache=True, nogil=True, boundscheck=False)
def _raise8(values, at, s, i, best):
    """Eight samples at once: the running maximum is loaded and stored once for eight products.

    at, s : where in `values` each sample begins, and its factor, from position i on.
    """
    a0, a1, a2, a3 = at[i], at[i + 1], at[i + 2], at[i + 3]
    a4, a5, a6, a7 = at[i + 4], at[i + 5], at[i + 6], at[i + 7]
    s0, s1, s2, s3 = s[i], s[i + 1], s[i + 2], s[i + 3]
    s4, s5, s6, s7 = s[i + 4], s[i + 5], s[i + 6], s[i + 7]
    for k in range(best.size):
        m = np.uintp(k)
        a, b, c, d = values[a0 + m] * s0, values[a1 + m] * s1, values[a2 + m] * s2, values[a3 + m] * s3
        e, f, g, h = values[a4 + m] * s4, values[a5 + m] * s5, values[a6 + m] * s6, values[a7 + m] * s7
        a = a if a > b else b
        c = c if c > d else d
        e = e if e > f else f
        g = g if g > h else h
        a = a if a > c else c
        e = e if e > g else g
        a = a if a > e else e
        b = best[m]
        best[m] = a if a > b else b


@njit(cache=True, nogil=True, boundscheck=False)
def _raise_rows(values, at, factors, count, best):
    """The chosen samples, times their factors, into the running maximum of a tile."""
    i = 0
    while i + 8 <= count:
        _raise8(values, at, factors, i, best)
        i += 8
    while i < count:
        _raise1(values, at[i], factors[i], best)
        i += 1


@njit(cache=True, nogil=True, boundscheck=False)
def _lowest(values):
    """Smallest of a stretch of non-negative floats, by their bits."""
    lowest = _INFINITY_BITS
    for m in range(values.size):
        v = values[m]
        lowest = v if v < lowest else lowest
    return lowest


@njit(cache=True, nogil=True, boundscheck=False)
def _limits(V, bits, limit, hi, lo, hi_bits, lo_bits, bad, span, first, last):
    """Tiles [first, last) of `fold_limits`, `span` tiles at a time. limit (c, B): as the loops want it."""
    B, M = V.shape
    targets = limit.shape[0]
    rows = max(8, ROWS // span)
    largest = np.empty((span, rows), np.float32)
    largest_bits = largest.view(np.int32)
    negative = np.empty((span, rows), np.bool_)
    # The smallest maximum of each tile and target: what a sample must exceed to matter.
    floor_hi = np.empty((span, targets), np.float32)
    floor_lo = np.empty((span, targets), np.float32)
    floor_hi_bits, floor_lo_bits = floor_hi.view(np.int32), floor_lo.view(np.int32)
    steepest = np.empty(targets, np.float32)
    chosen = np.empty(rows, np.uintp)
    factors = np.empty(rows, np.float32)
    # With many targets a tile is worth a copy: rows of V often lie a power of two apart and push each other
    # out of the cache. The padding keeps those of the copy from doing the same.
    copied = span == 1
    held = np.empty((rows, TILE + 16) if copied else (1, 1), np.float32)
    values = held.reshape(-1) if copied else V.reshape(-1)
    for block in range(first, last, span):
        tiles = min(span, last - block)
        for k in range(tiles):
            start = (block + k) * TILE
            stop = min(start + TILE, M)
            for j in range(targets):
                floor_hi_bits[k, j] = _lowest(hi_bits[j, start:stop])
                floor_lo_bits[k, j] = _lowest(lo_bits[j, start:stop])
        for r0 in range(0, B, rows):
            r1 = min(r0 + rows, B)
            # Row by row over the whole span: long stretches of memory in order, which hardware reads fastest.
            for r in range(r0, r1):
                for k in range(tiles):
                    start = (block + k) * TILE
                    stop = min(start + TILE, M)
                    top, signs = _sweep(bits, np.uintp(r * M + start), stop - start)
                    if top >= _INFINITY_BITS:
                        _mark(V[r, start:stop], bad[start:stop])
                        top = _INFINITY_BITS
                    largest_bits[k, r - r0] = top
                    negative[k, r - r0] = signs < 0
                    if copied:
                        _copy(V[r, start:stop], held[r - r0])
            for j in range(targets):
                steepest[j] = 0
                for r in range(r0, r1):
                    steepest[j] = max(steepest[j], abs(limit[j, r]))
            for k in range(tiles):
                start = (block + k) * TILE
                stop = min(start + TILE, M)
                tallest = np.float32(0)
                for r in range(r1 - r0):
                    tallest = max(tallest, largest[k, r])
                for j in range(targets):
                    # Most tiles are out of reach of every sample once the run is under way.
                    if tallest * steepest[j] <= min(floor_hi[k, j], floor_lo[k, j]):
                        continue
                    # Only values of the limit's own sign raise `hi`; those of the other sign raise `lo`.
                    count = 0
                    for r in range(r0, r1):
                        s = limit[j, r]
                        counts = s > 0 or (s < 0 and negative[k, r - r0])
                        if counts and not largest[k, r - r0] * abs(s) <= floor_hi[k, j]:
                            chosen[count] = (r - r0) * (TILE + 16) if copied else r * M + start
                            factors[count] = s
                            count += 1
                    if count:
                        _raise_rows(values, chosen, factors, count, hi[j, start:stop])
                        floor_hi_bits[k, j] = _lowest(hi_bits[j, start:stop])
                    count = 0
                    for r in range(r0, r1):
                        s = limit[j, r]
                        counts = s < 0 or (s > 0 and negative[k, r - r0])
                        if counts and not largest[k, r - r0] * abs(s) <= floor_lo[k, j]:
                            chosen[count] = (r - r0) * (TILE + 16) if copied else r * M + start
                            factors[count] = -s
                            count += 1
                    if count:
                        _raise_rows(values, chosen, factors, count, lo[j, start:stop])
                        floor_lo_bits[k, j] = _lowest(lo_bits[j, start:stop])


@njit(cache=True, nogil=True, boundscheck=False)
def _copy(source, target):
    for m in range(source.size):
        target[m] = source[m]


@njit(cache=True, nogil=True, boundscheck=False)
def _mark(values, bad):
    for m in range(bad.size):
        if not np.isfinite(values[m]):
            bad[m] = True


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
    bits = V.reshape(-1).view(np.int32)
    views = (bits, np.ascontiguousarray(limit.T), hi, lo, hi.view(np.int32), lo.view(np.int32))
    span = SPAN if limit.shape[1] <= FEW else 1
    _over_tiles(_limits, (V, *views, bad, span), V.shape[1], pool)


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
