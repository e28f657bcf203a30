"""Which survivors are still beyond their limits, and how many are they? Loops for `survivors`, in Numba.

Ratios (n,) float32 belong to `target` and `neuron` (n,) int32; positive ones to hi, negative ones to lo.
"""

from __future__ import annotations

import numpy as np

from onnxtweak.theta.numba.compiled import compiled


@compiled
def keep_beyond(target, neuron, ratio, hi, lo):
    """Move ratios beyond their limit to the front, in their order, and return how many they are."""
    count = 0
    for i in range(ratio.size):
        t, m, x = target[i], neuron[i], ratio[i]
        if x > hi[t, m] if x > 0 else -x > lo[t, m]:
            target[count], neuron[count], ratio[count] = t, m, x
            count += 1
    return count


@compiled
def count_all(target, neuron, ratio, count_hi, count_lo, last_hi, last_lo):
    """Count the ratios per target, neuron and sign, and keep the smallest in size."""
    one = np.int32(1)
    for i in range(ratio.size):
        t, m, x = target[i], neuron[i], ratio[i]
        if x > 0:
            count_hi[t, m] += one
            last_hi[t, m] = min(last_hi[t, m], x)
        else:
            count_lo[t, m] += one
            last_lo[t, m] = min(last_lo[t, m], -x)
