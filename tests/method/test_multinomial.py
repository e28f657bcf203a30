"""The solvers against SciPy's optimum, and on tables that break careless ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp

from onnxtweak.method.solvers.design import design
from onnxtweak.method.solvers.multinomial import multinomial, one_target
from onnxtweak.method.solvers.softmax_loss import RIDGE_FLOOR, rest_offset


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    T = rng.normal(size=(300, 7)) @ rng.normal(size=(7, 7)) + 3
    Z = rng.normal(size=(300, 4)) * 2
    labels = (Z + T @ rng.normal(size=(7, 4)) * 0.5 + rng.gumbel(size=(300, 4))).argmax(axis=1)
    return T, Z, labels


def mean_loss(logits, labels, weight):
    each = logsumexp(logits, axis=1) - logits[np.arange(len(labels)), labels]
    return weight @ each / weight.sum()


def scipy_optimum(T, Z, labels, ridge, weight, lasso=0.0):
    deviation, classes = T.std(axis=0), Z.shape[1]

    def objective(flat):
        W = flat.reshape(-1, classes)
        scaled = W[:-1] * deviation[:, None]
        fit = mean_loss(Z + T @ W[:-1] + W[-1], labels, weight)
        return fit + ridge / 2 * (scaled**2).sum() + lasso * np.abs(scaled).sum()

    start = np.zeros((T.shape[1] + 1) * classes)
    return minimize(objective, start, method="BFGS", options={"gtol": 1e-9, "maxiter": 2000}).fun


def test_multinomial_reaches_the_optimum_of_scipy(problem):
    T, Z, labels = problem
    weight = np.where(labels == 1, 2.0, 1.0)
    found = multinomial(T, Z, labels, ridge=0.01, sample_weight=weight, tolerance=1e-14)
    assert found.loss == pytest.approx(scipy_optimum(T, Z, labels, 0.01, weight), abs=1e-7)
    assert np.allclose(found.scores, T @ found.weight + found.bias)
    assert found.note == ""


def test_the_axes_do_not_change_the_optimum(problem):
    T, Z, labels = problem
    turned = multinomial(design(T), Z, labels, ridge=0.02, tolerance=1e-14)
    plain = multinomial(design(T, turn=False), Z, labels, ridge=0.02, tolerance=1e-14, iterations=2000)
    assert np.allclose(turned.weight, plain.weight, atol=1e-5)


def test_float32_tables_give_the_same_weights(problem):
    T, Z, labels = problem
    wide = multinomial(T, Z, labels, ridge=0.05, tolerance=1e-12)
    narrow = multinomial(T.astype(np.float32), Z, labels, ridge=0.05, tolerance=1e-12)
    assert np.allclose(wide.weight, narrow.weight, atol=1e-3)


def test_one_target_is_the_full_cross_entropy_but_for_a_constant(problem):
    T, Z, labels = problem
    offset, _ = rest_offset(Z, labels, np.array([2]))
    sign = np.where(labels == 2, 1, -1)
    gaps = []
    for seed in range(5):
        boost = T @ np.random.default_rng(seed).normal(size=7)
        full = Z.copy()
        full[:, 2] += boost
        logistic = np.logaddexp(0, -sign * (offset[:, 0] + boost - offset[:, 1])).mean()
        gaps.append(mean_loss(full, labels, np.ones(300)) - logistic)
    assert np.ptp(gaps) < 1e-12


def test_newton_reaches_the_optimum_of_scipy(problem):
    T, Z, labels = problem
    found = one_target(T, Z, labels, 2, ridge=0.01)
    offset, _ = rest_offset(Z, labels, np.array([2]))
    gap, sign, deviation = offset[:, 0] - offset[:, 1], np.where(labels == 2, 1, -1), T.std(axis=0)

    def objective(w):
        fit = np.logaddexp(0, -sign * (gap + T @ w[:-1] + w[-1])).mean()
        return fit + 0.005 * ((w[:-1] * deviation) ** 2).sum()

    best = minimize(objective, np.zeros(8), method="BFGS", options={"gtol": 1e-10})
    assert found.loss == pytest.approx(best.fun, abs=1e-8)
    assert np.allclose(found.weight[:, 0], best.x[:-1], atol=1e-4)
    assert np.allclose(found.scores[:, 0], T @ found.weight[:, 0] + found.bias[0])


def test_newton_without_intercept_and_from_a_warm_start(problem):
    T, Z, labels = problem
    cold = one_target(T, Z, labels, 1, ridge=0.01, intercept=False)
    warm = one_target(T, Z, labels, 1, ridge=0.01, intercept=False, start=cold.axes[:, 0])
    assert cold.bias[0] == 0
    assert warm.iterations < cold.iterations
    assert np.allclose(cold.weight, warm.weight)
    assert np.allclose(cold.scores[:, 0], T @ cold.weight[:, 0])


def test_several_targets_and_a_rest_class_are_the_full_problem(problem):
    T, Z, labels = problem
    targets = np.array([0, 2])
    offset, place = rest_offset(Z, labels, targets)
    reduced = multinomial(T, offset, place, ridge=0.01, free=np.array([0, 1]), tolerance=1e-14)
    whole = multinomial(T, Z, labels, ridge=0.01, free=targets, tolerance=1e-14)
    assert np.allclose(reduced.weight, whole.weight, atol=1e-5)


def test_one_free_class_is_newton(problem):
    T, Z, labels = problem
    newton = one_target(T, Z, labels, 3, ridge=0.02)
    descent = multinomial(T, Z, labels, ridge=0.02, free=np.array([3]), tolerance=1e-14)
    assert np.allclose(newton.weight, descent.weight, atol=1e-5)


def test_lasso_reaches_the_optimum_and_leaves_weights_out(problem):
    T, Z, labels = problem
    found = multinomial(T, Z, labels, ridge=1e-3, lasso=0.02, tolerance=1e-12, iterations=5000)
    best = scipy_optimum(T, Z, labels, 1e-3, np.ones(300), 0.02)
    assert found.loss <= best + 1e-6
    assert 0 < (found.weight == 0).sum() < found.weight.size


def test_samples_of_no_weight_do_not_count_but_are_scored(problem):
    T, Z, labels = problem
    half = np.arange(300) < 150
    found = multinomial(T, Z, labels, ridge=0.1, sample_weight=half.astype(float), tolerance=1e-13)
    spoiled = labels.copy()
    spoiled[150:] = 0
    other = multinomial(T, Z, spoiled, ridge=0.1, sample_weight=half.astype(float), tolerance=1e-13)
    assert np.allclose(found.weight, other.weight)
    assert found.scores.shape == (300, 4)


@pytest.mark.parametrize("solver", ["newton", "descent"])
def test_separable_data_give_finite_weights(solver):
    T = np.concatenate([np.full((20, 2), -1.0), np.full((20, 2), 1.0)]) * [1, 100]
    Z, labels = np.zeros((40, 2)), np.repeat([0, 1], 20)
    if solver == "newton":
        found = one_target(T, Z, labels, 1, ridge=0.0)
    else:
        found = multinomial(T, Z, labels, ridge=0.0)
    assert np.isfinite(found.weight).all() and np.isfinite(found.bias).all()
    assert np.abs(found.scores).max() < 100
    assert found.loss < 0.01


@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_constant_and_equal_columns(problem, ridge):
    T, Z, labels = problem
    wide = np.column_stack([T, T[:, 0], np.full(300, 1e4), np.zeros(300)])
    for found in (multinomial(wide, Z, labels, ridge=ridge), one_target(wide, Z, labels, 1, ridge=ridge)):
        assert np.isfinite(found.weight).all()
        assert (found.weight[-2:] == 0).all()
        assert np.allclose(found.weight[0], found.weight[7], atol=1e-3)


def test_no_convergence_is_said_and_the_best_so_far_handed_over(problem):
    T, Z, labels = problem
    short = multinomial(T, Z, labels, ridge=RIDGE_FLOOR, iterations=2, tolerance=1e-14)
    assert "before it had converged" in short.note
    assert short.loss < mean_loss(Z, labels, np.ones(300))
    newton = one_target(T, Z, labels, 0, ridge=1e-6, iterations=1)
    assert "before it had converged" in newton.note


def test_no_columns_at_all_leave_the_bias(problem):
    _, Z, labels = problem
    found = multinomial(np.empty((300, 0)), Z, labels, ridge=0.1)
    assert found.weight.shape == (0, 4)
    assert found.loss < mean_loss(Z, labels, np.ones(300))


def test_a_grouped_penalty_takes_neurons_for_all_classes_or_none():
    rng = np.random.default_rng(0)
    T = rng.normal(size=(800, 12)).astype(np.float32)
    labels = (T[:, :3] @ rng.normal(size=(3, 4)) * 2 + rng.gumbel(size=(800, 4))).argmax(axis=1)
    Z = np.zeros((800, 4))
    found = multinomial(T, Z, labels, ridge=1e-3, lasso=0.05, grouped=True, tolerance=1e-9)
    rows = np.abs(found.weight) > 0
    assert (rows.all(axis=1) | ~rows.any(axis=1)).all()
    assert set(np.flatnonzero(rows.any(axis=1))) == {0, 1, 2}

    def objective(weight, bias):
        logits = T @ weight + bias
        top = logits.max(axis=1)
        each = top + np.log(np.exp(logits - top[:, None]).sum(axis=1)) - logits[np.arange(800), labels]
        scaled = weight * T.std(axis=0)[:, None]
        return each.mean() + 1e-3 / 2 * (scaled**2).sum() + 0.05 * np.linalg.norm(scaled, axis=1).sum()

    best = objective(found.weight, found.bias)
    for _ in range(20):
        nudge = rng.normal(size=found.weight.shape) * 0.01 * rng.choice([0, 1], size=(12, 1))
        assert objective(found.weight + nudge, found.bias) > best - 1e-6


@pytest.mark.parametrize("free", [[0, 2], [3]], ids=["two", "one"])
def test_fixed_classes_count_in_the_loss(problem, free):
    """They act as one rest class inside; what is reported is the cross-entropy over all."""
    T, Z, labels = problem
    weight = (np.arange(300) < 200).astype(float)
    found = multinomial(T, Z, labels, ridge=1e-3, free=np.array(free), sample_weight=weight, tolerance=1e-12)
    logits = Z.astype(np.float64)
    logits[:, free] += T @ found.weight + found.bias
    assert np.allclose(found.scores, T @ found.weight + found.bias, atol=1e-5)
    standard = found.weight * T.std(axis=0, dtype=np.float64)[:, None]
    loss = mean_loss(logits[:200], labels[:200], np.ones(200)) + 1e-3 * (standard**2).sum() / 2
    assert found.loss == pytest.approx(loss, abs=1e-5)


def test_the_path_goes_on_from_a_stronger_ridge_to_the_same_optimum_in_fewer_steps():
    rng = np.random.default_rng(1)
    T = rng.normal(size=(600, 40)).astype(np.float32) @ rng.normal(size=(40, 40)).astype(np.float32)
    labels = (T @ rng.normal(size=(40, 6)) + 20 * rng.gumbel(size=(600, 6))).argmax(axis=1)
    Z, made, weight = np.zeros((600, 6), np.float32), design(T), np.where(np.arange(600) % 5, 1.0, 0.0)
    options = {"sample_weight": weight, "tolerance": 1e-6}
    strong = multinomial(made, Z, labels, ridge=0.003, **options)
    cold = multinomial(made, Z, labels, ridge=0.001, **options)
    warm = multinomial(made, Z, labels, ridge=0.001, start=strong, **options)
    by_weights = multinomial(made, Z, labels, ridge=0.001, start=strong.axes, **options)
    assert warm.loss == pytest.approx(cold.loss, abs=1e-5)
    assert warm.iterations < min(cold.iterations, by_weights.iterations)
    assert multinomial(made, Z, labels, ridge=0.003, start=strong, **options).iterations <= 1


def test_scores_of_samples_left_out_are_those_of_the_weights(problem):
    T, Z, labels = problem
    left_out = (np.arange(len(T)) % 3 > 0).astype(float)
    found = multinomial(T, Z, labels, ridge=0.01, sample_weight=left_out)
    assert np.allclose(found.scores, T @ found.weight + found.bias)


def test_a_class_without_a_sample_is_not_pushed_away_but_moves_with_the_others(problem):
    T, Z, labels = problem
    there = (labels != 2).astype(float)
    found = multinomial(T, Z, labels, ridge=0.01, sample_weight=there, tolerance=1e-12)
    alone = multinomial(
        T, Z[:, [0, 1, 3]], labels - (labels > 2), ridge=0.01, sample_weight=there, tolerance=1e-12
    )
    assert np.allclose(found.weight[:, [0, 1, 3]], alone.weight) and np.allclose(
        found.bias[2], alone.bias.mean()
    )
    assert np.allclose(found.weight[:, 2], alone.weight.mean(axis=1))
    assert np.allclose(found.scores, T @ found.weight + found.bias)
    again = multinomial(T, Z, labels, ridge=0.003, sample_weight=there, start=found, tolerance=1e-12)
    cold = multinomial(T, Z, labels, ridge=0.003, sample_weight=there, tolerance=1e-12)
    one, other = (each.scores - each.scores.mean(axis=1, keepdims=True) for each in (again, cold))
    assert np.allclose(one, other, atol=1e-4)
