"""Matching pursuit for one class: informative neurons first, useless ones not at all."""

from __future__ import annotations

import numpy as np

from onnxtweak.engine.machine import large_arrays
from onnxtweak.method.fit.small import Budget, fit_targets
from onnxtweak.method.folds import Folds
from onnxtweak.method.softmax import softmax
from onnxtweak.method.solvers import matching_pursuit
from onnxtweak.method.solvers.matching_pursuit import pursued
from onnxtweak.method.table import Table


def table(samples=2000, noise=40, seed=0, classes=4):
    """Neurons 0, 1 and 2 tell of class 1, each less than the one before; the base holds that class back."""
    rng = np.random.default_rng(seed)
    T = rng.normal(size=(samples, 3 + noise)).astype(np.float32)
    Z = rng.normal(size=(samples, classes))
    own = Z.copy()
    own[:, 1] += T[:, :3] @ [3.0, 2.0, 1.0]
    labels = (own + 0.5 * rng.gumbel(size=Z.shape)).argmax(axis=1)
    return Table(T, Z.astype(np.float32), labels)


def test_telling_neurons_come_first_and_in_their_order():
    of = table()
    assert pursued(of, np.arange(43), 1, 3).tolist() == [0, 1, 2]
    assert pursued(of, np.arange(43)[::-1], 1, 3).tolist() == [0, 1, 2]


def test_fewer_neurons_are_the_first_of_more():
    of = table()
    assert pursued(of, np.arange(43), 1, 20)[:5].tolist() == pursued(of, np.arange(43), 1, 5).tolist()


def test_copies_and_constants_are_not_added():
    of = table(noise=0)
    T = np.column_stack([of.T, of.T, np.full(len(of.T), 2.0, np.float32)])
    found = pursued(Table(T, of.Z, of.labels), np.arange(7), 1, 7)
    assert len(found) <= 4 and 6 not in found
    assert sorted(c % 3 for c in found[:3]) == [0, 1, 2]


def test_nothing_to_choose_from_is_nothing():
    of = table()
    assert len(pursued(of, np.empty(0, np.int64), 1, 5)) == 0


def test_scales_of_neurons_do_not_matter():
    of = table()
    scaled = Table(of.T * np.logspace(-3, 3, 43, dtype=np.float32), of.Z, of.labels)
    assert pursued(scaled, np.arange(43), 1, 6).tolist() == pursued(of, np.arange(43), 1, 6).tolist()


def test_synapses_of_several_targets_are_their_own_and_held_out_logits_foretell():
    of, test = table(), table(8000, seed=1)
    targets = np.array([1, 2])
    found = fit_targets(of, np.arange(43), targets, 4, Folds.of(of.labels, 5, 0))
    assert np.flatnonzero(found.patch.weight.any(axis=0)).tolist() == [1, 2]
    assert (np.count_nonzero(found.patch.weight, axis=0) <= 4).all()
    new = test.Z + test.T[:, found.columns] @ found.patch.weight + found.patch.bias
    right = (new.argmax(axis=1) == test.labels).mean()
    foretold = (found.held_out.argmax(axis=1) == of.labels).mean()
    assert abs(right - foretold) < 0.03
    assert right > (test.Z.argmax(axis=1) == test.labels).mean() + 0.15


def test_a_budget_counts_neurons_and_biases():
    assert Budget(numbers=44).neurons(4) == 10
    assert Budget(numbers=3).neurons(4) == 0 and not Budget(numbers=3).affords(4)
    assert Budget(synapses=44).neurons(4) == 11 and Budget(synapses=1).affords(100)
    assert Budget(numbers=44, synapses=12).neurons(4) == 3
    assert str(Budget(1000, 20)) == "1,000 numbers and 20 synapses"


def test_no_array_as_large_as_the_logits_is_made_of_them(monkeypatch):
    """What a neuron promises asks for the probability of one class of each sample."""
    monkeypatch.setattr(large_arrays, "LIGHT", 2**10)
    of, given = table(samples=300, noise=2), []

    def noted(logits):
        given.append(logits.size)
        return softmax(logits)

    found = pursued(of, np.arange(5), 1, 3)
    monkeypatch.setattr(matching_pursuit, "softmax", noted)
    np.testing.assert_array_equal(pursued(of, np.arange(5), 1, 3), found)
    assert max(given) <= 2**10 < of.Z.size
