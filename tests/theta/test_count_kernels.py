"""Sums and survivors in Numba against NumPy: any width, several threads, values that are hard to compare."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from onnxtweak.theta import numpy_backend
from onnxtweak.theta.numba import backend as numba_backend


@pytest.mark.parametrize("neurons", [1, 15, 16, 700, 5000])
def test_sums_add_sample_by_sample(neurons):
    rng = np.random.default_rng(neurons)
    V = rng.standard_normal((70, neurons)).astype(np.float32) * 10.0 ** rng.integers(-20, 20, (70, 1))
    V = V.astype(np.float32)
    V[3, 0], V[4, neurons // 2] = np.nan, -np.inf
    member = rng.integers(-1, 3, 70)
    sums = [(np.ones((4, neurons)), np.full((4, neurons), 0.5, np.float32)) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        numpy_backend.fold_sums(V, member, *sums[0])
        numba_backend.fold_sums(V, member, *sums[1])
        numba_backend.fold_sums(V, member, *sums[2], pool=pool)
    for total, peak in sums[1:]:
        np.testing.assert_array_equal(total, sums[0][0])
        np.testing.assert_array_equal(peak, sums[0][1])
    assert (sums[1][0][3] == 1).all()  # a target without samples


@pytest.mark.parametrize("neurons", [1, 16, 130, 5000])
def test_survivors_are_found_wherever_they_are(neurons):
    rng = np.random.default_rng(neurons)
    V = rng.standard_normal((30, neurons)).astype(np.float32)
    V[2], V[:, 0] = np.inf, np.nan
    wanted = np.where(rng.random((30, 4)) < 0.3, rng.random((30, 4)), 0).astype(np.float32)
    hi = rng.random((4, neurons)).astype(np.float32)
    lo = np.zeros_like(hi)  # more than there is room for at first
    with ThreadPoolExecutor(2) as pool:
        found = [
            sorted(zip(*(part.tolist() for part in parts), strict=True))
            for parts in (
                numpy_backend.find_survivors(V, wanted, hi, lo),
                numba_backend.find_survivors(V, wanted, hi, lo),
                numba_backend.find_survivors(V, wanted, hi, lo, pool=pool),
            )
        ]
    assert found[0] == found[1] == found[2]
    assert neurons == 1 or len(found[0]) > neurons
