"""Several labels at once: solver, calibration and thresholds, each against a plain way to do it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from onnxtweak.data.several.marks import rarest
from onnxtweak.goal import ResolvedGoal
from onnxtweak.head import SEVERAL_LABELS
from onnxtweak.method.fit.learning import Learning
from onnxtweak.method.fit.several.labels import fit_labels
from onnxtweak.method.solvers.design import design
from onnxtweak.method.solvers.logistic import logistic
from onnxtweak.method.solvers.multinomial import multinomial
from onnxtweak.method.table import Table
from onnxtweak.method.temperature import calibrate_labels
from onnxtweak.method.tuning.label_bias import best_bias, best_biases
from onnxtweak.patch import Linear, Mlp
from onnxtweak.settings import FitSettings
from tests.support.short_trainings import short_trainings


def drawn(seed=0, samples=300, neurons=8, labels=3):
    rng = np.random.default_rng(seed)
    T = rng.normal(size=(samples, neurons))
    W = rng.normal(size=(neurons, labels))
    Z = rng.normal(size=(samples, labels))
    marks = (T @ W + Z + rng.logistic(size=Z.shape) > 0).astype(np.int8)
    return T, Z, marks


@pytest.mark.parametrize("ridge", [0.3, 0.01])
def test_each_label_is_the_logistic_regression_of_its_own(ridge):
    T, Z, marks = drawn()
    marks[::3, 1] = -1
    whole = design(T)
    found = logistic(whole, Z, marks, np.full(3, ridge), tolerance=1e-14)
    for c in range(3):
        known = marks[:, c] >= 0
        pair = np.column_stack([np.zeros(known.sum()), Z[known, c]])
        own = multinomial(
            design_of(whole, known),
            pair,
            marks[known, c].astype(np.int64),
            ridge=ridge,
            free=np.array([1]),
            tolerance=1e-14,
        )
        assert found.weight[:, c] == pytest.approx(own.weight[:, 0], abs=1e-4)
        assert found.bias[c] == pytest.approx(own.bias[0], abs=1e-4)


def design_of(whole, rows):
    from dataclasses import replace

    return replace(whole, X=whole.X[rows])


def test_what_is_not_known_has_no_weight_in_the_fit():
    T, Z, marks = drawn()
    hidden = marks.copy()
    hidden[:150] = -1
    garbage = T.copy()
    found = logistic(design(garbage), Z, hidden, 0.1, tolerance=1e-12)
    again = hidden.copy()
    again[:150] = -1
    assert np.array_equal(logistic(design(garbage), Z, again, 0.1, tolerance=1e-12).weight, found.weight)
    alone = logistic(design_of(design(T), np.arange(300) >= 150), Z[150:], marks[150:], 0.1, tolerance=1e-12)
    assert found.weight == pytest.approx(alone.weight, abs=1e-6)


def test_a_sample_that_counts_twice_is_one_that_is_there_twice():
    T, Z, marks = drawn()
    twice = np.append(np.arange(300), np.arange(100))
    weight = 1.0 + (np.arange(300) < 100)
    of_all = design(T)
    found = logistic(of_all, Z, marks, 0.1, weight=weight, tolerance=1e-12)
    again = logistic(design_of(of_all, twice), Z[twice], marks[twice], 0.1, tolerance=1e-12)
    assert found.weight == pytest.approx(again.weight, abs=1e-5)


def test_calibration_is_platts():
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(4000, 2)) * [2, 1]
    p = 1 / (1 + np.exp(-(Z * [0.4, 3] + [1, -2])))
    marks = (rng.random(Z.shape) < p).astype(np.int8)
    slope, bias = calibrate_labels(Z, marks)
    for c in range(2):
        plain = LogisticRegression(C=1e6).fit(Z[:, [c]], marks[:, c])
        assert (slope[c], bias[c]) == pytest.approx((plain.coef_[0, 0], plain.intercept_[0]), abs=0.02)
    marks[::2, 0] = -1
    some, _ = calibrate_labels(Z, marks)
    assert some[0] == pytest.approx(slope[0], abs=0.1) and some[1] == slope[1]


def test_calibration_ends_where_labels_are_separated_or_all_of_a_kind():
    Z = np.linspace(-1, 1, 40)[:, None] * np.ones(3)
    marks = np.column_stack([Z[:, 0] > 0, np.zeros(40), Z[:, 0] < 0]).astype(np.int8)
    slope, bias = calibrate_labels(Z, marks)
    assert np.isfinite(slope).all() and np.isfinite(bias).all() and (slope > 0).all()
    assert (slope[1], bias[1]) == (1, 0)


@pytest.mark.parametrize("seed", range(20))
def test_the_best_threshold_is_the_best_of_all_there_are(seed):
    rng = np.random.default_rng(seed)
    score = np.round(rng.normal(size=25), 1)
    marks = (score + rng.normal(0, 1, 25) > 0.8).astype(np.int8)
    if not marks.any():
        marks[0] = 1
    bias = best_bias(score, marks.astype(float))
    cuts = np.concatenate([[score.min() - 1], np.unique(score) + 0.05])
    best = max(f1_score(marks, score > cut) for cut in cuts)
    assert f1_score(marks, score + bias > 0) == pytest.approx(best)
    if f1_score(marks, score > 0) == best:
        assert bias == 0


def test_a_label_without_a_known_mark_keeps_its_threshold():
    Z = np.random.default_rng(0).normal(size=(30, 2))
    marks = np.full((30, 2), -1, np.int8)
    marks[:, 1] = Z[:, 1] > 1
    bias = best_biases(Z, marks, 20.0, -20.0)
    assert bias[0] == 0 and bias[1] == pytest.approx(-1, abs=0.3)


def learnt(T, Z, marks, **settings):
    table = Table(T.astype(np.float32), Z.astype(np.float32), marks)
    learning = Learning(table, np.ones(len(T), bool))
    goal = ResolvedGoal(np.arange(Z.shape[1]), SEVERAL_LABELS)
    return fit_labels(learning, {"all": np.arange(T.shape[1])}, goal, FitSettings(**settings))


def test_labels_that_neurons_know_get_weights():
    T, Z, marks = drawn(samples=900)
    found = learnt(T[:600], Z[:600], marks[:600])
    columns, patch = found.patch
    now = patch.applied(Z[600:].astype(np.float32), T[600:, columns].astype(np.float32)) > 0
    assert found.kind == "fit"
    assert (
        f1_score(marks[600:], now, average="macro")
        > f1_score(marks[600:], Z[600:] > 0, average="macro") + 0.1
    )


LONG = (1500, 0.1)  # enough for what follows


def bent(seed, samples=500):
    """Two labels: one bends where the product of two neurons changes its sign, the other is linear."""
    rng = np.random.default_rng(seed)
    T, Z = rng.normal(size=(samples, 4)), rng.normal(size=(samples, 2))
    wanted = np.column_stack([3 * T[:, 0] * T[:, 1], 2 * T[:, 2]]) + 0.3 * Z
    return T, Z, (wanted + rng.logistic(size=Z.shape) > 0).astype(np.int8)


def test_a_label_takes_of_the_hidden_layer_what_helps_it():
    T, Z, marks = bent(0)
    with short_trainings(*LONG):
        straight, found = (learnt(T, Z, marks, hidden=hidden, folds=3) for hidden in (0, 12))
    assert isinstance(straight.patch[1], Linear) and isinstance(found.patch[1], Mlp)
    note = " ".join(found.notes)
    assert "12 hidden units" in note and "for 1, their mean for 0 labels" in note
    T, Z, marks = bent(1, samples=2000)

    def f1(fitted):
        columns, patch = fitted.patch
        now = patch.applied(Z.astype(np.float32), T[:, columns].astype(np.float32))
        return f1_score(marks, now > 0, average=None), now

    (was, before), (now, after) = f1(straight), f1(found)
    assert now[0] > was[0] + 0.08
    apart = after[:, 1] - before[:, 1]  # the other keeps its own weights, whatever its threshold
    assert np.ptp(apart) < 1e-3


def test_a_hidden_layer_leaves_labels_that_nobody_asked_for_alone():
    T, Z, marks = bent(0)
    table = Table(T.astype(np.float32), Z.astype(np.float32), marks)
    learning, goal = Learning(table, np.ones(len(T), bool)), ResolvedGoal(np.array([0]), SEVERAL_LABELS)
    with short_trainings(*LONG):
        settings = FitSettings(hidden=12, folds=3)
        columns, patch = fit_labels(learning, {"all": np.arange(4)}, goal, settings).patch
    now = patch.applied(table.Z, table.T[:, columns])
    assert isinstance(patch, Mlp) and np.array_equal(now[:, 1], table.Z[:, 1])
    assert not np.array_equal(now[:, 0], table.Z[:, 0])


def test_what_is_kept_holds_the_hidden_layer_back():
    T, Z, marks = bent(0)
    table = Table(T.astype(np.float32), Z.astype(np.float32), marks)
    learning = Learning(table, np.ones(len(T), bool))
    rng = np.random.default_rng(2)
    far = Table(*(rng.normal(4, 1, (500, n)).astype(np.float32) for n in (4, 2)), np.zeros((500, 2), np.int8))
    far = replace(far, labels=(far.Z > 0).astype(np.int8))
    goal = ResolvedGoal(np.arange(2), SEVERAL_LABELS)
    with short_trainings(*LONG):
        found = [
            fit_labels(one, {"all": np.arange(4)}, goal, FitSettings(hidden=12, folds=3)).patch
            for one in (learning, learning.joined(far))
        ]
    moved = [np.abs(patch.delta(far.T[:, columns])[:, 0]).mean() for columns, patch in found]
    assert all(isinstance(patch, Mlp) for _, patch in found) and moved[1] < 0.3 * moved[0]


def test_a_label_that_neurons_do_not_know_is_left_as_it_is():
    T, Z, marks = drawn(samples=600)
    marks[:, 2] = Z[:, 2] > 0  # right already
    found = learnt(T, Z, marks)
    columns, patch = found.patch
    assert not patch.weight[:, 2].any() and patch.bias[2] == 0
    assert patch.weight[:, 0].any() and len(columns) == T.shape[1]


def test_neurons_that_know_nothing_change_nothing():
    rng = np.random.default_rng(1)
    Z = rng.normal(size=(400, 3)) * 3
    marks = (rng.random(Z.shape) < 1 / (1 + np.exp(-Z))).astype(np.int8)
    assert learnt(rng.normal(size=(400, 6)), Z, marks).kind in ("base", "bias")


def test_samples_are_dealt_by_their_rarest_label():
    marks = np.array([[1, 0, 0], [1, 1, 0], [1, 0, -1], [0, 0, 0]], np.int8)
    assert rarest(marks).tolist() == [0, 1, 0, 3]


@pytest.mark.parametrize("settings", [FitSettings(), FitSettings(synapses=4)])
def test_what_is_kept_is_not_learnt_again(settings):
    """Families and folds of several labels, and weights on all samples."""
    rng = np.random.default_rng(0)
    T = rng.standard_normal((300, 4)).astype(np.float32)
    Z = rng.standard_normal((300, 2)).astype(np.float32)
    marks = (Z + T[:, :2] + rng.standard_normal(Z.shape) > 0).astype(np.int64)
    known = {}

    def keep(name, make):
        assert name not in known
        return known.setdefault(name, make())

    def hand_out(name, make):
        return known.pop(name)

    learning = Learning(Table(T, Z, marks), np.ones(len(T), bool), kept=keep)
    families, goal = {"two": np.arange(2), "all": np.arange(4)}, ResolvedGoal(np.arange(2), SEVERAL_LABELS)
    first = fit_labels(learning, families, goal, settings)
    weight = first.patch[1].weight
    assert len(known) >= 3
    again = fit_labels(replace(learning, kept=hand_out), families, goal, settings)
    np.testing.assert_array_equal(weight, again.patch[1].weight)
    assert not known and first.notes == again.notes
    with pytest.raises(KeyError):  # other samples are other problems
        fit_labels(replace(learning, table=Table(T, Z + 1, marks), kept=hand_out), families, goal, settings)
