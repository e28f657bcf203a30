"""Which of very many neurons are worth a place in the table (METHOD 7.2)?

One streaming pass; V is never kept. With r = t - p what the base (with a bias for every class) gets wrong,
and h = p (1 - p), it sums per neuron and class G = sum r v, A = sum h v^2 and B = sum h v. Then
S = G^2 / (A - B^2 / sum h) is twice the loss that a synapse from this neuron to this class should save.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from onnxtweak.engine.passes import Captured
from onnxtweak.types import Neurons, Tap


@dataclass
class Sums:
    """Running sums over samples, float64. G, A, B (M, C); h (C,). spoiled (M,) bool : not finite once."""

    G: np.ndarray
    A: np.ndarray
    B: np.ndarray
    h: np.ndarray
    spoiled: np.ndarray


def screen(batches: Iterable[Captured], taps: Sequence[Tap], bias: np.ndarray) -> np.ndarray:
    """S (M, C) of every neuron of the taps, end to end, for every class, from one pass.

    batches : captured with one V a tap. bias (C,) : added to the logits before p is taken.
    """
    ends = np.cumsum([0, *(tap.neurons for tap in taps)])
    sums = _empty(int(ends[-1]), len(bias))
    for got in batches:
        r, h = _residuals(got.Z, got.labels, bias)
        sums.h += h.sum(axis=0, dtype=np.float64)
        for start, stop, V in zip(ends[:-1], ends[1:], got.V, strict=True):
            part = slice(start, stop)
            # One sample that is not finite would turn the sums of its neuron, and only of it, into NaN.
            bad = ~np.isfinite(V).all(axis=0)
            if bad.any():
                V = np.where(bad, 0, V)
                sums.spoiled[part] |= bad
            sums.G[part] += V.T @ r
            sums.B[part] += V.T @ h
            sums.A[part] += (V * V).T @ h
    return scores(sums)


def scores(sums: Sums) -> np.ndarray:
    """S (M, C) float64; 0 for a neuron that is constant or was spoiled."""
    spread = sums.A - sums.B**2 / np.maximum(sums.h, 1e-300)
    # A spread below the float32 noise of its two terms says that the neuron is constant.
    varies = spread > 3e-5 * np.maximum(sums.A, 1e-300)
    S = np.divide(sums.G**2, spread, out=np.zeros_like(spread), where=varies)
    S[sums.spoiled] = 0
    return S


def best(S: np.ndarray, taps: Sequence[Tap], count: int) -> Neurons:
    """The `count` neurons that promise most, each class in turn giving its best, in the taps' own order."""
    helpful = S > 0
    order = np.argsort(-S, axis=0, kind="stable")[: min(count, len(S))]
    turns = order.ravel()  # rank 1 of each class, then rank 2, ...
    turns = turns[np.take_along_axis(helpful, order, axis=0).ravel()]
    _, first = np.unique(turns, return_index=True)
    chosen = np.sort(turns[np.sort(first)[:count]])
    starts = np.cumsum([0, *(tap.neurons for tap in taps)])
    tap_of = np.searchsorted(starts, chosen, side="right") - 1
    return Neurons(tuple(taps), tap_of.astype(np.int32), (chosen - starts[tap_of]).astype(np.int64))


def _empty(neurons: int, classes: int) -> Sums:
    shape = (neurons, classes)
    return Sums(*(np.zeros(shape) for _ in range(3)), np.zeros(classes), np.zeros(neurons, bool))


def _residuals(Z: np.ndarray, labels: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """r and h, (b, C) float32."""
    logits = Z + bias.astype(Z.dtype)
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    h = (p * (1 - p)).astype(np.float32)
    r = -p.astype(np.float32)
    r[np.arange(len(labels)), labels] += 1
    return r, h
