"""Where do the samples lie that pass by together? `STREAMS` of them at a time, in any order."""

from __future__ import annotations

import numpy as np

from onnxtweak.theta.numba.compiled import compiled
from onnxtweak.theta.numba.simd import STREAMS


@compiled
def streams():
    """`at`, `following` and `places` of `set_out`."""
    return np.empty(STREAMS, np.uintp), np.empty(STREAMS, np.uintp), np.empty(STREAMS, np.int64)


@compiled
def set_out(order, member, group, neurons, start, span, at, following, places):
    """Of a group of samples, where each begins in V, where what passes by after it does, and its sums do.

    order (b,) int64 : the samples, whose groups these are; the last one stands in for those that lack.
    member (b,) int64 : the target of each in this order, ascending; -1 for none. places : -1 for no sums.
    """
    rows = order.size
    for i in range(STREAMS):
        r = group * STREAMS + i
        at[i] = order[min(r, rows - 1)] * neurons + start
        if (group + 1) * STREAMS < rows:
            following[i] = order[min(r + STREAMS, rows - 1)] * neurons + start
        else:
            following[i] = order[min(i, rows - 1)] * neurons + start + span
        places[i] = member[r] * neurons + start if r < rows and member[r] >= 0 else -1
