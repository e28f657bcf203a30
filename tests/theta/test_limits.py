"""The limits in Numba against NumPy, bit by bit: every path and width, values that are hard to compare."""

import itertools
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from onnxtweak.theta import numpy_backend
from onnxtweak.theta.gaps import reciprocal_gaps
from onnxtweak.theta.numba import backend as numba_backend
from onnxtweak.theta.numba import limits, pruned_limits
from onnxtweak.theta.state import empty_state

KINDS = ("relu", "signed", "mixed", "odd")


def hidden(rng, kind, rows, neurons):
    V = rng.standard_normal((rows, neurons)).astype(np.float32)
    if kind == "relu":
        return np.maximum(V, 0)
    if kind == "mixed":  # a strip without negatives beside one with them
        V[:, : neurons // 2] = np.maximum(V[:, : neurons // 2], 0)
    if kind == "odd":
        odd = (np.nan, np.inf, -np.inf, 3e38, -3e38, -0.0, 1e-42, -1e-45)
        for value in odd:
            V[rng.random(V.shape) < 0.02] = value
        usable = rng.random(neurons) < 0.7
        V[:, usable] = np.where(np.isfinite(V[:, usable]), V[:, usable], 0)
    return V


def reciprocals(rng, kind, rows, targets):
    limit = rng.standard_normal((rows, targets)).astype(np.float32)
    limit[rng.random(limit.shape) < 0.3] = 0
    if kind == "relu":  # as real gaps are: negative for a sample's own target alone
        limit = np.abs(limit)
        limit[np.arange(rows), rng.integers(0, targets, rows)] *= -1
    if kind == "odd":
        limit[rng.random(limit.shape) < 0.05] = np.finfo(np.float32).max
        limit[rng.random(limit.shape) < 0.05] = 1e-40
    return limit


def start(targets, neurons, hi=0, lo=0):
    shape = (targets, neurons)
    return np.full(shape, hi, np.float32), np.full(shape, lo, np.float32), np.zeros(neurons, bool)


def compare(kind, rows, neurons, targets, seed=0, pool=None):
    rng = np.random.default_rng(seed)
    states = [start(targets, neurons), start(targets, neurons)]
    for _ in range(2):
        V, limit = hidden(rng, kind, rows, neurons), reciprocals(rng, kind, rows, targets)
        numpy_backend.fold_limits(V, limit, *states[0])
        numba_backend.fold_limits(V, limit, *states[1], pool=pool)
    for name, wanted, got in zip(("hi", "lo", "bad"), *states, strict=True):
        np.testing.assert_array_equal(got, wanted, err_msg=name)
        # Zero has a sign that comparisons do not see: none of either back end's is negative.
        assert not np.signbit(got).any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("targets", [1, 2, 10, 16, 28, 40])
def test_limits_are_those_of_numpy(kind, targets):
    """Each number of few targets is compiled for itself, once more where samples are ranked: for 10 alone.

    28 and 40 are two and three blocks of 14, of which two overlap.
    """
    long = 9000 if targets != 16 else 4000
    for rows, neurons in ((1, 1), (7, 130), (8, 128), (20, 700), (133, 1300), (260, 300), (3, long)):
        compare(kind, rows, neurons, targets)


@pytest.mark.parametrize("targets", [2, 40])
def test_threads_give_the_same_bits(targets):
    with ThreadPoolExecutor(3) as pool:
        for neurons in (5, 128, 6000):
            compare("mixed", 50, neurons, targets, pool=pool)


@pytest.mark.parametrize(("neurons", "targets"), [(512, 40), (4500, 10)])
def test_late_in_a_run_most_samples_are_skipped_and_the_bits_stay(neurons, targets):
    rng, rows = np.random.default_rng(2), 64
    ours, theirs = start(targets, neurons, 2, 3), start(targets, neurons, 2, 3)
    for kind in KINDS:
        V, limit = hidden(rng, kind, rows, neurons), reciprocals(rng, kind, rows, targets)
        numpy_backend.fold_limits(V, limit, *theirs)
        numba_backend.fold_limits(V, limit, *ours)
        for wanted, got in zip(theirs, ours, strict=True):
            np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("worth", [0.0, 0.3, 9.0])  # try now and then, one or the other, always
def test_ranked_samples_give_the_same_bits(worth, kind, monkeypatch):
    monkeypatch.setattr(limits, "_WORTH", worth)
    for rows, neurons, targets in ((1, 4100, 10), (7, 5000, 10), (133, 9000, 10)):
        compare(kind, rows, neurons, targets)
    with ThreadPoolExecutor(3) as pool:
        compare(kind, 30, 20000, 10, pool=pool)


def test_samples_are_ranked_by_size_until_none_counts_and_filled_up_to_pairs():
    limit = np.array([[0, -1], [2, 0], [-3, 4], [0.5, -5]], np.float32)
    rows, factors, begins = pruned_limits.rank(limit, 100)
    lists = [
        [
            [(int(rows[kind, k]) // 100, float(factors[kind, k])) for k in range(*begins[kind, t : t + 2])]
            for t in range(2)
        ]
        for kind in range(4)
    ]
    assert lists == [
        [[(2, -3), (1, 2), (3, 0.5), (0, 0)], [(3, -5), (2, 4), (0, -1), (0, 0)]],
        [[(2, 3), (1, -2), (3, -0.5), (0, 0)], [(3, 5), (2, -4), (0, 1), (0, 0)]],
        [[(1, 2), (3, 0.5)], [(2, 4), (0, 0)]],
        [[(2, 3), (0, 0)], [(3, 5), (0, 1)]],
    ]


def test_ranked_samples_that_cannot_raise_a_maximum_are_left_out():
    rng = np.random.default_rng(3)
    rows, neurons = 16, 256
    V, limit = hidden(rng, "relu", rows, neurons), reciprocals(rng, "relu", rows, 2)
    ranking = pruned_limits.rank(limit, neurons)
    parts = []
    for high in (0, 1e6):
        hi, lo, bad = start(2, neurons, high, high)
        tops, state = np.empty(neurons, np.float32), (hi.reshape(-1), lo.reshape(-1), bad)
        nothing = np.arange(rows), np.full(rows, -1), np.empty(0), np.empty(0, np.float32), False
        parts.append(
            pruned_limits.fold_ranked(V.reshape(-1), ranking, nothing, *state, neurons, 0, neurons, tops)
        )
    assert 0 < parts[0] <= 1 and parts[1] == 0


def test_no_sample_or_no_target_changes_nothing():
    hi, lo, bad = np.ones((2, 5), np.float32), np.ones((2, 5), np.float32), np.zeros(5, bool)
    empty = np.empty((0, 5), np.float32)
    numba_backend.fold_limits(empty, np.empty((0, 2), np.float32), hi, lo, bad)
    assert (hi == 1).all() and (lo == 1).all() and not bad.any()
    V = np.array([[1, np.nan, 0, np.inf, 2]], np.float32)
    numba_backend.fold_limits(V, np.empty((1, 0), np.float32), hi[:0], lo[:0], bad)
    assert bad.tolist() == [False, True, False, True, False]


def test_a_state_that_would_be_copied_is_refused():
    V, limit = np.ones((2, 128), np.float32), np.ones((2, 1), np.float32)
    wide = np.zeros((2, 1, 256), np.float32)
    hi, lo = wide[0, :, ::2], wide[1, :, :128]
    with pytest.raises(ValueError, match="one after the other"):
        numba_backend.fold_limits(V, limit, hi, lo, np.zeros(128, bool))


@pytest.mark.parametrize(
    ("name", "features", "loops"),
    [
        ("generic", "", "    compare(kind, 40, 300, 30)\n"),
        (
            "haswell",
            "+avx2,+avx,-avx512f",
            "    compare(kind, 40, 300, 10)\n    limits._WORTH = 9.0\n    compare(kind, 40, 4200, 10)\n",
        ),
    ],
)
def test_a_machine_with_narrow_registers_gives_the_same_bits(name, features, loops):
    """Each loop on one of two such machines, for compiling takes seconds."""
    if sys.platform == "darwin" or os.uname().machine != "x86_64":
        pytest.skip("names of x86 processors")
    code = (
        "from tests.theta.test_limits import compare, limits, KINDS\n"
        "from onnxtweak.theta.numba.simd import LANES\n"
        "assert LANES < 16\n"
        f"for kind in KINDS:\n{loops}"
        "print('equal')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        # Numba keeps the loops of several machines side by side: a second run need not compile them. What
        # LLVM would do to make them faster is the same everywhere, and takes half the time.
        env={**os.environ, "NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features, "NUMBA_OPT": "1"},
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.strip() == "equal", done.stderr[-2000:]


@pytest.mark.parametrize(
    ("neurons", "targets"), [*itertools.product((1, 128, 5000, 9001), (1, 10)), (128, 16), (2100, 16)]
)
def test_limits_and_sums_in_one_reading_are_those_of_two(neurons, targets):
    """From 8 targets and 4,096 neurons on, some folds are ranked."""
    rng = np.random.default_rng(neurons + targets)
    states = [empty_state(neurons, targets) for _ in range(3)]
    with ThreadPoolExecutor(2) as pool:
        for fold in range(6):
            V = rng.standard_normal((70, neurons), np.float32)
            V = V if fold % 2 else np.maximum(V, 0)
            V[3, rng.integers(neurons)] = np.nan
            Z = rng.standard_normal((70, targets + 2), np.float32)
            L = np.where(rng.random(70) < 0.7, Z.argmax(axis=1), rng.integers(0, targets + 2, 70))
            limit = reciprocal_gaps(Z, L, np.arange(targets)).limit
            member = np.where(L < targets, L, -1)
            one, alone, apart = states
            numba_backend.fold_samples(
                V, limit, member, one.hi, one.lo, one.bad, one.total, one.peak, pool=pool
            )
            numba_backend.fold_samples(
                V, limit, member, alone.hi, alone.lo, alone.bad, alone.total, alone.peak
            )
            numba_backend.fold_limits(V, limit, apart.hi, apart.lo, apart.bad)
            numba_backend.fold_sums(V, member, apart.total, apart.peak)
    assert apart.total.any() and apart.hi.any()
    for state in (one, alone):
        for name, value in vars(state).items():
            np.testing.assert_array_equal(value, getattr(apart, name), err_msg=name)
