"""The controls: each against what it should do on tables where that is known."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from onnxtweak.engine.machine import large_arrays
from onnxtweak.errors import ModelError
from onnxtweak.method.compare import controls
from onnxtweak.method.compare.controls import (
    LastLayer,
    balanced,
    classifier_retrained,
    deep_feature_reweighting,
    last_layer,
    learnable_scale,
    logit_adjustment,
    tau_norm,
)
from onnxtweak.method.table import Table

CLASSES = 4


def tables(samples, *, seed=0, width=6, norms=(1, 1, 1, 1), shift=(0, 0, 0, 0)):
    """A linear layer whose true weights are scaled by `norms` and whose bias is moved by `shift`."""
    rng = np.random.default_rng(seed)
    fixed = np.random.default_rng(7)
    T = rng.normal(size=(samples, width)).astype(np.float32)
    W, b = fixed.normal(size=(width, CLASSES)) * 2, fixed.normal(size=CLASSES) * 0.1
    W -= W.mean(axis=1, keepdims=True)
    W /= np.linalg.norm(W, axis=0)
    W *= 3
    labels = (T @ W + b + rng.gumbel(size=(samples, CLASSES))).argmax(axis=1)
    Z = T @ (W * norms) + b + shift
    return Table(T, Z.astype(np.float32), labels)


def right(table, patch):
    T = table.T if len(patch.weight) else table.T[:, :0]
    return ((table.Z + T @ patch.weight + patch.bias).argmax(axis=1) == table.labels).mean()


def per_class(table, patch):
    made = (table.Z + table.T @ patch.weight + patch.bias).argmax(axis=1) == table.labels
    return np.array([made[table.labels == c].mean() for c in range(CLASSES)])


def base(table):
    return (table.Z.argmax(axis=1) == table.labels).mean()


def test_the_last_layer_is_recovered_from_values_alone():
    table = tables(500, norms=(1, 2, 0.5, 1), shift=(1, 0, -2, 0))
    layer = last_layer(table)
    assert np.allclose(table.T @ layer.weight + layer.bias, table.Z, atol=1e-4)


def test_logits_that_are_not_linear_are_refused():
    table = tables(500)
    with pytest.raises(ModelError, match="not linear"):
        last_layer(Table(table.T, np.tanh(table.Z), table.labels))
    with pytest.raises(ModelError, match="too few"):
        last_layer(table.rows(np.arange(8)))


def test_logit_adjustment_finds_the_prior_that_the_base_believes_in():
    shift = (0, 0, 2, -2)
    fit, validation, test = (tables(2000, seed=s, shift=shift) for s in range(3))
    patch = logit_adjustment(fit, validation)
    assert right(test, patch) > base(test) + 0.03
    assert patch.bias[2] < patch.bias[3]


def test_tau_norm_evens_out_norms():
    norms = (3, 1, 1, 0.3)
    fit, validation, test = (tables(2000, seed=s, norms=norms) for s in range(3))
    patch = tau_norm(last_layer(fit), validation)
    assert right(test, patch) > base(test) + 0.03


def test_learnt_scales_even_out_norms():
    norms = (3, 1, 1, 0.3)
    fit, test = (tables(2000, seed=s, norms=norms) for s in range(2))
    patch = learnable_scale(last_layer(fit), fit)
    assert right(test, patch) > base(test) + 0.03
    assert per_class(test, patch)[3] > 0.5


def test_a_last_layer_fitted_anew_does_not_depend_on_the_old_one():
    fit, validation, test = (tables(2000, seed=s, shift=(0, 5, 0, 0)) for s in range(3))
    patch = classifier_retrained(last_layer(fit), fit, validation)
    assert right(test, patch) > base(test) + 0.1
    new = test.Z + test.T @ patch.weight + patch.bias
    spoiled = [Table(t.T, t.Z * 0.1, t.labels) for t in (fit, validation, test)]
    other = classifier_retrained(last_layer(spoiled[0]), spoiled[0], spoiled[1])
    again = spoiled[2].Z + spoiled[2].T @ other.weight + other.bias
    assert np.allclose(new, again, atol=1e-2)


def test_deep_feature_reweighting_helps_and_is_the_same_for_the_same_seed():
    fit, validation, test = (tables(1500, seed=s, shift=(0, 4, 0, 0)) for s in range(3))
    layer = last_layer(fit)
    one, other = (deep_feature_reweighting(layer, validation, 3) for _ in range(2))
    assert right(test, one) > base(test) + 0.1
    assert np.array_equal(one.weight, other.weight)


def test_a_class_without_samples_is_never_predicted_by_a_layer_fitted_anew():
    fit, validation = tables(1200), tables(600, seed=1)
    fit = fit.rows(np.flatnonzero(fit.labels != 2))
    patch = classifier_retrained(last_layer(fit), fit, validation.rows(validation.labels != 2))
    assert (fit.Z + fit.T @ patch.weight + patch.bias)[:, 2].max() < -100


def test_logits_in_a_file_are_not_held_and_change_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(controls, "_LWS_STEPS", 5)
    monkeypatch.setattr(large_arrays, "LIGHT", 2**12)
    rng = np.random.default_rng(0)
    T, Z = rng.standard_normal((2000, 2), np.float32), rng.standard_normal((2000, 200), np.float32)
    labels, stored = np.arange(2000) % 50, large_arrays.new_array(Z.shape, Z.dtype, tmp_path)
    stored[:] = Z

    def learnt(Z):
        table, layer = Table(T, Z, labels), LastLayer(np.ones((2, 200)), np.linspace(-1, 1, 200))
        patches = logit_adjustment(table, table), tau_norm(layer, table), learnable_scale(layer, table)
        return [array for patch in patches for array in vars(patch).values() if isinstance(array, np.ndarray)]

    plain = learnt(Z)
    tracemalloc.start()
    try:
        found = learnt(stored)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < Z.nbytes, "in memory it is ten times"
    assert len(found) == 6
    for one, other in zip(plain, found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_balanced_weights():
    weight = balanced(np.array([0, 0, 0, 1]), 3)
    assert np.allclose(weight, [1 / 6, 1 / 6, 1 / 6, 1 / 2])
