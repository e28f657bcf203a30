"""How are theta's folds done on the CPU? Compiled by Numba; their contract is `theta.numpy_backend`'s.

`pool` : threads that share the neurons; None: this thread alone.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from onnxtweak.theta.backend import Found
from onnxtweak.theta.numba.count_loops import TILE, by_target, count_tiles, find_in_tiles, sum_tiles
from onnxtweak.theta.numba.limits import fold_few, fold_limits, is_few
from onnxtweak.theta.numba.simd import flat
from onnxtweak.theta.threads import share_out

__all__ = ["find_survivors", "fold_limits", "fold_samples", "fold_sums", "fold_wanted"]


def fold_samples(
    V: np.ndarray,
    limit: np.ndarray,
    member: np.ndarray,
    hi: np.ndarray,
    lo: np.ndarray,
    bad: np.ndarray,
    total: np.ndarray,
    peak: np.ndarray,
    pool: ThreadPoolExecutor | None = None,
) -> None:
    """See `Backend.fold_samples`: with few targets, sums are taken while V is in the cache for the limits."""
    if is_few(V, limit):
        fold_few(V, limit, member, hi, lo, bad, total, peak, pool)
    else:
        fold_limits(V, limit, hi, lo, bad, pool)
        fold_sums(V, member, total, peak, pool)


def fold_sums(
    V: np.ndarray,
    member: np.ndarray,
    total: np.ndarray,
    peak: np.ndarray,
    pool: ThreadPoolExecutor | None = None,
) -> None:
    """See `numpy_backend.fold_sums`."""
    neurons = V.shape[1]
    work = (flat(V), *by_target(member, len(total), neurons), flat(total), flat(peak), neurons)
    share_out(sum_tiles, work, -(-neurons // TILE), pool)


def fold_wanted(
    V: np.ndarray,
    wanted: np.ndarray,
    hi: np.ndarray,
    lo: np.ndarray,
    count_hi: np.ndarray,
    count_lo: np.ndarray,
    last_hi: np.ndarray,
    last_lo: np.ndarray,
    pool: ThreadPoolExecutor | None = None,
) -> None:
    """See `numpy_backend.fold_wanted`."""
    work = (V, wanted, hi, lo, count_hi, count_lo, last_hi, last_lo)
    share_out(count_tiles, work, -(-V.shape[1] // TILE), pool)


def find_survivors(
    V: np.ndarray,
    wanted: np.ndarray,
    hi: np.ndarray,
    lo: np.ndarray,
    pool: ThreadPoolExecutor | None = None,
) -> Found:
    """See `numpy_backend.find_survivors`; in another order."""
    neurons = V.shape[1]
    # Target by target, whose limits stay in the cache.
    targets, rows = map(np.ascontiguousarray, np.nonzero(wanted.T))
    work = (flat(V), rows, targets, wanted[rows, targets], flat(hi), flat(lo), neurons)
    parts = share_out(find_in_tiles, work, -(-neurons // TILE), pool if len(rows) else None)
    target, neuron, ratio = (np.concatenate(column) for column in zip(*parts, strict=True))
    return target, neuron, ratio
