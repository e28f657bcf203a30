"""The exact search for biases under a metric, and what they do on samples they were not set on."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy.optimize import brute

from onnxtweak.engine.machine import large_arrays
from onnxtweak.goal import ResolvedGoal
from onnxtweak.head import ONE_LABEL
from onnxtweak.method.folds import fold_numbers
from onnxtweak.method.tuning import metric_bias as metric_bias_module
from onnxtweak.method.tuning.bias_control import overall_bias
from onnxtweak.method.tuning.metric_bias import metric_bias, predictions, tune
from onnxtweak.metric.asked import metric_of
from onnxtweak.metric.kinds import Cost

NAMES = [f"class {c}" for c in range(5)]
COST = Cost("cost:x", "mean cost", np.array([[0, 1, 1], [8, 0, 1], [1, 1, 0.0]]))


def drawn(seed: int, n: int = 600, classes: int = 3, shift: float = 1.0):
    """Logits (n, C) of a model that favours class 0, labels of unequal classes."""
    rng = np.random.default_rng(seed)
    share = np.array([0.6, 0.3, 0.1, 0.2, 0.3][:classes])
    labels = rng.choice(classes, n, p=share / share.sum())
    Z = rng.normal(size=(n, classes)) + 1.5 * np.eye(classes)[labels] + shift * np.eye(classes)[0]
    return Z.astype(np.float32), labels


def value(metric, Z, labels, bias):
    return metric.sign * metric.value(predictions(Z + bias.astype(Z.dtype), labels, ONE_LABEL))


def test_biases_of_logits_in_a_file_are_the_same_and_little_of_them_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(large_arrays, "LIGHT", 2**10)
    rng = np.random.default_rng(0)
    base = rng.standard_normal((700, 60), np.float32)
    labels, fold = (base + rng.gumbel(size=base.shape)).argmax(axis=1), np.arange(700) % 2
    metric = metric_of("balanced", [f"class {c}" for c in range(60)])
    goal = ResolvedGoal(np.arange(60), metric=metric, max_overall_drop=5.0)
    stored = large_arrays.new_array(base.shape, base.dtype, tmp_path)
    stored[:] = base
    plain = tune(base, base, labels, goal, fold, 1.0)
    tracemalloc.start()
    try:
        found = tune(stored, stored, labels, goal, fold, 1.0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert large_arrays.is_mapped(found.held_out) and peak < 4 * base.nbytes, "in memory it is nine times"
    for one, other in zip(vars(plain).values(), vars(found).values(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("word", ["balanced", "worst", "f1", "iou", "cost"])
def test_one_bias_is_as_good_as_any(word):
    """For two classes one bias is all there is: no point of a fine grid is better."""
    Z, labels = drawn(0, classes=2)
    metric = (
        Cost("cost:x", "", np.array([[0, 1], [9.0, 0]])) if word == "cost" else metric_of(word, NAMES[:2])
    )
    bias = metric_bias(Z, labels, metric, ONE_LABEL)
    grid = np.linspace(-8, 8, 4001)
    best = max(value(metric, Z, labels, np.array([0, step])) for step in grid)
    assert value(metric, Z, labels, bias) >= best - 1e-9
    assert value(metric, Z, labels, bias) > value(metric, Z, labels, np.zeros(2)) + 0.005


@pytest.mark.parametrize("word", ["balanced", "worst", "f1", "iou", "cost"])
def test_the_biases_of_three_classes_are_near_the_best_there_are(word):
    Z, labels = drawn(1)
    metric = COST if word == "cost" else metric_of(word, NAMES[:3])
    bias = metric_bias(Z, labels, metric, ONE_LABEL)

    def loss(two):
        return -value(metric, Z, labels, np.array([0, *two]))

    found = -brute(loss, ((-3, 4), (-3, 4)), Ns=40, full_output=True, finish=None)[1]
    ours = value(metric, Z, labels, bias)
    assert ours > value(metric, Z, labels, np.zeros(3))
    assert ours >= found - 0.02 * np.abs(found)  # classes in turn may end a little below


def test_a_share_of_nothing_is_accuracy():
    Z, labels = drawn(2)
    bias = metric_bias(Z, labels, metric_of("worst", NAMES[:3]), ONE_LABEL, share=0.0)
    control = overall_bias(Z, labels, ResolvedGoal(np.arange(3)))
    right = [ONE_LABEL.right(Z + each.astype(np.float32), labels).mean() for each in (bias, control)]
    assert right[0] == pytest.approx(right[1], abs=0.005)


def test_a_class_without_samples_gets_no_favours():
    Z, labels = drawn(3)
    wide = np.column_stack([Z, np.full(len(Z), 0.5, np.float32)])
    bias = metric_bias(wide, labels, metric_of("balanced", NAMES[:4]), ONE_LABEL)
    assert (wide + bias).argmax(axis=1).max() < 3


def test_biases_keep_the_drops_allowed_on_new_samples():
    """The rare class gains what the others may lose, and no more."""
    metric = metric_of("balanced", NAMES[:3])
    gains, drops = {}, {}
    for allowed in (0.0, 2.0, 100.0):
        goal = ResolvedGoal(np.arange(3), max_overall_drop=allowed, metric=metric)
        gain, drop = [], []
        for seed in range(6):
            Z, labels = drawn(seed, 1500)
            new, theirs = drawn(100 + seed, 4000)
            found = tune(Z, Z, labels, goal, fold_numbers(labels, 5, 0), 1.0)
            assert found.holds
            gain.append(value(metric, new, theirs, found.bias) - value(metric, new, theirs, np.zeros(3)))
            was, now = (
                ONE_LABEL.right(new + b.astype(np.float32), theirs) for b in (np.zeros(3), found.bias)
            )
            drop.append(was.mean() - now.mean())
        gains[allowed], drops[allowed] = np.mean(gain), np.mean(drop) * 100
    assert gains[100.0] > gains[2.0] > gains[0.0] - 1e-9 and gains[100.0] > 0.05
    assert drops[0.0] < 0.3 and drops[2.0] < 2.2 and drops[100.0] > 1.5


def test_a_cut_is_a_bias_that_keeps_the_limit_on_new_samples():
    metric = metric_of("recall@fpr=0.05", NAMES[:2])
    goal, kept = ResolvedGoal(np.arange(2), max_overall_drop=100.0, metric=metric), []
    for seed in range(60):
        Z, labels = drawn(seed, 800, 2, shift=-1.0)
        new, theirs = drawn(1000 + seed, 800, 2, shift=-1.0)
        found = tune(Z, Z, labels, goal, fold_numbers(labels, 5, 0), 1.0)
        recall, false, samples = metric.at_cut(
            predictions(new + found.bias.astype(np.float32), theirs, ONE_LABEL)
        )
        kept.append(false <= 0.05 * samples)
        assert found.holds and found.bias[0] == 0 and abs(found.rating - recall) < 0.25
    assert np.mean(kept) > 0.75


def test_folds_are_left_alone_where_no_biases_keep_the_limits(monkeypatch):
    """What does not hold on the samples that it was set on need not be tried on others."""
    base, labels = drawn(4, n=200)
    ruined = np.random.default_rng(0).normal(size=base.shape).astype(np.float32)
    goal = ResolvedGoal(np.arange(3), metric=metric_of("balanced", NAMES[:3]))
    sought = []

    def counted(Z, *of):
        sought.append(len(Z))
        return metric_bias(Z, *of)

    monkeypatch.setattr(metric_bias_module, "metric_bias", counted)
    found = tune(ruined, base, labels, goal, fold_numbers(labels, 5, 0), 1.0)
    assert not found.holds and set(sought) == {200}
