"""At which temperature do the base's logits tell the truth? Fitted by log-loss, before anything is learnt.

Most deployed networks are over- or underconfident. Weights that are learnt on raw logits spend themselves on
rescaling them, which changes no decision; so everything learns on Z / tau (METHOD 7.1; temperature scaling
of Guo et al., 2017), and what was learnt is multiplied by tau before it is added to Z.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from onnxtweak.engine.machine.columns import columns_of
from onnxtweak.engine.machine.large_arrays import (
    blocks,
    by_rows,
    chosen_rows,
    entries,
    is_mapped,
    let_go,
    let_go_rows,
    light_blocks,
)
from onnxtweak.engine.machine.narrow_rows import row_max, row_sums
from onnxtweak.method.softmax import log_losses, row_blocks, sigmoid, softmax

# 1 / tau is looked for within these factors of 1 / deviation of the logits. Logits that are right on every
# sample, or on none, would have it grow or fall without end.
_LEAST, _MOST = 1e-3, 30.0
# The same for the least slope of a label: what is learnt is divided by it.
_FLAT = 0.05
# How often temperature and biases are fitted in turn, steps on the biases each time, and how far these may
# take a bias: the exponential of more is no number of float32.
_TURNS, _BIAS_STEPS, _FARTHEST = 3, 10, 60.0
# Newton's steps, at most, and the log-loss that the last one would save.
_STEPS, _CLOSE = 60, 1e-10


def fit_temperature(Z: np.ndarray, labels: np.ndarray) -> float:
    """tau > 0 of the lowest log-loss of Z / tau. Z (N, C); labels (N,) int64. 1 without samples.

    The loss is convex in 1 / tau: Newton's steps, halved into the bracket where they leave it.
    """
    logits = by_rows(lambda Z: Z - row_max(Z)[:, None], Z)
    finite = by_rows(_finite, logits)
    logits, labels = chosen_rows(logits, finite), labels[finite]
    spread = _deviation(logits) if len(logits) else 0.0
    if spread == 0 or not np.isfinite(spread):
        return 1.0
    own = entries(logits, labels)
    low, high = _LEAST / spread, _MOST / spread
    beta, end_asked = min(max(1.0, low), high), False
    mean, square = np.empty_like(own), np.empty_like(own)

    def asked_at(beta: float) -> tuple[float, float, bool]:
        """Slope and bend of the loss there, and whether so little can be saved that this is its least."""
        for part in row_blocks(logits):
            each = logits[part]
            p = np.exp(each * each.dtype.type(beta))
            total = row_sums(p)
            mean[part] = np.einsum("nc,nc->n", p, each) / total
            square[part] = np.einsum("nc,nc,nc->n", p, each, each) / total
            let_go_rows(part, logits)
        slope = float((mean - own).mean(dtype=np.float64))
        bend = float((square - mean**2).mean(dtype=np.float64))
        return slope, bend, slope**2 < 2 * _CLOSE * bend

    for step in range(_STEPS):
        slope, bend, done = asked_at(beta)
        low, high = (low, beta) if slope > 0 else (beta, high)
        wanted = beta - slope / bend if bend > 0 else low
        if not low < wanted < high:
            if slope < 0 and not (done or end_asked):
                at_end, _, close = asked_at(high)
                if at_end < 0 and not close:  # halving takes all steps to come to this end
                    return 1.0 / _halved(beta, high, _STEPS - step)
                end_asked = True
            wanted = float(np.sqrt(low * high))
        beta = wanted
        if done:
            break
    return 1.0 / beta


def _finite(rows: np.ndarray) -> np.ndarray:
    """Which rows (N,) bool of an array (N, C) are all numbers; mostly all are."""
    known = np.isfinite(rows)
    return np.ones(len(rows), bool) if known.all() else known.all(axis=1)


def _halved(low: float, high: float, times: int) -> float:
    """As near to `high` as so many halvings of what lies between come, on a logarithmic scale."""
    for _ in range(times):
        low = math.sqrt(low * high)
    return low


def losses_cooled(Z: np.ndarray, labels: np.ndarray, least: float = 1.0) -> np.ndarray:
    """Cross-entropy of each sample in nats, (N,) float64, at the temperature of these logits (N, C).

    least : the base's, and lower none is taken. What is learnt with a weak penalty decides better long after
    it has become too sure of itself, which changes no decision and is forgiven here; that the base could be
    surer is no merit of what was learnt.
    """
    tau, losses = max(fit_temperature(Z, labels), least), np.empty(len(Z))
    for part in row_blocks(Z):
        losses[part] = log_losses(Z[part] / Z.dtype.type(tau), labels[part])
        let_go_rows(part, Z)
    return losses


def _deviation(array: np.ndarray) -> float:
    """Of all numbers (N, C), float64."""
    if not is_mapped(array):
        return float(array.std(dtype=np.float64))
    mean = sum(float(block.sum(dtype=np.float64)) for _, block in blocks(array)) / array.size
    square = sum(float(((block - mean) ** 2).sum(dtype=np.float64)) for _, block in blocks(array))
    return float(np.sqrt(square / array.size))


@dataclass(frozen=True)
class Calibration:
    """p (N, C) : calibrated probabilities. temperature : of the logits alone.

    bias (C,) : of each class, in the logits' units. With it, and at a temperature, they are calibrated.
    """

    p: np.ndarray
    temperature: float
    bias: np.ndarray

    def credit(self, labels: np.ndarray) -> np.ndarray:
        """(N, C): of which class each sample is, half by its label (N,), half by p, which is written over."""
        for part, block in light_blocks(self.p):
            block /= 2
            block[np.arange(len(block)), labels[part]] += 0.5
        return self.p


def calibrated(Z: np.ndarray, labels: np.ndarray) -> Calibration:
    """Probabilities of logits Z (N, C), by a temperature and a bias for each class.

    The two are fitted in turn. Each step on a bias is the logarithm of how often its class occurs over how
    often it is expected, which lowers the log-loss until the two agree. Classes without samples keep theirs.
    """
    finite = [(own.min(), own.max()) for _, block in light_blocks(Z) if len(own := block[np.isfinite(block)])]
    low, high = (min(low for low, _ in finite), max(high for _, high in finite)) if finite else (0.0, 0.0)
    logits = by_rows(lambda Z: np.nan_to_num(Z, nan=low, posinf=high, neginf=low), Z)
    share = np.bincount(labels, minlength=Z.shape[1]) / max(len(labels), 1)
    present = np.flatnonzero(share)
    temperatures, whole = [], np.zeros(Z.shape[1])
    for _ in range(_TURNS):
        temperatures.append(fit_temperature(logits, labels))
        for _, block in light_blocks(logits):
            block /= block.dtype.type(temperatures[-1])
        odds = by_rows(lambda logits: np.exp(logits - row_max(logits)[:, None]), logits)
        bias = np.zeros(Z.shape[1])
        for _ in range(_BIAS_STEPS):
            factor = np.exp(bias).astype(odds.dtype)
            expected = factor * (odds.T @ (1 / (odds @ factor))) / max(len(labels), 1)
            bias[present] += np.log(share[present] / np.maximum(expected[present], 1e-12))
            np.clip(bias, -_FARTHEST, _FARTHEST, out=bias)
            let_go(odds)
        for _, block in light_blocks(logits):
            block += bias.astype(block.dtype)
        whole += bias * np.prod(temperatures)
    return Calibration(by_rows(softmax, logits), temperatures[0], whole)


def calibrate_labels(Z: np.ndarray, marks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slope and bias of each label, both (C,) float64: `slope * Z + bias` are its calibrated logits.

    Z (N, C). marks (N, C) : 1, 0, or -1 for what is left out. Platt's scaling (1999): logistic regression on
    the one score, against marks drawn a little towards each other, so that it ends where all are separated.
    A score that orders a label the wrong way gets the least slope; a label all of one kind keeps 1 and 0.
    """
    slope, bias = np.ones(Z.shape[1]), np.zeros(Z.shape[1])
    for c, column in enumerate(columns_of(Z)):
        known = (marks[:, c] >= 0) & np.isfinite(column)
        x, there = column[known].astype(np.float64), marks[known, c] == 1
        spread, many = float(x.std()) if len(x) else 0.0, int(there.sum())
        if spread > 0 and 0 < many < len(x):
            wanted = np.where(there, (many + 1) / (many + 2), 1 / (len(x) - many + 2))
            slope[c], bias[c] = _platt(x, wanted, (_FLAT / spread, _MOST / spread))
    return slope, bias


def _platt(x: np.ndarray, wanted: np.ndarray, within: tuple[float, float]) -> tuple[float, float]:
    """Slope and bias of the lowest cross-entropy of `slope * x + bias` with `wanted`, by Newton's steps."""
    centre, spread = float(x.mean()), float(x.std())
    X = np.column_stack([(x - centre) / spread, np.ones(len(x))])
    share = float(wanted.mean())
    w = np.array([0.0, np.log(share / (1 - share))])

    def loss(w: np.ndarray) -> float:
        logits = X @ w
        return float((np.logaddexp(0, logits) - wanted * logits).mean())

    now = loss(w)
    for _ in range(_STEPS):
        p = sigmoid(X @ w)
        gradient = X.T @ (p - wanted) / len(x)
        bend = (X.T * (p * (1 - p))) @ X / len(x) + 1e-9 * np.eye(2)
        step, t = np.linalg.solve(bend, gradient), 1.0
        while t > 1e-6 and loss(w - t * step) > now:
            t /= 2
        w, done = w - t * step, float(gradient @ step) < 2 * _CLOSE
        now = loss(w)
        if done:
            break
    slope = float(np.clip(w[0] / spread, *within))
    return slope, float(w[1]) - slope * centre
