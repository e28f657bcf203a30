"""Theta's limit fold against what this machine can do, all measured in one run (SPEC 7, row 2).

    python benchmarks/theta_kernel.py [--neurons 360448] [--samples 768] [--long 9975] [--threads 2]

Ceilings, measured anew beside every row: bytes per second of reading a table of the same size once (an OR
over its bits), and pairs per second of a multiply and a maximum on values that stay in the first-level cache,
by a loop that LLVM vectorises and by vectors that keep the maxima in registers; the faster of both counts. A
pair is one neuron, one target, one sample. "first" is the first fold, when every maximum still rises; "run"
is the mean over all folds, "late" the median of the last four; one row is a run of `--long` samples. "cold"
values come from memory, "hot" ones are a fold of 24 MB, as a run has them, written just before they are
folded. Logits are new in every fold, values come from four tables in turn. Every run is done four times over
(the long one twice): the shortest time of each fold counts, as the fastest of several does for the ceilings.
With one thread it is processor time, which others on a shared machine disturb less.
"""

from __future__ import annotations

import argparse
import math
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
from onnxtweak.theta.raising import raise_panel
from onnxtweak.theta.vector import LANES, TARGETS

ROWS = 64
# Long enough to take as long as a fold does: what disturbs one then disturbs the other.
LOOPS = 100_000


@njit(nogil=True)
def read_all(bits, repeats):
    seen = np.int32(0)
    for _ in range(repeats):
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


@njit(nogil=True)
def registers(best, values, factors, rows, width, repeats):
    for _ in range(repeats):
        raise_panel(
            best, np.uintp(0), np.uintp(LANES), values, np.uintp(0), factors, np.uintp(0), rows,
            np.uintp(rows.size), width,
        )  # fmt: skip


def best_of(function, clock, repeats: int = 3) -> float:
    function()
    times = []
    for _ in range(repeats):
        begin = clock()
        function()
        times.append(clock() - begin)
    return min(times)


def aligned(rng, *shape: int) -> np.ndarray:
    """Random values that begin where a line of the cache does."""
    count = int(np.prod(shape))
    room = np.empty(count + 16, np.float32)
    begin = -room.ctypes.data % 64 // 4
    values = room[begin : begin + count].reshape(shape)
    values[:] = rng.random(shape)
    return values


class Ceilings:
    """What the machine does at best; it differs from minute to minute."""

    def __init__(self, pool: ThreadPoolExecutor, threads: int, table: np.ndarray, rng, clock) -> None:
        self.pool, self.threads, self.table, self.clock = pool, threads, table, clock
        self.parts = np.array_split(table.reshape(-1).view(np.int32), threads)
        self.loops = [
            (aligned(rng, 8, 512), aligned(rng, 8), aligned(rng, 512), LOOPS) for _ in range(threads)
        ]
        rows, width = np.arange(ROWS, dtype=np.uint32), (0,) * TARGETS
        self.panels = [
            (
                aligned(rng, TARGETS * LANES),
                aligned(rng, ROWS * LANES),
                aligned(rng, ROWS * TARGETS),
                rows,
                width,
                LOOPS // 4,
            )
            for _ in range(threads)
        ]
        self.reading = self.loop = self.register = 0.0

    def _time(self, function, arguments) -> float:
        return best_of(lambda: list(self.pool.map(lambda each: function(*each), arguments)), self.clock)

    def begin(self) -> None:
        self.reading = self.loop = self.register = 0.0
        self.measure()

    def measure(self) -> None:
        """GB/s and G pairs/s: the best seen since `begin`."""
        reading = 4 * self.table.nbytes / self._time(read_all, [(part, 4) for part in self.parts])
        loop = self.threads * LOOPS * 4096 / self._time(multiply_max, self.loops)
        register = self.threads * (LOOPS // 4) * ROWS * TARGETS * LANES / self._time(registers, self.panels)
        self.reading = max(self.reading, reading / 1e9)
        self.loop, self.register = max(self.loop, loop / 1e9), max(self.register, register / 1e9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--neurons", type=int, default=360_448)
    parser.add_argument("--samples", type=int, default=768)
    parser.add_argument("--long", type=int, default=9975)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    pool = ThreadPoolExecutor(args.threads)
    rng = np.random.default_rng(0)
    tables = [np.maximum(rng.standard_normal((ROWS, args.neurons), np.float32), 0) for _ in range(4)]
    clock = time.process_time if args.threads == 1 else time.perf_counter
    ceilings = Ceilings(pool, args.threads, tables[0], rng, clock)

    def row(name, backend, extra, where, count, neurons, rows, done, repeats=4):
        """One line: `done` folds of `rows` samples."""
        classes = max(count, 10)
        Z = (3 * rng.standard_normal((rows * done, classes))).astype(np.float32)
        L = np.where(rng.random(len(Z)) < 0.8, Z.argmax(axis=1), rng.integers(0, classes, len(Z)))
        parts = [slice(k * rows, (k + 1) * rows) for k in range(done)]
        limits = [reciprocal_gaps(Z[p], L[p], np.arange(count)).limit for p in parts]
        cut = [table.reshape(-1)[: rows * neurons].reshape(rows, neurons) for table in tables]
        V = np.empty((rows, neurons), np.float32) if where == "hot" else None
        hi, lo = np.zeros((2, count, neurons), np.float32)
        bad = np.zeros(neurons, bool)
        backend.fold_limits(cut[0], np.zeros_like(limits[0]), hi, lo, bad, **extra)
        ceilings.begin()
        times = [math.inf] * done
        for _ in range(repeats):
            hi[:] = lo[:] = 0
            for k, limit in enumerate(limits):
                values = cut[k % 4]
                if V is not None:
                    V[:] = values
                    values = V
                begin = clock()
                backend.fold_limits(values, limit, hi, lo, bad, **extra)
                times[k] = min(times[k], clock() - begin)
            ceilings.measure()
        size, pairs = rows * neurons * 4e-9, rows * neurons * count * 1e-9
        mean, late = statistics.fmean(times), statistics.median(times[-4:])
        peak = max(ceilings.loop, ceilings.register)
        print(
            f"{name} {where:4s} {count:5d} targets: first {pairs / times[0]:6.2f} G pairs/s"
            f" ({pairs / times[0] / peak:4.0%}), run {pairs / mean:6.2f} ({pairs / mean / peak:4.0%}),"
            f" late {pairs / late:6.2f} ({pairs / late / peak:4.0%}); run {size / mean:5.1f} GB/s"
            f" ({size / mean / ceilings.reading:4.0%}), late {size / late:5.1f}"
            f" ({size / late / ceilings.reading:4.0%}); ceilings {ceilings.reading:.1f} GB/s,"
            f" {ceilings.loop:.1f} and {ceilings.register:.1f} G pairs/s",
            flush=True,
        )

    print(f"{args.threads} threads, {LANES} lanes")
    folds = args.samples // ROWS
    few, many = args.neurons, args.neurons // 16
    numba = ("numba", numba_backend, {"pool": pool})
    for where, count, neurons, rows, done in (
        ("cold", 1, few, ROWS, folds),
        ("cold", 10, few, ROWS, folds),
        ("cold", 1000, many, ROWS, 3),
        ("hot", 1, 45_056, 133, 2 * folds),
        ("hot", 10, 45_056, 133, 2 * folds),
        ("hot", 1000, many, 133, 3),
    ):
        row(*numba, where, count, neurons, rows, done)
    if args.long:
        row(*numba, "hot", 10, 45_056, 133, args.long // 133, repeats=2)
    for count in (1, 10):
        row("numpy", numpy_backend, {}, "cold", count, few, ROWS, 2, repeats=1)


if __name__ == "__main__":
    main()
