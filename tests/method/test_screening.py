"""Screening sums against the loss that a refitted synapse really saves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onnxtweak.engine.passes import Captured
from onnxtweak.method.selection.screening import (
    ScreeningSums,
    add_promising,
    best,
    nothing_promising,
    scores,
    screen,
    screen_blocks,
)
from onnxtweak.method.solvers.multinomial import multinomial, one_target
from onnxtweak.settings import EngineSettings
from onnxtweak.types import Tap


@pytest.fixture
def problem():
    rng = np.random.default_rng(3)
    V = rng.normal(size=(1500, 12)).astype(np.float32) + 1
    Z = rng.normal(size=(1500, 3)).astype(np.float32)
    W = np.zeros((12, 3))
    W[[1, 4, 7], [0, 1, 1]] = [0.5, -0.4, 0.3]
    labels = (Z + V @ W + rng.gumbel(size=Z.shape)).argmax(axis=1)
    bias = multinomial(np.empty((1500, 0)), Z, labels, ridge=0).bias
    return V, Z, labels, bias


TAPS = (Tap("a", "Relu", (8,)), Tap("b", "Relu", (2, 2)))
ALL = np.arange(3)
(WHOLE,) = screen_blocks(TAPS, 3, EngineSettings())


def batches(V, Z, labels, size):
    for start in range(0, len(V), size):
        part = slice(start, start + size)
        yield Captured(Z[part], (V[part, :8], V[part, 8:]), labels[part], np.arange(len(V))[part])


def test_half_of_the_score_is_the_loss_that_refitting_saves(problem):
    V, Z, labels, bias = problem
    S = scores(screen(batches(V, Z, labels, 256), WHOLE, bias, ALL))
    shifted = Z + bias
    saved = []
    for k in range(12):
        empty, one = (one_target(T, shifted, labels, 1, ridge=0).loss for T in (V[:, :0], V[:, [k]]))
        saved.append((empty - one) * len(V))
    assert S.shape == (12, 3)
    assert np.allclose(S[:, 1] / 2, saved, rtol=0.25, atol=0.7)
    assert set(np.argsort(-S[:, 1])[:2]) == {4, 7}


def test_batches_do_not_matter(problem):
    V, Z, labels, bias = problem
    one, many = (scores(screen(batches(V, Z, labels, size), WHOLE, bias, ALL)) for size in (1500, 100))
    assert np.allclose(one, many, rtol=1e-3, atol=1e-4)


def test_constant_and_spoiled_neurons_score_nothing(problem):
    V, Z, labels, bias = problem
    V = V.copy()
    V[:, 2] = 1e3
    V[5, 4] = np.nan
    S = scores(screen(batches(V, Z, labels, 500), WHOLE, bias, ALL))
    assert (S[[2, 4]] == 0).all()
    assert np.isfinite(S).all()


def test_classes_left_out_change_nothing_for_the_others(problem):
    V, Z, labels, bias = problem
    every = scores(screen(batches(V, Z, labels, 256), WHOLE, bias, ALL))
    some = scores(screen(batches(V, Z, labels, 256), WHOLE, bias, np.array([0, 2])))
    np.testing.assert_allclose(some, every[:, [0, 2]], rtol=1e-6)


def promising_by(S, most):
    """As if S (12, C) had been the result: G^2 over a spread of 1."""
    sums = ScreeningSums(
        np.sqrt(S), np.ones_like(S), np.zeros_like(S), np.ones(S.shape[1]), np.zeros(len(S), bool)
    )
    known = nothing_promising(S.shape[1])
    return add_promising(known, sums, WHOLE, most)


def test_blocks_promise_what_the_whole_does(problem):
    V, Z, labels, bias = problem
    known = nothing_promising(3)
    blocks = screen_blocks(TAPS, 3, EngineSettings(memory=5 * 8 * 146))
    assert [sum(map(len, block)) for block in blocks] == [5, 5, 2]
    for block in blocks:
        sums = screen(stretches(V, Z, labels, block), block, bias, ALL)
        known = add_promising(known, sums, block, 3)
    sums = screen(batches(V, Z, labels, 256), WHOLE, bias, ALL)
    whole = add_promising(nothing_promising(3), sums, WHOLE, 3)
    for one, other in zip(known, whole, strict=True):
        assert one.number.tolist() == other.number.tolist()
        np.testing.assert_allclose(one.S, other.S, rtol=1e-4)


def stretches(V, Z, labels, block):
    """Whole taps of a block, as `capture` gives them."""
    for got in batches(V, Z, labels, 256):
        yield replace(got, V=tuple(got.V[TAPS.index(s.tap)] for s in block))


def test_the_best_come_class_by_class_in_the_order_of_the_taps():
    S = np.zeros((12, 2))
    S[[3, 9, 1], 0] = [5, 4, 3]
    S[[11, 3, 0], 1] = [9, 8, 7]
    known = promising_by(S, 4)
    chosen = best(known, TAPS, 4)
    found = [(TAPS[t].name, i) for t, i in zip(chosen.tap_of, chosen.index, strict=True)]
    assert found == [("a", 1), ("a", 3), ("b", 1), ("b", 3)]
    assert len(best(promising_by(S, 100), TAPS, 100)) == 5
