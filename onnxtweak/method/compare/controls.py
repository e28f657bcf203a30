"""What do the cheap alternatives reach? Controls such as logit adjustment, tau-norm and cRT (METHOD 8).

Each is a function from tables to a patch. Those that change the last layer need its weights: where the logits
are linear in the penultimate tensor, they are recovered from the tables, and the change is a linear patch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxtweak.engine.machine.large_arrays import (
    added,
    blocks,
    by_rows,
    column_sums,
    light_blocks,
    sums_by_rows,
)
from onnxtweak.engine.machine.products import product
from onnxtweak.errors import ModelError
from onnxtweak.head import ONE_LABEL, Head
from onnxtweak.method.softmax import log_losses
from onnxtweak.method.solvers.multinomial import multinomial
from onnxtweak.method.table import Table
from onnxtweak.patch import Linear, bias_patch

TAUS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
# Ridges of a retrained last layer, and L1 penalties of DFR, which validation chooses among.
RIDGES = (1.0, 0.1, 0.01, 1e-3, 1e-4)
LASSOS = (3e-2, 1e-2, 3e-3)
# Fits on balanced halves of validation that DFR averages; their ridge.
_DFR_FITS, _DFR_RIDGE = 3, 1e-4
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

    Raises ModelError where the logits are not linear in T, or for too few samples.
    """
    if len(table.T) < 2 * table.T.shape[1]:
        raise ModelError(
            f"{len(table.T):,} fit samples are too few for a last layer of {table.T.shape[1]:,} inputs",
            hint="give more samples",
        )
    mean = column_sums(table.T) / len(table.T)
    centre = sums_by_rows(lambda Z: Z, table.Z) / len(table.Z)
    triangle, wanted = np.zeros((0, len(mean))), np.zeros((0, len(centre)))
    for part, block in blocks(table.T):  # QR of the rows so far, block by block
        turn, triangle = np.linalg.qr(np.vstack([triangle, block - mean]))
        wanted = turn.T @ np.vstack([wanted, table.Z[part] - centre])
    weight = np.linalg.lstsq(triangle, wanted, rcond=1e-10)[0]
    left = max(
        np.abs(table.Z[part] - centre - (block - mean) @ weight).max() for part, block in blocks(table.T)
    )
    if left > _LINEAR * max(1.0, float(by_rows(lambda Z: np.abs(Z).max(axis=1), table.Z).max())):
        raise ModelError(
            "the logits are not linear in the penultimate tensor",
            hint="controls that change the last layer do not apply to this model",
        )
    return LastLayer(weight, centre - mean @ weight)


def logit_adjustment(fit: Table, validation: Table, head: Head = ONE_LABEL) -> Linear:
    """-tau log prior on every class; tau by accuracy on validation.

    The prior is the base's mean probability of a class over its share of the samples: the frequencies in the
    training set are not known here.
    """

    def probabilities(Z: np.ndarray) -> np.ndarray:
        p = np.exp(Z - Z.max(axis=1, keepdims=True), dtype=np.float64)
        found: np.ndarray = p / p.sum(axis=1, keepdims=True)
        return found

    believed = sums_by_rows(probabilities, fit.Z) / len(fit.Z)
    share = np.bincount(fit.labels, minlength=fit.Z.shape[1]) / len(fit.labels)
    known = share > 0
    log_prior = np.zeros(len(share))
    log_prior[known] = np.log(np.maximum(believed[known], 1e-9) / share[known])
    right = [_right(head, validation, tau * log_prior) for tau in TAUS]
    return bias_patch(-TAUS[int(np.argmax(right))] * log_prior)


def tau_norm(layer: LastLayer, validation: Table, head: Head = ONE_LABEL) -> Linear:
    """Each class's logit without its bias, over the norm of its weights to the power tau."""
    norm = np.maximum(np.linalg.norm(layer.weight, axis=0), 1e-12)
    norm /= np.exp(np.log(norm).mean())  # keeps the logits' size, and with it what a bias means
    right = [_right(head, validation, layer.bias, norm**tau) for tau in TAUS]
    factor = norm ** -TAUS[int(np.argmax(right))]
    return Linear(layer.weight * (factor - 1), layer.bias * -1.0)


def learnable_scale(layer: LastLayer, fit: Table) -> Linear:
    """LWS: each class's logit times a factor learnt by gradient descent on class-balanced cross-entropy."""
    weight = balanced(fit.labels, fit.Z.shape[1])
    factor = best = np.ones(fit.Z.shape[1])
    # A step of this length cannot overshoot: the loss curves by at most Z^2 / 2 in a factor.
    bent = sums_by_rows(lambda Z, w: w * Z.astype(np.float64) ** 2, fit.Z, weight[:, None])
    step, before, losses = 2.0 / max(float(bent.max()), 1e-12), np.inf, np.empty(len(fit.Z))
    for _ in range(_LWS_STEPS):
        slope: np.ndarray | None = None
        for part, block in light_blocks(fit.Z):
            Z, own = block.astype(np.float64), (np.arange(len(block)), fit.labels[part])
            logits = Z * factor
            logits -= logits.max(axis=1, keepdims=True)
            p = np.exp(logits)
            total = p.sum(axis=1)
            losses[part] = np.log(total) - logits[own]
            p /= total[:, None]
            p[own] -= 1
            slope = added(slope, weight[part, None] * p * Z)
        loss = float(weight @ losses)
        if loss > before or slope is None:
            break
        best, before = factor, loss
        factor = factor - step * slope
    return Linear(layer.weight * (best - 1), layer.bias * (best - 1))


def classifier_retrained(layer: LastLayer, fit: Table, validation: Table) -> Linear:
    """cRT: the last layer fitted anew on class-balanced samples; its ridge by balanced loss on validation."""
    weight = balanced(fit.labels, fit.Z.shape[1])
    judge = balanced(validation.labels, fit.Z.shape[1])
    layers = [_refitted(fit, ridge=ridge, sample_weight=weight) for ridge in RIDGES]
    losses = [_loss(validation, refitted, judge) for refitted in layers]
    return _replacing(layer, layers[int(np.argmin(losses))])


def deep_feature_reweighting(layer: LastLayer, validation: Table, seed: int) -> Linear:
    """DFR: L1-penalised last layers on balanced halves of held-out samples, averaged.

    The penalty is chosen by balanced loss on the other half of the first.
    """
    rng = np.random.default_rng(seed)
    classes = validation.Z.shape[1]

    def refitted(half: Table, lasso: float) -> LastLayer:
        weight = balanced(half.labels, classes)
        return _refitted(half, ridge=_DFR_RIDGE, lasso=lasso, sample_weight=weight)

    halves = [np.array_split(rng.permutation(len(validation.labels)), 2) for _ in range(_DFR_FITS)]
    learn, other = (validation.rows(half) for half in halves[0])
    judge = balanced(other.labels, classes)
    tried = [(refitted(learn, lasso), lasso) for lasso in LASSOS]
    first, best = min(tried, key=lambda pair: _loss(other, pair[0], judge))
    layers = [first, *(refitted(validation.rows(half), best) for half, _ in halves[1:])]
    weight = np.mean([fitted.weight for fitted in layers], axis=0)
    bias = np.mean([fitted.bias for fitted in layers], axis=0)
    return _replacing(layer, LastLayer(weight, bias))


def _right(head: Head, table: Table, less: np.ndarray, over: np.ndarray | float = 1.0) -> int:
    """How many samples are right under logits (Z - less) / over."""
    found = by_rows(lambda Z, labels: head.right((Z - less) / over, labels), table.Z, table.labels)
    return int(found.sum())


def balanced(labels: np.ndarray, classes: int) -> np.ndarray:
    """Weights (N,) that sum to 1 and give every class with samples the same share. labels (N,)."""
    count = np.bincount(labels, minlength=classes)
    weight = 1.0 / count[labels]
    return weight / weight.sum()


def _refitted(table: Table, *, ridge: float, sample_weight: np.ndarray, lasso: float = 0.0) -> LastLayer:
    """A last layer fitted from scratch. A class without samples stays behind all others."""
    free = np.unique(table.labels)
    found = multinomial(
        table.T,
        by_rows(np.zeros_like, table.Z),
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


def _replacing(old: LastLayer, new: LastLayer) -> Linear:
    """The patch that turns the logits of one last layer into those of another."""
    return Linear(new.weight - old.weight, new.bias - old.bias)


def _loss(table: Table, layer: LastLayer, weight: np.ndarray) -> float:
    logits = product(table.T, layer.weight, like=table.Z, plus=layer.bias)
    return float(weight @ log_losses(logits, table.labels))
