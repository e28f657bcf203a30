"""How are limits pruned: raised by few samples, once most can no longer raise any?

The samples of a fold are ranked for each target, the largest |factor| first. One reading of V finds the
largest |v| of each neuron over the fold. For a few neurons and one target, two samples after two are then
tried until largest * |factor| exceeds no running maximum among them: no later sample can raise one either.
This is exact, because rounding is monotone: |v| <= largest and a smaller |factor| give no larger product.

The more samples a run has seen, the higher are the maxima, and the sooner that happens; then the state is
read, but not written.
"""

from __future__ import annotations

import numpy as np

from onnxtweak.theta.numba.compiled import compiled
from onnxtweak.theta.numba.limit_kernels import raise_ranked, top_of_span
from onnxtweak.theta.numba.simd import BETWEEN_TESTS, LANES, STREAMS, WIDE
from onnxtweak.theta.numba.streams import set_out, streams

U = np.uintp
_INFINITY, _INFINITY_BITS = np.float32(np.inf), np.int32(0x7F800000)


def rank(limit: np.ndarray, neurons: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Samples with a factor, the largest first: `(rows, factors, begins)` of four lists, target by target.

    limit (b, c) float32. The lists: all factors, all negated, the positive ones, the negative ones negated.
    rows (4, n) uintp : where the sample begins in V. factors (4, n) float32. begins (4, c + 1) int64. A
    target's samples are filled up to a multiple of `BETWEEN_TESTS` with factors of zero, which raise nothing.
    """
    order = np.argsort(-np.abs(np.ascontiguousarray(limit.T)), axis=1)
    targets, count = order.shape
    rows = np.zeros((4, targets * (count + BETWEEN_TESTS)), np.uintp)
    factors = np.zeros(rows.shape, np.float32)
    begins = np.zeros((4, targets + 1), np.int64)
    _list(limit, order, neurons, rows, factors, begins)
    return rows, factors, begins


@compiled
def _list(limit, order, neurons, rows, factors, begins):
    """Fill the lists of `rank`, element by element: Numba takes seconds to compile operations on arrays."""
    targets, count = order.shape
    for t in range(targets):
        for kind in range(4):
            begins[kind, t + 1] = begins[kind, t]
        for k in range(count):
            r = order[t, k]
            factor = limit[r, t]
            if factor == 0:
                break
            sign = 2 if factor > 0 else 3
            for kind in (0, 1, sign):
                end = begins[kind, t + 1]
                rows[kind, end] = r * neurons
                factors[kind, end] = factor if kind == 0 or kind == 2 else -factor
                begins[kind, t + 1] = end + 1
        for kind in range(4):
            begins[kind, t + 1] += -begins[kind, t + 1] % BETWEEN_TESTS


@compiled
def fold_ranked(values, ranking, samples, hi, lo, bad, neurons, start, stop, tops):
    """Raise the limits of neurons [start, stop), whole strips. Returns the fraction of products computed.

    values, hi, lo : flat. ranking : from `rank`. samples : as of `few_targets`. tops : scratch.
    """
    passing, member, total, peak, adds = samples
    order, factors, begins = ranking
    panels, rows, span = U((stop - start) // LANES), passing.size, stop - start
    tops[:span] = 0
    highest = signs = np.int32(0)
    at, following, places = streams()
    for group in range(-(-rows // STREAMS)):
        set_out(passing, member, group, neurons, start, span, at, following, places)
        if adds:
            top, some = top_of_span(
                values, at, following, tops, panels, total, peak, places, U(span), (0,)
            )  # fmt: skip
        else:
            top, some = top_of_span(values, at, following, tops, panels, total, peak, places, U(span), ())
        highest, signs = max(highest, top), signs | some
    if highest >= _INFINITY_BITS:
        for m in range(stop - start):
            if not tops[m] < _INFINITY:
                tops[m] = _INFINITY  # a NaN would compare as out of reach
                bad[start + m] = True
    up, down = (0, 1) if signs < 0 else (2, 3)
    looked = U(0)
    for t in range(begins.shape[1] - 1):
        for kind, best in ((up, hi), (down, lo)):
            first, count = U(begins[kind, t]), U((begins[kind, t + 1] - begins[kind, t]) // BETWEEN_TESTS)
            for m in range(0, stop - start, WIDE * LANES):
                looked += raise_ranked(
                    values, U(start + m), order[kind], factors[kind], first, count,
                    best, U(t * neurons + start + m), U(neurons), tops, U(m),
                )  # fmt: skip
    return looked * BETWEEN_TESTS * WIDE / (panels * rows * (begins.shape[1] - 1))
