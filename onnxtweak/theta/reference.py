"""What is theta by definition? A brute-force reference: slow, plain, the test of every back end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxtweak.theta.gaps import reciprocal_gaps


def thesis_theta(
    v: np.ndarray, Z: np.ndarray, L: np.ndarray, target: int, eps1: float = 0.0, eps2: float = 0.0
) -> tuple[float, int]:
    """Algorithm 1 as printed (METHOD 1), for one neuron: (threshold, count) with Eq. 3.1 and 3.2.

    v (N,), Z (N, C), L (N,). The threshold is inf when no sample of another class is right.
    """
    best = Z.max(axis=1)
    predicted = Z.argmax(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        E = np.abs((best - Z[:, target]) / (v + eps1))
    of_target = target == L
    wrong_target = of_target & (predicted != target)
    right_others = ~of_target & (predicted == L)
    threshold = E[right_others].min(initial=np.inf) - eps2
    return float(threshold), int((E[wrong_target] <= threshold).sum())


@dataclass(frozen=True)
class Reference:
    """One neuron, one target: reciprocal bounds and counts of both signs, as in `state.ThetaState`."""

    hi: float
    lo: float
    count_hi: int
    count_lo: int


def signed_theta(v: np.ndarray, Z: np.ndarray, L: np.ndarray, target: int) -> Reference:
    """METHOD 2 for one neuron, sample by sample. v (N,) float32, Z (N, C) float32, L (N,) int."""
    gaps = reciprocal_gaps(Z, L, np.array([target]))
    hi = lo = np.float32(0)
    count_hi = count_lo = 0
    with np.errstate(over="ignore"):
        for value, s in zip(v, gaps.limit[:, 0], strict=True):
            hi = max(hi, value * s)
            lo = max(lo, -value * s)
        for value, s in zip(v, gaps.wanted[:, 0], strict=True):
            count_hi += bool(value * s > hi)
            count_lo += bool(-value * s > lo)
    return Reference(float(hi), float(lo), count_hi, count_lo)


def outcome(v: np.ndarray, Z: np.ndarray, L: np.ndarray, target: int, weight: float) -> tuple[int, int, int]:
    """What a synapse really does: (target samples fixed, right samples broken, other samples fixed).

    Adds `weight * v` to the target's logit in float64 and predicts again; ties go to the lowest class.
    """
    Z = Z.astype(np.float64)
    before = Z.argmax(axis=1)
    boosted = Z.copy()
    boosted[:, target] += weight * v.astype(np.float64)
    after = boosted.argmax(axis=1)
    fixed = (before != L) & (after == L)
    broken = (before == L) & (after != L)
    of_target = target == L
    return int((fixed & of_target).sum()), int(broken.sum()), int((fixed & ~of_target).sum())
