"""What do the cheap alternatives reach (METHOD 8)? Each is a function from tables to a patch.

Those that change the last layer need it as arithmetic: where the logits are linear in the penultimate tensor,
its weights are recovered from the tables themselves, and the change is again a linear patch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxtweak.errors import ModelError
from onnxtweak.head import ONE_LABEL, Head
from onnxtweak.method.solvers.multinomial import multinomial
from onnxtweak.method.table import Table
from onnxtweak.patch import Linear, bias_patch

TAUS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
# Ridges of a retrained last layer, and L1 penalties of DFR, tried on validation.
RIDGES = (1.0, 0.1, 0.01, 1e-3, 1e-4)
LASSOS = (3e-2, 1e-2, 3e-3)
# Fits on balanced halves of validation that DFR averages.
_DFR_FITS = 3
_LWS_STEPS = 500
# Relative error up to which the logits count as linear in the penultimate tensor.
_LINEAR = 1e-3


@dataclass(frozen=True)
class LastLayer:
    """Z = T W + b. weight (K, C), bias (C,) float64."""

    weight: np.ndarray
    bias: np.ndarray


def last_layer(table: Table) -> LastLayer:
    """The weights between the penultimate tensor T (N, K) and Z, recovered from their values.

    Raises ModelError where the logits are not linear in T, or too few samples tell.
    """
    if len(table.T) < 2 * table.T.shape[1]:
        raise ModelError(
            f"{len(table.T):,} fit samples are too few for a last layer of {table.T.shape[1]:,} inputs",
            hint="give more samples",
        )
    mean = table.T.mean(axis=0, dtype=np.float64)
    centre = table.Z.mean(axis=0, dtype=np.float64)
    weight = np.linalg.lstsq(table.T - mean, table.Z - centre, rcond=1e-10)[0]
    left = table.Z - centre - (table.T - mean) @ weight
    if np.abs(left).max() > _LINEAR * max(1.0, float(np.abs(table.Z).max())):
        raise ModelError(
            "the logits are not linear in the penultimate tensor",
            hint="controls that change the last layer do not apply to this model",
        )
    return LastLayer(weight, centre - mean @ weight)


def logit_adjustment(fit: Table, validation: Table, head: Head = ONE_LABEL) -> Linear:
    """-tau log prior on every class; tau by accuracy on validation.

    The prior is how much more the base predicts a class than the samples hold of it: the training set's own
    frequencies are not known here.
    """
    Z = fit.Z - fit.Z.max(axis=1, keepdims=True)
    p = np.exp(Z, dtype=np.float64)
    believed = (p / p.sum(axis=1, keepdims=True)).mean(axis=0)
    there = np.bincount(fit.labels, minlength=fit.Z.shape[1]) / len(fit.labels)
    known = there > 0
    log_prior = np.zeros(len(there))
    log_prior[known] = np.log(np.maximum(believed[known], 1e-9) / there[known])
    right = [head.right(validation.Z - tau * log_prior, validation.labels).sum() for tau in TAUS]
    return bias_patch(-TAUS[int(np.argmax(right))] * log_prior)


def tau_norm(layer: LastLayer, validation: Table, head: Head = ONE_LABEL) -> Linear:
    """Each class's logit without its bias, over the norm of its weights to the power tau."""
    norm = np.maximum(np.linalg.norm(layer.weight, axis=0), 1e-12)
    norm /= np.exp(np.log(norm).mean())  # keeps the logits' size, and with it what a bias means
    best, right = None, -1
    for tau in TAUS:
        logits = (validation.Z - layer.bias) / norm**tau
        now = int(head.right(logits, validation.labels).sum())
        if now > right:
            best, right = tau, now
    factor = norm**-best
    return Linear(layer.weight * (factor - 1), layer.bias * -1.0)


def learnable_scale(layer: LastLayer, fit: Table) -> Linear:
    """LWS: each class's logit times a learnt factor, on class-balanced cross-entropy, by gradient descent."""
    weight = balanced(fit.labels, fit.Z.shape[1])
    Z = fit.Z.astype(np.float64)
    own = np.arange(fit.Z.shape[1]) == fit.labels[:, None]
    factor = kept = np.ones(Z.shape[1])
    # A step of this length cannot overshoot: the loss curves by at most Z^2 / 2 in a factor.
    step, before = 2.0 / max(float((weight[:, None] * Z**2).sum(axis=0).max()), 1e-12), np.inf
    for _ in range(_LWS_STEPS):
        logits = Z * factor
        logits -= logits.max(axis=1, keepdims=True)
        p = np.exp(logits)
        total = p.sum(axis=1)
        loss = float(weight @ (np.log(total) - logits[own]))
        if loss > before:
            break
        kept, before = factor, loss
        factor = factor - step * (weight[:, None] * (p / total[:, None] - own) * Z).sum(axis=0)
    return Linear(layer.weight * (kept - 1), layer.bias * (kept - 1))


def classifier_retrained(layer: LastLayer, fit: Table, validation: Table) -> Linear:
    """cRT: the last layer fitted anew on class-balanced samples; its ridge by balanced loss on validation."""
    weight = balanced(fit.labels, fit.Z.shape[1])
    judge = balanced(validation.labels, fit.Z.shape[1])
    found = [_anew(fit, ridge=ridge, sample_weight=weight) for ridge in RIDGES]
    losses = [_loss(validation, one, judge) for one in found]
    return _instead(layer, found[int(np.argmin(losses))])


def deep_feature_reweighting(layer: LastLayer, validation: Table, seed: int) -> Linear:
    """DFR: L1-penalised last layers on balanced halves of held-out samples, averaged.

    The penalty is chosen by balanced loss on the other half of the first.
    """
    rng = np.random.default_rng(seed)
    classes = validation.Z.shape[1]
    best, fits = None, []
    for number in range(_DFR_FITS):
        order = rng.permutation(len(validation.labels))
        one, other = (validation.rows(half) for half in np.array_split(order, 2))
        weight = balanced(one.labels, classes)
        if number == 0:
            tried = [(_anew(one, ridge=1e-4, lasso=l1, sample_weight=weight), l1) for l1 in LASSOS]
            judge = balanced(other.labels, classes)
            found, best = min(tried, key=lambda pair: _loss(other, pair[0], judge))
        else:
            found = _anew(one, ridge=1e-4, lasso=best, sample_weight=weight)
        fits.append(found)
    mean = LastLayer(np.mean([f.weight for f in fits], axis=0), np.mean([f.bias for f in fits], axis=0))
    return _instead(layer, mean)


def balanced(labels: np.ndarray, classes: int) -> np.ndarray:
    """Weights (N,) that sum to 1 and give every class that is there the same share."""
    count = np.bincount(labels, minlength=classes)
    weight = 1.0 / count[labels]
    return weight / weight.sum()


def _anew(table: Table, *, ridge: float, sample_weight: np.ndarray, lasso: float = 0.0) -> LastLayer:
    """A last layer that knows nothing of the old one. A class without samples stays behind all others."""
    free = np.unique(table.labels)
    nothing = np.zeros_like(table.Z)
    found = multinomial(
        table.T,
        nothing,
        table.labels,
        ridge=ridge,
        lasso=lasso,
        free=free,
        sample_weight=sample_weight,
        tolerance=1e-5,
        iterations=200,
    )
    weight, bias = np.zeros((table.T.shape[1], table.Z.shape[1])), np.full(table.Z.shape[1], -1e3)
    weight[:, free], bias[free] = found.weight, found.bias
    return LastLayer(weight, bias)


def _instead(old: LastLayer, new: LastLayer) -> Linear:
    return Linear(new.weight - old.weight, new.bias - old.bias)


def _loss(table: Table, layer: LastLayer, weight: np.ndarray) -> float:
    logits = table.T @ layer.weight + layer.bias
    logits -= logits.max(axis=1, keepdims=True)
    own = logits[np.arange(len(logits)), table.labels]
    return float(weight @ (np.log(np.exp(logits).sum(axis=1)) - own))
