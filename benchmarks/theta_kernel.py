"""Theta's limit fold against what this machine can do, all measured in one run (SPEC 7, row 2).

    python benchmarks/theta_kernel.py [--neurons 360448] [--samples 512] [--threads 2]

Ceilings: bytes per second of reading a table of the same size once (an OR over its bits), and pairs per
second of a bare multiply and maximum on values that stay in the first-level cache. A pair is one neuron, one
target, one sample. "first" is the first fold, when every maximum still rises; "run" is the mean over all
folds, in which ever more is skipped exactly.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numba import njit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from onnxtweak.theta import numba_backend, numpy_backend
from onnxtweak.theta.gaps import reciprocal_gaps

ROWS = 64


@njit(nogil=True)
def read_all(bits):
    seen = np.int32(0)
    for k in range(bits.size):
        seen |= bits[k]
    return seen


@njit(nogil=True)
def multiply_max(v, factors, best, repeats):
    """v (8, m) in the first-level cache: eight products per load and store of the maximum."""
    a, b, c, d, e, f, g, h = v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7]
    for k in range(repeats):
        s = factors[k & 7]
        for m in range(best.size):
            x, y = max(a[m] * s, b[m] * s), max(c[m] * s, d[m] * s)
            z, w = max(e[m] * s, f[m] * s), max(g[m] * s, h[m] * s)
            x, z = max(x, y), max(z, w)
            best[m] = max(best[m], max(x, z))


def best_of(function, repeats: int = 5) -> float:
    function()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--neurons", type=int, default=360_448)
    parser.add_argument("--samples", type=int, default=768)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    pool = ThreadPoolExecutor(args.threads)
    rng = np.random.default_rng(0)
    folds = args.samples // ROWS
    tables = [np.maximum(rng.standard_normal((ROWS, args.neurons), np.float32), 0) for _ in range(4)]

    halves = np.array_split(tables[0].reshape(-1).view(np.int32), args.threads)
    bandwidth = tables[0].nbytes / best_of(lambda: list(pool.map(read_all, halves))) / 1e9
    small = rng.random((8, 512), np.float32)
    factors = rng.random(8, np.float32)
    repeats = 20_000

    def peak_run():
        jobs = [
            pool.submit(multiply_max, small.copy(), factors, np.zeros(512, np.float32), repeats)
            for _ in range(args.threads)
        ]
        for job in jobs:
            job.result()

    peak = args.threads * repeats * small.size / best_of(peak_run) / 1e9
    print(f"{args.threads} threads: reading {bandwidth:.1f} GB/s, multiply-max peak {peak:.1f} G pairs/s")

    for count, classes in ((1, 10), (10, 10), (1000, 1000)):
        neurons = args.neurons if count < 1000 else args.neurons // 16
        done = folds if count < 1000 else 3
        Z = (3 * rng.standard_normal((ROWS * done, classes))).astype(np.float32)
        L = np.where(rng.random(len(Z)) < 0.8, Z.argmax(axis=1), rng.integers(0, classes, len(Z)))
        parts = [slice(k * ROWS, (k + 1) * ROWS) for k in range(done)]
        limits = [reciprocal_gaps(Z[p], L[p], np.arange(count)).limit for p in parts]
        cut = [np.ascontiguousarray(table[:, :neurons]) for table in tables]
        for name, backend, extra in (
            ("numba", numba_backend, {"pool": pool}),
            ("numpy", numpy_backend, {}),
        ):
            if name == "numpy" and count == 1000:
                continue  # minutes
            hi = np.zeros((count, neurons), np.float32)
            lo, bad = np.zeros_like(hi), np.zeros(neurons, bool)
            nothing = np.zeros_like(limits[0])
            backend.fold_limits(cut[0], nothing, hi, lo, bad, **extra)
            times = []
            for k, limit in enumerate(limits if name == "numba" else limits[:2]):
                begin = time.perf_counter()
                backend.fold_limits(cut[k % 4], limit, hi, lo, bad, **extra)
                times.append(time.perf_counter() - begin)
            size, pairs = cut[0].nbytes, ROWS * neurons * count
            mean, late = statistics.fmean(times), statistics.median(times[-4:])
            print(
                f"{name} {count:5d} targets: first {pairs / times[0] / 1e9:6.2f} G pairs/s"
                f" ({pairs / times[0] / 1e9 / peak:5.0%} of peak), run {pairs / mean / 1e9:6.2f} G pairs/s"
                f" ({pairs / mean / 1e9 / peak:5.0%}), {size / mean / 1e9:5.1f} GB/s"
                f" ({size / mean / 1e9 / bandwidth:4.0%} of reading), late {size / late / 1e9:5.1f} GB/s"
            )


if __name__ == "__main__":
    main()
