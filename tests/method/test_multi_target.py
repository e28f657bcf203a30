"""Targets that share neurons: the same optimum, whichever way the products are computed."""

from __future__ import annotations

import numpy as np
import pytest

from onnxtweak.method.retrain.weights import RetrainProblem, boosts, loss, retrain, retrain_best, retrain_path
from onnxtweak.method.solvers import multi_target
from onnxtweak.method.solvers.softmax_loss import rest_offset

CLASSES, NEURONS = 6, 9


def shared(seed: int, *, samples: int = 300, each: int = 5):
    """One table of neurons, the columns that each target reads, Z and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, samples)
    T = np.maximum(rng.normal(size=(samples, NEURONS)) + (labels[:, None] == np.arange(NEURONS)), 0)
    T[:, -1] = 2.0  # says nothing
    columns = [np.sort(rng.permutation(NEURONS)[:each]) for _ in range(CLASSES - 1)]
    return T.astype(np.float32), columns, rng.normal(size=(samples, CLASSES)).astype(np.float32), labels


def both(seed: int, targets: np.ndarray, **options):
    T, columns, Z, labels = shared(seed, **options)
    columns = columns[: len(targets)]
    tables = [T[:, c] for c in columns]
    made = (RetrainProblem.of(tables, Z, labels, targets, 2.0, known) for known in (columns, None))
    return *made, columns


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("ridge", [1e-1, 1e-3])
def test_shared_neurons_have_the_same_optimum(intercept, ridge):
    one, other, _ = both(0, np.arange(5))
    found, apart = (retrain(of, ridge, intercept=intercept) for of in (one, other))
    assert found.note == apart.note == ""
    assert multi_target.target_columns(one.tables, one.columns, intercept).shared
    assert not multi_target.target_columns(other.tables, other.columns, intercept).shared
    for w, v in zip(found.weight, apart.weight, strict=True):
        assert w == pytest.approx(v, abs=2e-4)
    assert found.bias == pytest.approx(apart.bias, abs=2e-4)
    assert bool(found.bias.any()) == intercept


def test_a_neuron_that_says_nothing_gets_no_weight():
    of, _, columns = both(1, np.arange(4))
    found = retrain(of, 1e-3, intercept=True)
    assert any(NEURONS - 1 in c for c in columns)
    for c, w in zip(columns, found.weight, strict=True):
        assert (w[c == NEURONS - 1] == 0).all() and np.isfinite(w).all()


def test_targets_that_share_nothing_keep_their_own_products():
    T = shared(2)[0]
    wide = np.hstack([T] * 20)
    columns = [np.arange(k * 10, k * 10 + 2) for k in range(12)]
    tables = [wide[:, c] for c in columns]
    assert not multi_target.target_columns(tables, columns, False).shared


def test_columns_are_gathered_from_wherever_they_are():
    T, columns, *_ = shared(3)
    found = multi_target.target_columns([T[:, c] for c in columns], columns, True)
    for t, c in enumerate(columns):
        X = (T[:, c] - found.mean[t]) * found.inverse[t]
        own = np.concatenate([block for _, block in found.of(t)])
        np.testing.assert_allclose(own, X, atol=1e-12)


def test_large_tables_are_kept_in_single_precision(monkeypatch):
    of, _, _ = both(4, np.arange(5))
    exact = retrain(of, 1e-2, intercept=True)
    monkeypatch.setattr(multi_target, "_LARGE", 100)
    assert multi_target.target_columns(of.tables, of.columns, True).parts[0].dtype == np.float32
    single = retrain(of, 1e-2, intercept=True)
    for w, v in zip(single.weight, exact.weight, strict=True):
        assert w == pytest.approx(v, abs=5e-3)


def test_the_curvature_at_the_start_is_that_of_the_objective():
    """Along every axis, by differences: that is what the axes are chosen for."""
    of, _, columns = both(5, np.arange(4))
    neurons = multi_target.target_columns(of.tables, of.columns, True)
    made = multi_target._JointObjective(neurons, of.offsets, of.place, of.weights, 1e-3, True)
    rng = np.random.default_rng(0)
    made.turn_to([0.1 * rng.normal(size=len(c)) for c in columns], 0.1 * rng.normal(size=4))
    p = made.value(made.scores(made.begin), made.begin)[1]
    along, step = made.curvature(p), 1e-4
    for k in rng.permutation(len(along))[:8]:
        move = np.zeros(len(along))
        move[k] = step
        gradients = [
            made.gradient(made.value(made.scores(U), U)[1], U) for U in (made.begin + move, made.begin - move)
        ]
        bent = (gradients[0] - gradients[1]) / (2 * step)
        # What samples count that are as good as decided comes on top.
        assert 0.85 * along[k] <= bent[k] * (1 + multi_target._DECIDED) <= 1.15 * along[k]
        if k < made.ends[-1]:
            t = np.searchsorted(made.ends, k, side="right") - 1
            own = np.r_[made.ends[t] : made.ends[t + 1], made.ends[-1] + t]
            assert np.abs(bent[own[own != k]]).max() < 0.2 * along[own].max()


def test_weights_to_begin_with_are_found_again():
    of, _, columns = both(6, np.arange(4))
    neurons = multi_target.target_columns(of.tables, of.columns, True)
    made = multi_target._JointObjective(neurons, of.offsets, of.place, of.weights, 1e-3, True)
    rng = np.random.default_rng(1)
    weight = [np.where(c == NEURONS - 1, 0, rng.normal(size=len(c))) for c in columns]
    made.turn_to(weight, np.arange(4.0))
    again, bias = made.in_units(made.begin)
    for w, v in zip(weight, again, strict=True):
        assert w == pytest.approx(v, abs=1e-9)
    assert bias == pytest.approx(np.arange(4.0), abs=1e-9)


def test_the_path_ends_where_each_ridge_alone_does():
    of, _, _ = both(7, np.arange(5))
    for ridge, found in zip(
        (1.0, 1e-1, 1e-2), retrain_path(of, (1.0, 1e-1, 1e-2), intercept=True), strict=True
    ):
        alone = retrain(of, ridge, intercept=True)
        for w, v in zip(found.weight, alone.weight, strict=True):
            assert w == pytest.approx(v, abs=1e-3)


def test_the_best_ridge_of_shared_neurons_is_that_of_their_own():
    targets = np.arange(5)
    fit, validation = both(8, targets, samples=80)[:2], both(9, targets, samples=400)[:2]
    ridges = (1e-6, 1e-3, 1e-1, 1.0)
    found = [retrain_best(one, other, ridges) for one, other in zip(fit, validation, strict=True)]
    assert found[0].ridge == found[1].ridge
    losses = [loss(validation[0], boosts(validation[0].tables, made.weight)) for made in found]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_the_rest_may_be_nothing():
    """Every class a target: there is no rest class to push against."""
    T, columns, Z, labels = shared(10)
    columns = [*columns, columns[0]]
    of = RetrainProblem.of([T[:, c] for c in columns], Z, labels, np.arange(CLASSES), 1.0, columns)
    assert np.isneginf(rest_offset(Z, labels, np.arange(CLASSES))[0][:, -1]).all()
    found = retrain(of, 1e-2)
    assert found.note == "" and loss(of, boosts(of.tables, found.weight)) < loss(
        of, np.zeros((len(Z), CLASSES))
    )
