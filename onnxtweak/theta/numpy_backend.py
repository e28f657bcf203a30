"""How are theta's folds done in plain NumPy? Without a compiler, and as the specification of other back ends.

A back end offers three folds, which update their arrays in place; those on the CPU offer `find_survivors` as
well, which saves the second sweep that `fold_wanted` is for:

    fold_limits(V, limit, hi, lo, bad)
    fold_sums(V, member, total, peak)
    fold_wanted(V, wanted, hi, lo, count_hi, count_lo, last_hi, last_lo)
    find_survivors(V, wanted, hi, lo) -> (target, neuron, ratio)

V (b, m) float32; limit, wanted (b, c) float32 from `gaps`; member (b,) int64, the position of a sample's
label among the targets, or -1; hi, lo, last_*, peak (c, m) float32; total (c, m) float64; count_* (c, m)
int32; bad (m,) bool. Every product is a single float32 multiplication, everything but `total` is combined by
maximum or minimum, and `total` adds sample by sample: every back end gives the same bits.
"""

from __future__ import annotations

import numpy as np

from onnxtweak.theta.backend import CpuBackend, Found


def fold_limits(V: np.ndarray, limit: np.ndarray, hi: np.ndarray, lo: np.ndarray, bad: np.ndarray) -> None:
    """Running maxima hi = max(hi, v * limit), lo = max(lo, -v * limit); bad marks neurons not finite."""
    bad |= ~np.isfinite(V).all(axis=0)
    for j in range(limit.shape[1]):
        rows = np.flatnonzero(limit[:, j])
        if len(rows):
            with np.errstate(over="ignore", invalid="ignore"):
                product = V[rows] * limit[rows, j, None]
            np.fmax(hi[j], np.fmax.reduce(product, axis=0), out=hi[j])
            np.fmax(lo[j], -np.fmin.reduce(product, axis=0), out=lo[j])


def fold_sums(V: np.ndarray, member: np.ndarray, total: np.ndarray, peak: np.ndarray) -> None:
    """Sum and largest |v| over the samples of each target: total += v, peak = max(peak, |v|)."""
    for r in np.flatnonzero(member >= 0):
        j = member[r]
        total[j] += V[r]
        np.fmax(peak[j], np.abs(V[r]), out=peak[j])


def fold_samples(
    V: np.ndarray,
    limit: np.ndarray,
    member: np.ndarray,
    hi: np.ndarray,
    lo: np.ndarray,
    bad: np.ndarray,
    total: np.ndarray,
    peak: np.ndarray,
) -> None:
    """Both of them."""
    fold_limits(V, limit, hi, lo, bad)
    fold_sums(V, member, total, peak)


def fold_wanted(
    V: np.ndarray,
    wanted: np.ndarray,
    hi: np.ndarray,
    lo: np.ndarray,
    count_hi: np.ndarray,
    count_lo: np.ndarray,
    last_hi: np.ndarray,
    last_lo: np.ndarray,
) -> None:
    """Count samples fixed within the limits (METHOD 2); last_* become the smallest ratio of either sign."""
    for j in range(wanted.shape[1]):
        rows = np.flatnonzero(wanted[:, j])
        if not len(rows):
            continue
        with np.errstate(over="ignore", invalid="ignore"):
            product = V[rows] * wanted[rows, j, None]
        count_hi[j] += (product > hi[j]).sum(axis=0, dtype=np.int32)
        count_lo[j] += (-product > lo[j]).sum(axis=0, dtype=np.int32)
        up = np.where(product > 0, product, np.inf).min(axis=0)
        down = np.where(product < 0, -product, np.inf).min(axis=0)
        np.minimum(last_hi[j], up, out=last_hi[j])
        np.minimum(last_lo[j], down, out=last_lo[j])


def find_survivors(V: np.ndarray, wanted: np.ndarray, hi: np.ndarray, lo: np.ndarray) -> Found:
    """Ratios v * wanted beyond the limits so far: target, neuron (n,) int32, ratio (n,) float32."""
    found = [(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32))]
    for r, j in zip(*np.nonzero(wanted), strict=True):
        with np.errstate(over="ignore", invalid="ignore"):
            product = V[r] * wanted[r, j]
        neuron = np.flatnonzero((product > hi[j]) | (-product > lo[j])).astype(np.int32)
        found.append((np.full(len(neuron), j, np.int32), neuron, product[neuron]))
    target, neuron, ratio = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return target, neuron, ratio


class NumpyBackend(CpuBackend):
    """`theta.backend.Backend` in NumPy."""

    name = "numpy"
    fold_limits = staticmethod(fold_limits)
    fold_sums = staticmethod(fold_sums)
    fold_samples = staticmethod(fold_samples)
    fold_wanted = staticmethod(fold_wanted)
    find_survivors = staticmethod(find_survivors)
