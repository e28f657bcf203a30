"""A copy brought back to its reference, from tables; the losses against other solvers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from onnxtweak.goal import ResolvedGoal
from onnxtweak.method.match import match_reference
from onnxtweak.method.softmax import log_losses
from onnxtweak.method.solvers.design import design
from onnxtweak.method.solvers.multinomial import multinomial
from onnxtweak.method.solvers.regression import moments
from onnxtweak.method.table import Table
from onnxtweak.settings import FitSettings
from tests.support.learning import learning

CLASSES, NEURONS = 4, 12


def tables(samples, lost, seed=0, noise=0.2):
    """A copy's table and its reference's logits. lost : how much of what the neurons tell the copy lacks."""
    rng = np.random.default_rng(seed)
    T = np.maximum(rng.normal(size=(samples, NEURONS)), 0).astype(np.float32)
    W = np.random.default_rng(99).normal(size=(NEURONS, CLASSES))
    Z = rng.normal(size=(samples, CLASSES))
    reference = Z + T @ W
    copy = Z + (1 - lost) * (T @ W) + noise * lost * rng.normal(size=Z.shape)
    labels = reference.argmax(axis=1)
    return Table(T, copy.astype(np.float32), labels), reference


def agreement(logits, reference):
    return float((logits.argmax(axis=1) == reference.argmax(axis=1)).mean())


def goal():
    return ResolvedGoal(np.arange(CLASSES))


def found_on(table, reference):
    return match_reference(learning(table), reference, {"neurons": np.arange(NEURONS)}, goal(), FitSettings())


def test_what_neurons_tell_comes_back():
    found = found_on(*tables(1500, lost=0.7))
    fresh, reference = tables(4000, lost=0.7, seed=1)
    columns, patch = found.patch
    before, after = agreement(fresh.Z, reference), agreement(fresh.patched(columns, patch), reference)
    assert found.kind == "fit"
    assert after > 0.95 > before + 0.2
    biased = agreement(fresh.Z + found.control, reference)
    assert after > biased + 0.1


@pytest.mark.parametrize("constant", [0.0, 3.0])
def test_where_nothing_was_lost_nothing_is_changed(constant):
    table, reference = tables(800, lost=0.0)
    found = found_on(table, reference + constant)
    assert found.kind == "base"
    assert found.patch[1] is None


def test_a_constant_that_was_lost_comes_back_as_a_bias():
    table, reference = tables(2000, lost=0.0)
    off = np.array([1.5, 0.0, -1.0, 0.0])
    rng = np.random.default_rng(4)
    unknowing = replace(table, Z=(table.Z + off).astype(np.float32), T=rng.normal(size=table.T.shape))
    found = found_on(unknowing, reference)
    assert found.kind == "bias"
    assert agreement(unknowing.Z + found.bias, reference) > agreement(unknowing.Z, reference) + 0.05


def test_a_copy_without_hidden_neurons_gets_no_patch():
    table, reference = tables(800, lost=0.7)
    found = match_reference(learning(replace(table, T=table.T[:, :0])), reference, {}, goal(), FitSettings())
    assert found.kind in ("bias", "base")


def test_the_reference_may_be_in_other_units():
    """Logits that are a hundred times larger decide alike: the learnt patch brings decisions back too."""
    table, reference = tables(1500, lost=0.7)
    for factor in (0.01, 100.0):
        scaled = replace(table, Z=table.Z * np.float32(factor))
        columns, patch = found_on(scaled, reference * factor).patch
        assert agreement(scaled.patched(columns, patch), reference) > 0.95


def test_both_losses_are_judged_on_samples_held_out():
    table, reference = tables(600, lost=0.7)
    notes = found_on(table, reference).notes
    assert "by regression" in notes[0] and "by cross-entropy" in notes[0]


def test_regression_is_the_ridge_of_textbooks():
    rng = np.random.default_rng(2)
    T, lacking = rng.normal(size=(200, 5)) * [1, 2, 3, 4, 5] + 1, rng.normal(size=(200, 3))
    rows = np.arange(150)
    made = design(T)
    weight, bias = made.in_units(moments(made, lacking, rows).regressed(0.3))
    X = (T - T.mean(axis=0)) / T.std(axis=0)
    X, D = X[rows] - X[rows].mean(axis=0), lacking[rows] - lacking[rows].mean(axis=0)
    direct = np.linalg.solve(X.T @ X / 150 + 0.3 * np.eye(5), X.T @ D / 150) / T.std(axis=0)[:, None]
    np.testing.assert_allclose(weight, direct, rtol=1e-9, atol=1e-12)
    left = lacking[rows] - (T[rows] @ weight + bias)
    np.testing.assert_allclose(left.mean(axis=0), 0, atol=1e-12)


def test_cross_entropy_against_shares_is_scipys_optimum():
    rng = np.random.default_rng(3)
    T, Z = rng.normal(size=(150, 3)), rng.normal(size=(150, CLASSES))
    shares = softmax(rng.normal(size=(150, CLASSES)), axis=1)
    deviation = T.std(axis=0)

    def objective(flat):
        W = flat.reshape(-1, CLASSES)
        loss = -(shares * log_softmax(Z + T @ W[:-1] + W[-1], axis=1)).sum(axis=1).mean()
        return loss + 0.05 * ((W[:-1] * deviation[:, None]) ** 2).sum()

    best = minimize(objective, np.zeros(4 * CLASSES), method="BFGS", options={"gtol": 1e-9}).fun
    solved = multinomial(T, Z, shares, ridge=0.1, tolerance=1e-10)
    assert objective(np.vstack([solved.weight, solved.bias]).ravel()) == pytest.approx(best, abs=1e-6)
    np.testing.assert_allclose(
        log_losses(Z, shares), -(shares * log_softmax(Z, axis=1)).sum(axis=1), rtol=1e-12
    )


def test_shares_of_one_are_labels():
    rng = np.random.default_rng(5)
    T, Z, labels = rng.normal(size=(200, 6)), rng.normal(size=(200, CLASSES)), rng.integers(0, CLASSES, 200)
    soft = multinomial(T, Z, np.eye(CLASSES)[labels], ridge=0.01)
    hard = multinomial(T, Z, labels, ridge=0.01)
    np.testing.assert_allclose(soft.weight, hard.weight, rtol=1e-5, atol=1e-7)
