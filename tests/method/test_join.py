"""Synaptic join on tables: oracle 4 of METHOD 12, ranking, prefix sums."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxtweak.errors import ModelError
from onnxtweak.method.join import join_synapses, prefix_sums
from onnxtweak.method.selection.ranking import rank, united
from onnxtweak.method.tuning.operating_point import OperatingPoint
from onnxtweak.theta import numpy_backend
from onnxtweak.theta.gaps import reciprocal_gaps
from onnxtweak.theta.state import Scores, empty_state, finish
from onnxtweak.types import Tap
from tests.support.candidates import candidates_of

TAPS = (Tap("a", "Relu", (7,)), Tap("b", "Relu", (2, 3)))


def scored(V, Z, L, targets):
    """States of V (N, 13) split into the two taps."""
    gaps = reciprocal_gaps(Z, L, np.asarray(targets))
    member = np.full(len(L), -1)
    for i, j in enumerate(targets):
        member[j == L] = i
    states = []
    for part in (V[:, :7], V[:, 7:]):
        part = np.ascontiguousarray(part)
        s = empty_state(part.shape[1], len(targets))
        numpy_backend.fold_limits(part, gaps.limit, s.hi, s.lo, s.bad)
        numpy_backend.fold_sums(part, member, s.total, s.peak)
        numpy_backend.fold_wanted(part, gaps.wanted, s.hi, s.lo, s.count_hi, s.count_lo, s.last_hi, s.last_lo)
        s.seen[:] = [(j == L).sum() for j in targets]
        s.gap[:] = 1.0
        states.append(s)
    return states


def best_of(states, target, n):
    parts = [vars(finish(state, target)) for state in states]
    return candidates_of(Scores(**{k: np.concatenate([p[k] for p in parts]) for k in parts[0]}), n)


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.floats(0.01, 1.0), st.integers(1, 9))
def test_a_convex_combination_of_synapses_breaks_nothing(seed, scale, n):
    rng = np.random.default_rng(seed)
    V = np.maximum(rng.standard_normal((60, 13)), 0).astype(np.float32)
    Z = rng.standard_normal((60, 4)).astype(np.float32)
    L = np.where(rng.random(60) < 0.6, Z.argmax(axis=1), rng.integers(0, 4, 60))
    L[:2] = 1
    targets = [1, 3]
    states = scored(V, Z, L, targets)
    try:
        rankings = [rank(best_of(states, i, n), TAPS, "auto", n, "class") for i in range(2)]
    except ModelError:
        return  # no neuron is safe for one of the targets
    lengths = [len(r.weight) for r in rankings]
    operation = OperatingPoint(np.array(lengths), np.full(2, scale), ())
    neurons, synapses = join_synapses(rankings, targets, operation)
    columns = np.array([0, 7])[[0 if neurons.taps[t].name == "a" else 1 for t in neurons.tap_of]]
    T = V[:, columns + neurons.index]
    boosted = Z.astype(np.float64)
    for k in range(len(neurons)):
        boosted[:, synapses.target[k]] += synapses.weight[k] * T[:, k]
    before, after = Z.argmax(axis=1) == L, boosted.argmax(axis=1) == L
    assert not (before & ~after).any()


def test_ranking_orders_by_count_then_threshold_then_number():
    scores = Scores(
        weight=np.array([1, 5, 5, 2, 9, 0, 3] + [0.5] * 6, float),
        count=np.array([2, 3, 3, 3, 1, 9, 0] + [0] * 6, np.int32),
        lift=np.arange(13, dtype=float),
    )
    best = candidates_of(scores, 6)
    found = rank(best, TAPS, "count", 6, "class")
    assert found.neurons.index.tolist() == [1, 2, 3, 0, 4, 6]  # 5 has no weight
    assert rank(best, TAPS, "threshold", 3, "class").neurons.index.tolist() == [4, 1, 2]
    by_lift = rank(best, TAPS, "lift", 2, "class")
    assert [(int(t), int(i)) for t, i in zip(by_lift.neurons.tap_of, by_lift.neurons.index, strict=True)] == [
        (1, 5),
        (1, 4),
    ]


def test_auto_ranks_by_lift_where_nothing_can_be_fixed():
    scores = Scores(np.ones(13), np.zeros(13, np.int32), np.arange(13.0))
    assert rank(candidates_of(scores, 1), TAPS, "auto", 1, "class").criterion == "lift"


def test_no_usable_neuron_is_an_error_with_a_remedy():
    nothing = Scores(np.zeros(13), np.zeros(13, np.int32), np.zeros(13))
    with pytest.raises(ModelError) as caught:
        rank(candidates_of(nothing, 3), TAPS, "count", 3, "class cat")
    assert caught.value.where == "class cat" and "--taps" in caught.value.hint


def test_prefix_sums_are_the_boosts_of_the_first_synapses():
    rng = np.random.default_rng(0)
    scores = Scores(rng.random(13) + 0.1, rng.integers(0, 9, 13).astype(np.int32), rng.random(13))
    best = candidates_of(scores, 6)
    rankings = [rank(best, TAPS, "count", 4, "class"), rank(best, TAPS, "lift", 6, "class")]
    T = rng.random((20, len(united(rankings)))).astype(np.float32)
    prefix = prefix_sums([T[:9], T[9:]], rankings, (1, 3, 50))
    assert prefix.shape == (20, 2, 3)
    np.testing.assert_allclose(prefix[:, 0, 1], T[:, :3] @ rankings[0].weight[:3])
    np.testing.assert_allclose(prefix[:, 1, 2], T[:, 4:] @ rankings[1].weight)  # fewer exist than asked for
