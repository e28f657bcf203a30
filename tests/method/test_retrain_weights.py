"""Synaptic retraining against SciPy, the full cross-entropy, and awkward tables (oracle 6)."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from onnxtweak.method.retrain.weights import RetrainProblem, boosts, loss, retrain, retrain_best


def tables(seed: int, targets: int, samples: int = 300, neurons: int = 4, classes: int = 5):
    """T per target, Z and labels; the neurons of a target are larger on its samples."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, samples)
    found = [
        np.maximum(rng.normal(size=(samples, neurons)) + 1.0 * (labels == j)[:, None], 0).astype(np.float32)
        for j in range(targets)
    ]
    return found, rng.normal(size=(samples, classes)).astype(np.float32), labels


def cross_entropy(logits, labels, weights):
    top = logits.max(axis=1, keepdims=True)
    every = top[:, 0] + np.log(np.exp(logits - top).sum(axis=1))
    return np.mean(weights * (every - logits[np.arange(len(labels)), labels]))


@pytest.mark.parametrize("chosen", [[1], [0, 2, 4], [0, 1, 2, 3, 4]], ids=["one", "some", "all"])
def test_the_loss_is_the_full_cross_entropy_but_for_a_constant(chosen):
    T, Z, labels = tables(0, len(chosen))
    targets = np.array(chosen)
    of = RetrainProblem.of(T, Z, labels, targets, 2.0)
    rng = np.random.default_rng(1)
    constants = []
    for _ in range(4):
        boost = boosts(T, [rng.normal(size=4) for _ in chosen])
        logits = Z.astype(np.float64)
        logits[:, targets] += boost
        constants.append(cross_entropy(logits, labels, of.weights) - loss(of, boost))
    assert np.ptp(constants) < 1e-12


@pytest.mark.parametrize("chosen", [[1], [0, 2, 4], [0, 1, 2, 3, 4]], ids=["one", "some", "all"])
@pytest.mark.parametrize("penalty", [1.0, 2.0])
def test_the_optimum_is_scipys(chosen, penalty):
    T, Z, labels = tables(2, len(chosen))
    of, ridge = RetrainProblem.of(T, Z, labels, np.array(chosen), penalty), 1e-2
    deviation = np.concatenate([t.std(axis=0, dtype=np.float64) for t in T])

    def objective(flat):
        return loss(of, boosts(T, np.split(flat, len(chosen)))) + ridge / 2 * deviation**2 @ flat**2

    found = retrain(of, ridge)
    best = minimize(objective, np.zeros(4 * len(chosen)), method="BFGS", options={"gtol": 1e-8})
    assert found.note == ""
    assert objective(np.concatenate(found.weight)) <= best.fun + 1e-8
    assert np.concatenate(found.weight) == pytest.approx(best.x, abs=2e-3)


def test_where_it_starts_does_not_matter():
    T, Z, labels = tables(3, 2)
    of = RetrainProblem.of(T, Z, labels, np.array([0, 1]), 2.0)
    rng = np.random.default_rng(0)
    near, far = retrain(of, 1e-2), retrain(of, 1e-2, [rng.normal(size=4) * 3 for _ in range(2)])
    for one, other in zip(near.weight, far.weight, strict=True):
        assert one == pytest.approx(other, abs=1e-3)


def test_a_penalty_moves_the_loss_towards_the_target():
    T, Z, labels = tables(4, 1)
    own = labels == 1
    plain, doubled = (
        boosts(T, retrain(RetrainProblem.of(T, Z, labels, np.array([1]), penalty), 1e-3).weight)[own].mean()
        for penalty in (1.0, 2.0)
    )
    assert doubled > plain


def test_weights_are_finite_where_the_target_is_separable():
    labels = np.repeat([0, 1], 100)
    T = (labels[:, None] * 100.0).astype(np.float32)
    found = retrain(RetrainProblem.of([T], np.zeros((200, 2), np.float32), labels, np.array([1]), 2.0), 0.0)
    assert np.isfinite(found.weight[0]).all() and found.weight[0][0] > 0


def test_collinear_and_constant_neurons_do_no_harm():
    T, Z, labels = tables(5, 1)
    spoiled = np.column_stack([T[0], T[0][:, 0], np.full(len(labels), 3.0, np.float32)])
    plain, found = (
        retrain(RetrainProblem.of([t], Z, labels, np.array([0]), 1.0), 1e-4) for t in (T[0], spoiled)
    )
    assert np.isfinite(found.weight[0]).all()
    assert found.weight[0][5] == 0
    assert spoiled @ found.weight[0] == pytest.approx(T[0] @ plain.weight[0], abs=2e-2)


def test_the_ridge_is_the_best_on_validation():
    T, Z, labels = tables(6, 1, samples=60, neurons=30)
    fit = RetrainProblem.of(T, Z, labels, np.array([0]), 1.0)
    T_val, Z_val, labels_val = tables(7, 1, samples=400, neurons=30)
    validation = RetrainProblem.of(T_val, Z_val, labels_val, np.array([0]), 1.0)
    ridges = (1e-6, 1e-3, 1e-1, 1.0)
    chosen = retrain_best(fit, validation, ridges).ridge
    losses = {r: loss(validation, boosts(T_val, retrain(fit, r).weight)) for r in ridges}
    assert chosen == min(losses, key=losses.get) != 1e-6
