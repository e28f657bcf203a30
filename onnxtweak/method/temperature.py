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
# How often temperature and biases are fitted in turn, and steps on the biases each time.
_TURNS, _BIAS_STEPS = 3, 10
# Newton's steps, at most, and the relative step that ends them.
_STEPS, _CLOSE = 60, 1e-6


def fit_temperature(Z: np.ndarray, labels: np.ndarray) -> float:
    """tau > 0 of the lowest log-loss of Z / tau. Z (N, C); labels (N,) int64. 1 without samples.

    The loss is convex in 1 / tau: Newton's steps, halved into the bracket where they leave it.
    """
    logits = Z.astype(np.float64) - Z.max(axis=1, keepdims=True)
    finite = np.isfinite(logits).all(axis=1)
    logits, rows = logits[finite], np.arange(int(finite.sum()))
    spread = float(logits.std()) if len(logits) else 0.0
    if spread == 0 or not np.isfinite(spread):
        return 1.0
    own = logits[rows, labels[finite]]
    low, high = _LEAST / spread, _MOST / spread
    beta = min(max(1.0, low), high)
    for _ in range(_STEPS):
        p = softmax(beta * logits)
        mean = (p * logits).sum(axis=1)
        slope = float((mean - own).mean())
        bend = float(((p * logits**2).sum(axis=1) - mean**2).mean())
        low, high = (low, beta) if slope > 0 else (beta, high)
        wanted = beta - slope / bend if bend > 0 else low
        if not low < wanted < high:
            wanted = float(np.sqrt(low * high))
        done = abs(wanted - beta) <= _CLOSE * beta
        beta = wanted
        if done:
            break
    return 1.0 / beta


def calibrated(Z: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Probabilities (N, C) float64 of logits Z (N, C), by a temperature and a bias for each class.

    The two are fitted in turn. Each step on a bias is the logarithm of how often its class occurs over how
    often it is expected, which lowers the log-loss until the two agree. Classes without samples keep theirs.
    """
    finite = Z[np.isfinite(Z)].astype(np.float64)
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 0.0)
    logits = np.nan_to_num(Z.astype(np.float64), nan=low, posinf=high, neginf=low)
    share = np.bincount(labels, minlength=Z.shape[1]) / max(len(labels), 1)
    present = np.flatnonzero(share)
    for _ in range(_TURNS):
        logits /= fit_temperature(logits, labels)
        for _ in range(_BIAS_STEPS):
            p = softmax(logits)
            logits[:, present] += np.log(share[present] / np.maximum(p[:, present].mean(axis=0), 1e-12))
    probabilities: np.ndarray = softmax(logits)
    return probabilities
