"""How do samples pass by the limits of few targets, or of many? The loops of `limits`, in Numba.

Values and limits are flat. `first`, `last` : strips [first, last) of `STRIP` neurons.
"""

from __future__ import annotations

import numpy as np

from onnxtweak.theta.numba.compiled import compiled
from onnxtweak.theta.numba.count_kernels import add_rows
from onnxtweak.theta.numba.limit_kernels import (
    copy_span,
    floor_of_strip,
    ones,
    pack_strip,
    raise_panel,
    raise_row,
    raise_span,
    raise_strip,
    within_reach,
)
from onnxtweak.theta.numba.pruned_limits import fold_ranked
from onnxtweak.theta.numba.simd import LANES, PANELS, STREAMS, STRIP, TESTED
from onnxtweak.theta.numba.streams import set_out, streams

# To find out whether ranking pays, one strip in so many is tried; where it does not, so many times as many
# then stream by.
_TRIED, _UNTRIED = 32, 31
# Strips of a tile: with the samples of a tile half a megabyte, which second-level caches hold.
_TILE = 8
# Samples that are packed at a time, so that several streams of memory are read at once, and how far ahead.
_TOGETHER, _AHEAD = 8, 512
# A block of targets is multiplied whole when more than one in so many of its pairs are within reach.
_SPARSE = 3
# Positions are unsigned, as `limit_kernels` wants them.
U = np.uintp
_INFINITY_BITS = np.int32(0x7F800000)
_SIGN_FREE, _ALL_BITS = np.int32(0x7FFFFFFF), np.int32(-1)
# Rows of the cache's copies are kept from lying a power of two apart, where they evict each other; by three
# lines of the cache, since one line apart, a row's store looks like the next load of the row before it.
_PAD = 48


@compiled
def _mark(values, at, bad, start, stop):
    for m in range(start, stop):
        if not np.isfinite(values[at + m]):
            bad[m] = True


@compiled
def _aligned(count):
    """Scratch for some floats that begins at a cache line."""
    room = np.empty(count + 16, np.float32)
    return room[-(room.ctypes.data // 4) & 15 :]


@compiled
def _add_up(values, at, places, total, peak, panels):
    """The sums of a group over a span. at, places : as of `set_out`."""
    i = 0
    while i < STREAMS:
        end = i + 1
        while end < STREAMS and places[end] == places[i]:
            end += 1
        if places[i] >= 0:
            add_rows(values, at, U(i), U(end - i), U(0), total, peak, U(places[i]), panels)
        i = end


@compiled
def few_targets(
    values, samples, factors, own, own_rows, own_targets, own_factors, hi, lo, bad, neurons, span, width,
    first, last
):  # fmt: skip
    """Strips [first, last) for a few targets. factors : by sample. own : the negative ones, by group.

    samples : order and member as of `set_out`; total and peak, flat; whether they are summed up. A group is
    while it is in the cache.
    """
    order, member, total, peak, adds = samples
    targets, rows = len(width), order.size
    apart = span + _PAD
    up, down = _aligned(targets * apart), _aligned(targets * apart)
    turned = -factors
    at, following, places = streams()
    groups = own.size - 1
    for start in range(first * STRIP, last * STRIP, span):
        stop = min(start + span, last * STRIP)
        panels = U((stop - start) // LANES)
        for t in range(targets):
            here, there = U(t * apart), U(t * neurons + start)
            copy_span(hi, there, up, here, panels, U(span))
            copy_span(lo, there, down, here, panels, U(span))
        for g in range(groups):
            f = U(g * STREAMS * targets)
            set_out(order, member, g, neurons, start, span, at, following, places)
            wrong, signs = raise_span(
                values, at, following, factors, f, up, U(0), U(apart), panels, width
            )  # fmt: skip
            if adds:
                _add_up(values, at, places, total, peak, panels)
            if wrong:
                for r in range(g * STREAMS, min((g + 1) * STREAMS, rows)):
                    _mark(values, order[r] * neurons, bad, start, stop)
            if signs < 0:
                raise_span(values, at, at, turned, f, down, U(0), U(apart), panels, width)
                continue
            for k in range(own[g], own[g + 1]):
                row, here = U(own_rows[k] * neurons + start), U(own_targets[k] * apart)
                raise_row(values, row, own_factors[k], down, here, panels)
        for t in range(targets):
            here, there = U(t * apart), U(t * neurons + start)
            copy_span(up, here, hi, there, panels, U(0))
            copy_span(down, here, lo, there, panels, U(0))


@compiled
def few_or_ranked(
    ranking, worth, longer, values, samples, factors, own, own_rows, own_targets, own_factors, hi, lo, bad,
    neurons, span, width, first, last
):  # fmt: skip
    """Strips [first, last): some are tried ranked, and those that follow take the faster of the two ways.

    worth : ranking is faster up to this fraction of the products. Both ways give the same bits. longer :
    neurons of a span that is ranked, whose values lie in the second-level cache. samples : as of
    `few_targets`.
    """
    tops = _aligned(longer)
    few = min(max(1, (last - first) // _TRIED), longer // STRIP)
    here, count = first, few
    while here < last:
        stop = min(here + count, last)
        part = fold_ranked(values, ranking, samples, hi, lo, bad, neurons, here * STRIP, stop * STRIP, tops)
        here, count = stop, longer // STRIP
        if part > worth and here < last:
            stop = min(here + _UNTRIED * few, last)
            few_targets(
                values, samples, factors, own, own_rows, own_targets, own_factors, hi, lo, bad, neurons,
                span, width, here, stop
            )  # fmt: skip
            here, count = stop, few


@compiled
def many_targets(
    values, factors, turned, starts, candidates, counts, own, own_rows, own_factors, hi, lo, bad, neurons,
    rows, width, first, last
):  # fmt: skip
    """Strips [first, last) for many targets. factors : by block, sample and target; turned : negated.

    candidates : samples by block, the first `counts` of which have a positive factor. own : negative factors
    by target.
    """
    each = len(width)
    block_size = rows * each
    panel = rows * LANES + _PAD
    strip = PANELS * panel
    packed = _aligned(min(_TILE, last - first) * strip)
    tops = np.empty(_TILE * rows, np.float32)
    top_bits = tops.view(np.int32)
    negative = np.empty(_TILE, np.bool_)
    everyone = np.arange(rows).astype(np.uint32)
    floors = np.full(TESTED, np.inf, np.float32)
    lists = np.empty((3, rows + 1), np.uint32)
    some = np.empty(rows + 1, np.float32)
    for tile in range(first, last, _TILE):
        strips = min(_TILE, last - tile)
        for s in range(strips):
            negative[s] = False
        for r0 in range(0, rows, _TOGETHER):
            r1 = min(r0 + _TOGETHER, rows)
            for s in range(strips):
                start = (tile + s) * STRIP
                top, signs = pack_strip(
                    values, U(r0 * neurons + start), U(neurons), U(_AHEAD), U(r1 - r0),
                    packed, U(s * strip + r0 * LANES), U(panel), top_bits, U(s * rows + r0),
                )  # fmt: skip
                negative[s] |= signs < 0
                if top >= _INFINITY_BITS:
                    for r in range(r0, r1):
                        _mark(values, r * neurons, bad, start, start + STRIP)
                        top_bits[s * rows + r] = min(top_bits[s * rows + r], _INFINITY_BITS)
        for b in range(starts.size):
            f = b * block_size
            for s in range(strips):
                at = starts[b] * neurons + (tile + s) * STRIP
                top, here = tops[s * rows : (s + 1) * rows], s * strip
                if negative[s]:
                    _raise(
                        factors, f, top, _SIGN_FREE, everyone, rows, hi, at, neurons, packed, here, panel,
                        width, floors, lists, some,
                    )  # fmt: skip
                    _raise(
                        turned, f, top, _SIGN_FREE, everyone, rows, lo, at, neurons, packed, here, panel,
                        width, floors, lists, some,
                    )  # fmt: skip
                else:
                    _raise(
                        factors, f, top, _ALL_BITS, candidates[b], counts[b], hi, at, neurons, packed, here,
                        panel, width, floors, lists, some,
                    )  # fmt: skip
        for s in range(strips):
            if not negative[s]:
                for j in range(own.size - 1):
                    _raise_own(
                        own_rows[own[j] : own[j + 1]], own_factors[own[j] : own[j + 1]], tops, s * rows, lo,
                        j * neurons + (tile + s) * STRIP, packed, s * strip, panel, lists[0], some,
                    )  # fmt: skip


@compiled
def _raise(
    factors, first, top, mask, candidates, count, best, at, apart, packed, here, panel, width, floors, lists,
    some
):  # fmt: skip
    """Raise a block of targets over one packed strip, by the samples within reach."""
    targets = len(width)
    for t in range(targets):
        floors[t] = floor_of_strip(best, U(at + t * apart))
    rows, reach, chosen = lists[0], lists[1], lists[2]
    n = pairs = 0
    for k in range(count):
        r = candidates[k]
        got = within_reach(factors, U(first + r * targets), top[r], mask, floors)
        rows[n], reach[n] = r, got
        n += got != 0
        pairs += ones(got)
    if _SPARSE * pairs >= n * targets and n:
        for p in range(PANELS):
            raise_panel(
                best, U(at + p * LANES), U(apart), packed, U(here + p * panel),
                factors, U(first), rows, U(n), width,
            )  # fmt: skip
    elif n:
        for t in range(targets):
            count = 0
            for k in range(n):
                chosen[count], some[count] = rows[k], factors[first + rows[k] * targets + t]
                count += (reach[k] >> np.uint32(t)) & np.uint32(1)
            if count:
                raise_strip(
                    best, U(at + t * apart), packed, U(here), U(panel), some, chosen,
                    U(count),
                )  # fmt: skip


@compiled
def _raise_own(rows, factors, tops, offset, best, at, packed, here, panel, chosen, some):
    """Raise one target over one packed strip, by its own samples."""
    if not rows.size:
        return
    floor = floor_of_strip(best, U(at))
    count = 0
    for k in range(rows.size):
        chosen[count], some[count] = rows[k], factors[k]
        count += tops[offset + rows[k]] * factors[k] > floor
    if count:
        raise_strip(best, U(at), packed, U(here), U(panel), some, chosen, U(count))
