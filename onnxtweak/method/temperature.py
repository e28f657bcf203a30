"""At which temperature do the base's logits tell the truth? Fitted by log-loss, before anything is learnt.

Most deployed networks are over- or underconfident. Weights that are learnt on raw logits spend themselves on
rescaling them, which changes no decision; so everything learns on Z / tau (METHOD 7.1; temperature scaling
of Guo et al., 2017), and what was learnt is multiplied by tau before it is added to Z.
"""

from __future__ import annotations

import numpy as np

from onnxtweak.method.softmax import softmax

# 1 / tau is looked for within these factors of 1 / deviation of the logits. Logits that are right on every
# sample, or on none, would have it grow or fall without end.
_LEAST, _MOST = 1e-3, 30.0
# How often temperature and biases are fitted in turn, steps on the biases each time, and how far these may
# take a bias: the exponential of more is no number of float32.
_TURNS, _BIAS_STEPS, _FARTHEST = 3, 10, 60.0
# Newton's steps, at most, and the log-loss that the last one would save.
_STEPS, _CLOSE = 60, 1e-10


def fit_temperature(Z: np.ndarray, labels: np.ndarray) -> float:
    """tau > 0 of the lowest log-loss of Z / tau. Z (N, C); labels (N,) int64. 1 without samples.

    The loss is convex in 1 / tau: Newton's steps, halved into the bracket where they leave it.
    """
    logits = Z - Z.max(axis=1, keepdims=True)
    finite = np.isfinite(logits).all(axis=1)
    if not finite.all():
        logits, labels = logits[finite], labels[finite]
    spread = float(logits.std(dtype=np.float64)) if len(logits) else 0.0
    if spread == 0 or not np.isfinite(spread):
        return 1.0
    own = logits[np.arange(len(logits)), labels]
    low, high = _LEAST / spread, _MOST / spread
    beta = min(max(1.0, low), high)
    for _ in range(_STEPS):
        p = logits * logits.dtype.type(beta)
        np.exp(p, out=p)
        total = p.sum(axis=1)
        mean, square = np.einsum("nc,nc->n", p, logits) / total, np.einsum("nc,nc,nc->n", p, logits, logits)
        slope = float((mean - own).mean(dtype=np.float64))
        bend = float((square / total - mean**2).mean(dtype=np.float64))
        low, high = (low, beta) if slope > 0 else (beta, high)
        wanted = beta - slope / bend if bend > 0 else low
        if not low < wanted < high:
            wanted = float(np.sqrt(low * high))
        done = slope**2 < 2 * _CLOSE * bend
        beta = wanted
        if done:
            break
    return 1.0 / beta


def calibrated(Z: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, float]:
    """Probabilities (N, C) of logits Z (N, C), by a temperature and a bias for each class; the temperature.

    The two are fitted in turn. Each step on a bias is the logarithm of how often its class occurs over how
    often it is expected, which lowers the log-loss until the two agree. Classes without samples keep theirs.
    The temperature is the first one, of Z alone.
    """
    finite = Z[np.isfinite(Z)]
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 0.0)
    logits = np.nan_to_num(Z, nan=low, posinf=high, neginf=low)
    share = np.bincount(labels, minlength=Z.shape[1]) / max(len(labels), 1)
    present = np.flatnonzero(share)
    temperatures = []
    for _ in range(_TURNS):
        temperatures.append(fit_temperature(logits, labels))
        logits /= logits.dtype.type(temperatures[-1])
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        bias = np.zeros(Z.shape[1])
        for _ in range(_BIAS_STEPS):
            factor = np.exp(bias).astype(odds.dtype)
            expected = factor * (odds.T @ (1 / (odds @ factor))) / max(len(labels), 1)
            bias[present] += np.log(share[present] / np.maximum(expected[present], 1e-12))
            np.clip(bias, -_FARTHEST, _FARTHEST, out=bias)
        logits += bias.astype(logits.dtype)
    return softmax(logits), temperatures[0]
