"""Oracles 1, 2, 3, 5, 7 of METHOD 12, on every back end that is installed."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onnxtweak.theta import numpy_backend
from onnxtweak.theta.backend import host_buffer
from onnxtweak.theta.gaps import reciprocal_gaps
from onnxtweak.theta.line_search import net_gain, plateaus
from onnxtweak.theta.numba import backend as numba_backend
from onnxtweak.theta.reference import outcome, signed_theta, thesis_theta
from onnxtweak.theta.state import combine, empty_state, finish
from onnxtweak.theta.survivors import Survivors

BACKENDS = [pytest.param(numpy_backend, id="numpy"), pytest.param(numba_backend, id="numba")]

values = st.sampled_from([-2.0, -1.0, -0.5, -0.0, 0.0, 0.25, 0.5, 1.0, 3.0])
tables = st.tuples(
    hnp.arrays(np.float32, (14, 5), elements=values),
    hnp.arrays(np.float32, (14, 3), elements=st.integers(-4, 4).map(lambda k: k / 2)),
    hnp.arrays(np.int64, 14, elements=st.integers(0, 2)),
)


def score(backend, V, Z, L, targets, theta="signed", shards=1, order=None):
    """Theta of a table through the folds, cut into shards that are combined in the given order."""
    states = []
    edges = np.linspace(0, len(V), shards + 1).astype(int)
    parts = [slice(a, b) for a, b in pairwise(edges)]
    gaps = [reciprocal_gaps(Z[p], L[p], targets, theta) for p in parts]
    V = np.abs(V) if theta == "thesis" else V
    for p, g in zip(parts, gaps, strict=True):
        state = empty_state(V.shape[1], len(targets))
        backend.fold_limits(np.ascontiguousarray(V[p]), g.limit, state.hi, state.lo, state.bad)
        member = np.full(len(L[p]), -1)
        for i, j in enumerate(targets):
            member[L[p] == j] = i
            state.seen[i] = (L[p] == j).sum()
        backend.fold_sums(np.ascontiguousarray(V[p]), member, state.total, state.peak)
        states.append(state)
    order = order or range(shards)
    whole = states[order[0]]
    for k in order[1:]:
        combine(whole, states[k])
    for p, g in zip(parts, gaps, strict=True):
        backend.fold_wanted(
            np.ascontiguousarray(V[p]), g.wanted, whole.hi, whole.lo,
            whole.count_hi, whole.count_lo, whole.last_hi, whole.last_lo,
        )  # fmt: skip
    gap = np.where(L[:, None] == np.asarray(targets), 1.0, 0.0).max(axis=0)
    whole.gap[:] = gap
    return whole


def test_worked_example_of_figure_3_2():
    # A target with one wrong sample it can fix and three right samples of others; eps1 = 0, eps2 = 0.01.
    Z = np.array([[0.3, 0.6], [0.1, 0.8], [0.2, 0.9], [0.1, 0.8]], np.float64)
    L = np.array([0, 1, 1, 1])
    v = np.array([0.25, 0.5, 0.5, 0.4])
    threshold, count = thesis_theta(v, Z, L, 0, eps1=0.0, eps2=0.01)
    assert (round(threshold, 2), count) == (1.39, 1)


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=60)
@given(tables)
def test_signed_theta_is_brute_force(backend, table):
    V, Z, L = table
    state = score(backend, V, Z, L, [0, 2])
    for i, j in enumerate([0, 2]):
        for m in range(V.shape[1]):
            expected = signed_theta(V[:, m], Z, L, j)
            assert (state.hi[i, m], state.lo[i, m]) == (np.float32(expected.hi), np.float32(expected.lo))
            assert (state.count_hi[i, m], state.count_lo[i, m]) == (expected.count_hi, expected.count_lo)


@settings(max_examples=80)
@given(tables)
def test_a_synapse_at_its_weight_fixes_its_count_and_breaks_nothing(table):
    V, Z, L = table
    state = score(numpy_backend, V, Z, L, [1])
    scores = finish(state, 0)
    for m in range(V.shape[1]):
        weight = float(scores.weight[m])
        fixed, broken, _ = outcome(V[:, m], Z, L, 1, weight)
        assert broken == 0
        if (state.hi if weight > 0 else state.lo)[0, m] > 0:
            assert fixed == scores.count[m]
        else:  # an unlimited weight is capped, and may fix fewer
            assert fixed <= scores.count[m]


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=60)
@given(tables)
def test_thesis_and_signed_agree_on_non_negative_neurons(backend, table):
    V, Z, L = table
    V = np.abs(V)
    signed = score(backend, V, Z, L, [0, 1, 2])
    thesis = score(backend, V, Z, L, [0, 1, 2], theta="thesis")
    np.testing.assert_array_equal(signed.hi, thesis.hi)
    np.testing.assert_array_equal(signed.count_hi, thesis.count_hi)
    assert not signed.count_lo.any()


@settings(max_examples=60)
@given(tables)
def test_thesis_mode_is_algorithm_1(table):
    V, Z, L = table
    state = score(numpy_backend, V, Z, L, [1], theta="thesis")
    for m in range(V.shape[1]):
        v = np.abs(V[:, m]).astype(np.float64)
        tie = (Z.max(axis=1) == Z[:, 1]) & (L != 1) & (Z.argmax(axis=1) == L) & (v == 0)
        if tie.any():  # 0/0 in Eq. 3.1: the printed algorithm has no answer
            continue
        threshold, count = thesis_theta(v, Z.astype(np.float64), L, 1)
        with np.errstate(divide="ignore"):
            ours = 1 / np.float64(state.hi[0, m])
        if threshold == 0:
            assert ours < 1e-30
            continue
        np.testing.assert_allclose(ours, threshold, rtol=1e-6)
        # Eq. 3.1 is strict, Algorithm 1 is not: they differ by the samples that lie exactly on the threshold.
        assert state.count_hi[0, m] <= count


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("relu", [True, False])
def test_any_sharding_gives_the_same_bits(backend, relu):
    rng = np.random.default_rng(3)
    V = rng.standard_normal((150, 1300)).astype(np.float32)
    V = np.maximum(V, 0) if relu else V
    Z = rng.standard_normal((150, 6)).astype(np.float32)
    L = np.where(rng.random(150) < 0.6, Z.argmax(axis=1), rng.integers(0, 6, 150))
    whole = score(numpy_backend, V, Z, L, [0, 3, 5])
    for shards, order in ((1, None), (4, [2, 0, 3, 1]), (7, [6, 5, 4, 3, 2, 1, 0])):
        parts = score(backend, V, Z, L, [0, 3, 5], shards=shards, order=order)
        for name in ("hi", "lo", "count_hi", "count_lo", "last_hi", "last_lo", "peak", "seen"):
            np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name), err_msg=name)
        np.testing.assert_allclose(parts.total, whole.total, rtol=1e-12)
        if shards == 1:
            np.testing.assert_array_equal(parts.total, whole.total)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_and_infinite_neurons_are_marked_and_dropped(backend):
    rng = np.random.default_rng(0)
    V = rng.random((40, 700)).astype(np.float32)
    V[7, 3] = np.nan
    V[39, 650] = -np.inf
    Z = rng.standard_normal((40, 3)).astype(np.float32)
    L = rng.integers(0, 3, 40)
    state = score(backend, V, Z, L, [0])
    assert np.flatnonzero(state.bad).tolist() == [3, 650]
    scores = finish(state, 0)
    assert scores.weight[3] == scores.weight[650] == scores.count[3] == scores.lift[650] == 0


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (128, 4099)])
def test_buffers_begin_where_a_line_of_the_cache_does(shape):
    buffer = host_buffer(shape, "cpu")
    assert buffer.shape == shape and buffer.dtype == np.float32 and buffer.flags.c_contiguous
    assert buffer.ctypes.data % 64 == 0


def test_an_unlimited_weight_is_capped():
    # Neuron 0 is only ever active on the wrong target sample: nothing limits it.
    V = np.array([[1.0], [0.0], [0.0]], np.float32)
    Z = np.array([[1, 3], [0, 2], [0, 2]], np.float32)
    L = np.array([0, 1, 1])
    scores = finish(score(numpy_backend, V, Z, L, [0]), 0)
    assert scores.count[0] == 1
    assert 2.0 < scores.weight[0] < 2.001  # the gap is 2


@settings(max_examples=60)
@given(tables)
def test_line_search_beats_every_grid_and_equals_re_evaluation(table):
    V, Z, L = table
    gap = np.delete(Z, 1, axis=1).max(axis=1).astype(np.float64) - Z[:, 1]
    rest = Z.copy()
    rest[:, 1] = -np.inf
    gain = np.where(L == 1, 1, np.where(rest.argmax(axis=1) == L, -1, 0))
    tied = gap == 0  # on a tie the class number decides at s = 0: the search speaks of s > 0 only
    gain = np.where(tied, 0, gain)
    Z = np.where(tied[:, None], np.eye(3, dtype=np.float32)[0] * 9, Z)
    L = np.where(tied, 0, L)
    for m in range(V.shape[1]):
        v = V[:, m] * ~tied
        weight, gained = net_gain(v, gap, gain)
        right = (Z.argmax(axis=1) == L).sum()

        weights = np.array([weight, *(np.linspace(-10, 10, 401) + 0.0137)])
        lifted = Z + (weights[:, None] * v)[:, :, None] * [0, 1, 0]
        net = (lifted.argmax(axis=2) == L).sum(axis=1) - right
        assert net[0] == gained
        assert gained >= net.max()


def test_plateaus_with_equal_breakpoints_act_together():
    found = plateaus(np.ones(3), np.array([1.0, 1.0, 2.0]), np.array([1, -1, 1]), np.array([1, 0, 1]))
    assert found.overall.tolist() == [0, 0, 1]
    assert found.target.tolist() == [0, 1, 2]
    assert found.scale.tolist() == [0.0, 1.5, 3.0]


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=40)
@given(tables, st.integers(1, 6))
def test_survivors_count_as_a_second_sweep_does(backend, table, batch):
    V, Z, L = table
    targets = [0, 1, 2]
    swept = score(numpy_backend, V, Z, L, targets)
    state, kept = empty_state(V.shape[1], 3), Survivors(most=10_000)
    for k in range(0, len(V), batch):
        part = slice(k, k + batch)
        gaps = reciprocal_gaps(Z[part], L[part], targets)
        values = np.ascontiguousarray(V[part])
        backend.fold_limits(values, gaps.limit, state.hi, state.lo, state.bad)
        kept.add(state, *backend.find_survivors(values, gaps.wanted, state.hi, state.lo))
        if k % 2:
            kept.prune(state)
    kept.count(state)
    np.testing.assert_array_equal(state.count_hi, swept.count_hi)
    np.testing.assert_array_equal(state.count_lo, swept.count_lo)
    for limit, last, whole in (
        (swept.hi, state.last_hi, swept.last_hi),
        (swept.lo, state.last_lo, swept.last_lo),
    ):
        free = limit == 0
        np.testing.assert_array_equal(last[free], whole[free])


def test_too_many_survivors_are_given_up_not_miscounted():
    state, kept = empty_state(4, 1), Survivors(most=3)
    ones = np.ones(4, np.float32)
    kept.add(state, np.zeros(4, np.int32), np.arange(4, dtype=np.int32), ones)
    assert kept.overflowed
    state.hi[:] = 2
    kept = Survivors(most=3)
    kept.add(state, np.zeros(4, np.int32), np.arange(4, dtype=np.int32), ones)
    assert not kept.overflowed
    kept.count(state)
    assert not state.count_hi.any()


@pytest.mark.parametrize("relu", [True, False])
def test_numba_finds_the_survivors_that_numpy_finds(relu):
    rng = np.random.default_rng(5)
    V = rng.standard_normal((40, 1500)).astype(np.float32)
    V = np.maximum(V, 0) if relu else V
    wanted = np.where(rng.random((40, 3)) < 0.2, rng.random((40, 3)), 0).astype(np.float32)
    hi, lo = (0.5 * rng.random((3, 1500)).astype(np.float32) for _ in range(2))
    with ThreadPoolExecutor(2) as pool:
        found = [
            sorted(zip(*(part.tolist() for part in parts), strict=True))
            for parts in (
                numpy_backend.find_survivors(V, wanted, hi, lo),
                numba_backend.find_survivors(V, wanted, hi, lo),
                numba_backend.find_survivors(V, wanted, hi, lo, pool=pool),
            )
        ]
    assert found[0] == found[1] == found[2] and len(found[0]) > 100


def one_by_one(state, m):
    """`finish` of one neuron for the first target, as METHOD 2 says it."""

    def weight(limit, last):
        if not state.peak[0, m] > 0 or not limit < 1e30:
            return 0.0
        if limit > 0:
            return (1 - 1e-6) / np.float64(limit)
        fixes_last = (1 + 1e-6) / np.float64(last) if np.isfinite(last) else np.inf
        capped = min(fixes_last, 10 * state.gap[0] / np.float64(state.peak[0, m]))
        return capped if np.isfinite(capped) else 0.0

    if state.bad[m]:
        return 0, 0, 0
    mean = state.total[0, m] / state.seen[0]
    signs = []
    for sign, limit, last, count in (
        (1, state.hi, state.last_hi, state.count_hi),
        (-1, state.lo, state.last_lo, state.count_lo),
    ):
        w = sign * weight(limit[0, m], last[0, m])
        signs.append((w, int(count[0, m]) if w else 0, w * mean))
    return max(signs, key=lambda s: s[1:])


def test_finished_scores_are_those_of_one_neuron_after_another():
    rng, neurons = np.random.default_rng(0), 3000
    state = empty_state(neurons, 1)
    odd = np.array([0, 1e-45, 1e-30, 0.5, 3, 1e29, 1e30, 2e30, np.inf], np.float32)
    for array in (state.hi, state.lo, state.last_hi, state.last_lo):
        array[:] = rng.choice(odd, neurons)
    state.peak[:] = rng.choice(odd[:5], neurons)
    state.total[:] = rng.choice([-4.0, -0.25, 0, 1, 9], neurons)
    for array in (state.count_hi, state.count_lo):
        array[:] = rng.integers(0, 3, neurons)
    state.bad[:] = rng.random(neurons) < 0.1
    state.seen[:], state.gap[:] = 7, 0.75
    scores = finish(state, 0)
    assert (scores.weight < 0).sum() > 100 < (scores.weight > 0).sum() and (scores.count > 0).sum() > 100
    with np.errstate(divide="ignore"):
        expected = [one_by_one(state, m) for m in range(neurons)]
    for values, column in zip(vars(scores).values(), zip(*expected, strict=True), strict=True):
        np.testing.assert_array_equal(values, column)
