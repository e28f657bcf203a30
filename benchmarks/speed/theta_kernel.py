"""Theta's limit fold against what this machine can do, all measured in one run.

    python benchmarks/speed/theta_kernel.py [--samples 768] [--long 9975] [--threads 2] [--repeats 4]
                                            [--targets 1,10,1000] [--sums]

Ceilings. Reading: an OR over the bits of the very values of every fold, shared among the threads as the fold
is and timed beside it. Multiply and maximum: pairs per second on values that stay in the first-level cache,
by a loop that LLVM vectorises and by vectors that keep the maxima in registers, anew beside every row; the
faster counts. A pair is one neuron, one target, one sample. "first" is the first fold, when every maximum
still rises; "run" is the mean over all folds, "late" the median of the last four; one row is a run of
`--long` samples. "moved" is what goes through memory at least: the values, and all limits read and written.
"bytes alone" moves that and computes nothing, up to `MOVED` targets: a fold whose arithmetic is free.
Folds are as large as the engine's, in the engine's buffers. "cold" values come from memory, "hot" ones were
written just before they are folded. Logits are new in every fold, values come from four tables in turn. Every
run is done several times over (the long one twice): the shortest time of each fold and of each reading
counts, as the fastest of several does for the multiply and maximum. With one thread it is processor time,
which others on a shared machine disturb less. With `--sums` only limits and sums together are timed, in two
readings of V and in one, by turns over the same folds: ratios, which a busy machine disturbs least.
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

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from onnxtweak.engine.machine.memory_plan import plan_batches
from onnxtweak.settings import EngineSettings
from onnxtweak.theta import numpy_backend
from onnxtweak.theta.backend import host_buffer
from onnxtweak.theta.gaps import reciprocal_gaps
from onnxtweak.theta.numba import backend as numba_backend
from onnxtweak.theta.numba.limit_kernels import raise_panel
from onnxtweak.theta.numba.simd import LANES, TARGETS
from onnxtweak.theta.state import sweep_state
from onnxtweak.theta.threads import share_out

ROWS = 64
MOVED = 16
# Neurons that "bytes alone" has at once, and samples, as the fold does.
SPAN, TOGETHER = 2048, 8
# Long enough to take as long as a fold does: what disturbs one then disturbs the other.
LOOPS = 100_000


@njit(nogil=True)
def read_all(bits, first, last):
    part, seen = bits[first:last], np.int32(0)
    for k in range(part.size):
        seen |= part[k]
    return seen


@njit(nogil=True)
def move_all(bits, limits, ones, first, last):
    """Read spans [first, last) of bits (b, m), read limits (2 c, m) int32 and write them as they are."""
    rows, neurons = bits.shape
    seen = np.int32(0)
    for start in range(first * SPAN, min(last * SPAN, neurons), SPAN):
        stop = min(start + SPAN, neurons)
        for r in range(0, rows, TOGETHER):
            at = max(0, min(r, rows - TOGETHER))
            a, b, c, d = (
                bits[at, start:stop],
                bits[at + 1, start:stop],
                bits[at + 2, start:stop],
                bits[at + 3, start:stop],
            )
            e, f, g, h = (
                bits[at + 4, start:stop],
                bits[at + 5, start:stop],
                bits[at + 6, start:stop],
                bits[at + 7, start:stop],
            )
            for k in range(stop - start):
                seen |= a[k] | b[k] | c[k] | d[k] | e[k] | f[k] | g[k] | h[k]
        for t in range(limits.shape[0]):
            part = limits[t, start:stop]
            for k in range(part.size):
                part[k] &= ones
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


class Peak:
    """Multiplications and maxima at best, G pairs/s; it differs from minute to minute."""

    def __init__(self, pool: ThreadPoolExecutor, threads: int, rng, clock) -> None:
        self.pool, self.threads, self.clock = pool, threads, clock
        self.loops = [
            (aligned(rng, 8, 512), aligned(rng, 8), aligned(rng, 512), LOOPS) for _ in range(threads)
        ]
        rows, width = np.arange(ROWS, dtype=np.uint32), (0,) * TARGETS
        sizes = (TARGETS * LANES, ROWS * LANES, ROWS * TARGETS)
        self.panels = [
            (*(aligned(rng, size) for size in sizes), rows, width, LOOPS // 4) for _ in range(threads)
        ]
        self.loop = self.register = 0.0

    def _time(self, function, arguments) -> float:
        return best_of(lambda: list(self.pool.map(lambda each: function(*each), arguments)), self.clock)

    def begin(self) -> None:
        self.loop = self.register = 0.0
        self.measure()

    def measure(self) -> None:
        """The best seen since `begin`."""
        loop = self.threads * LOOPS * 4096 / self._time(multiply_max, self.loops)
        register = self.threads * (LOOPS // 4) * ROWS * TARGETS * LANES / self._time(registers, self.panels)
        self.loop, self.register = max(self.loop, loop / 1e9), max(self.register, register / 1e9)


def in_one_reading(neurons: int, rows: int, targets: int, threads: int) -> str:
    """Limits and sums of 40 folds by `fold_samples`, beside `fold_limits` and `fold_sums`."""
    rng, pool = np.random.default_rng(0), ThreadPoolExecutor(threads) if threads > 1 else None
    clock = time.process_time if threads == 1 else time.perf_counter
    tables = [np.maximum(rng.standard_normal((rows, neurons), np.float32), 0) for _ in range(3)]
    apart, once = (sweep_state(neurons, targets) for _ in range(2))
    times: dict[str, list[float]] = {"apart": [], "once": []}
    for k in range(42):
        Z = 3 * rng.standard_normal((rows, targets), np.float32)
        L = np.where(rng.random(rows) < 0.8, Z.argmax(axis=1), rng.integers(0, targets, rows))
        limit, V = reciprocal_gaps(Z, L, np.arange(targets)).limit, tables[k % 3]
        for name in ("apart", "once") if k % 2 else ("once", "apart"):
            s = apart if name == "apart" else once
            begin = clock()
            if name == "once":
                numba_backend.fold_samples(V, limit, L, s.hi, s.lo, s.bad, s.total, s.peak, pool=pool)
            else:
                numba_backend.fold_limits(V, limit, s.hi, s.lo, s.bad, pool=pool)
                numba_backend.fold_sums(V, L, s.total, s.peak, pool=pool)
            times[name].append(clock() - begin)
    assert np.array_equal(apart.hi, once.hi) and np.array_equal(apart.total, once.total)
    (two, quick_two), (one, quick_one) = (
        (statistics.median(each[2:]), statistics.quantiles(each[2:])[0]) for each in times.values()
    )
    return (
        f"{rows} x {neurons:,}, {targets} targets: {two * 1e3:.1f} -> {one * 1e3:.1f} ms,"
        f" ratio of medians {one / two:.2f}, of the fastest quarter {quick_one / quick_two:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--samples", type=int, default=768)
    parser.add_argument("--long", type=int, default=9975)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--targets", default="1,10,1000", help="rows of these numbers of targets")
    parser.add_argument("--sums", action="store_true")
    args = parser.parse_args()
    if args.sums:
        print(f"{args.threads} threads, limits and sums in two readings -> in one")
        for neurons, rows in ((360_448, 64), (45_056, 255)):
            for targets in (1, 4, 10):
                print(in_one_reading(neurons, rows, targets, args.threads), flush=True)
        return
    asked = {int(count) for count in args.targets.split(",")}
    pool = ThreadPoolExecutor(args.threads)
    rng = np.random.default_rng(0)
    clock = time.process_time if args.threads == 1 else time.perf_counter
    peak = Peak(pool, args.threads, rng, clock)

    def timed(function, *arguments, **extra) -> float:
        begin = clock()
        function(*arguments, **extra)
        return clock() - begin

    def row(name, backend, extra, where, count, neurons, samples, repeats=args.repeats):
        """One line: folds as the engine would plan them for so many neurons."""
        rows = plan_batches(neurons, neurons, None, EngineSettings()).rows
        done = max(4, samples // rows)
        classes = max(count, 10)
        Z = (3 * rng.standard_normal((rows * done, classes))).astype(np.float32)
        L = np.where(rng.random(len(Z)) < 0.8, Z.argmax(axis=1), rng.integers(0, classes, len(Z)))
        parts = [slice(k * rows, (k + 1) * rows) for k in range(done)]
        limits = [reciprocal_gaps(Z[p], L[p], np.arange(count)).limit for p in parts]
        tables = [host_buffer((rows, neurons), "cpu") for _ in range(4)]
        for table in tables:
            np.maximum(rng.standard_normal(table.shape, np.float32), 0, out=table)
        fresh = host_buffer((rows, neurons), "cpu")

        def values(k: int) -> np.ndarray:
            if where == "cold":
                return tables[k % 4]
            fresh[:] = tables[k % 4]
            return fresh

        limits_held = np.zeros((2, count, neurons), np.float32)
        (hi, lo), as_bits = limits_held, limits_held.reshape(-1, neurons).view(np.int32)
        bad = np.zeros(neurons, bool)
        backend.fold_limits(tables[0], np.zeros_like(limits[0]), hi, lo, bad, **extra)
        peak.begin()
        times, readings, moves = np.full((3, done), math.inf)
        for _ in range(repeats):
            hi[:] = lo[:] = 0
            for k, limit in enumerate(limits):
                bits = values(k).reshape(-1).view(np.int32)
                readings[k] = min(readings[k], timed(share_out, read_all, (bits,), bits.size, pool))
                if count <= MOVED:
                    work = (values(k).view(np.int32), as_bits, np.int32(-1))
                    moves[k] = min(moves[k], timed(share_out, move_all, work, -(-neurons // SPAN), pool))
                V = values(k)
                times[k] = min(times[k], timed(backend.fold_limits, V, limit, hi, lo, bad, **extra))
            peak.measure()
        size, pairs, state = rows * neurons * 4e-9, rows * neurons * count * 1e-9, 16e-9 * count * neurons
        mean, late, reading = times.mean(), statistics.median(times[-4:]), size / readings.mean()
        best = max(peak.loop, peak.register)
        print(
            f"{name} {where:4s} {count:5d} targets, {done} folds of {rows} x {neurons:,}:"
            f" first {pairs / times[0]:6.2f} G pairs/s ({pairs / times[0] / best:4.0%}),"
            f" run {pairs / mean:6.2f} ({pairs / mean / best:4.0%}),"
            f" late {pairs / late:6.2f} ({pairs / late / best:4.0%});"
            f" run {size / mean:5.1f} GB/s ({size / mean / reading:4.0%}),"
            f" moved {(size + state) / mean:5.1f} ({(size + state) / mean / reading:4.0%});"
            f" ceilings {reading:.1f} GB/s, {peak.loop:.1f} and {peak.register:.1f} G pairs/s"
            + (
                f", bytes alone {pairs / moves.mean():.1f} ({pairs / moves.mean() / best:.0%})"
                * (count <= MOVED)
            ),
            flush=True,
        )

    print(f"{args.threads} threads, {LANES} lanes")
    few, many, small = 360_448, 22_528, 45_056
    numba = ("numba", numba_backend, {"pool": pool})
    for where, count, neurons, samples in (
        ("cold", 1, few, args.samples),
        ("cold", 10, few, args.samples),
        ("cold", 1000, many, 0),
        ("hot", 1, small, 4 * args.samples),
        ("hot", 10, small, 4 * args.samples),
        ("hot", 1000, many, 0),
    ):
        if count in asked:
            row(*numba, where, count, neurons, samples)
    if args.long and 10 in asked:
        row(*numba, "hot", 10, small, args.long, repeats=2)
    for count in sorted({1, 10} & asked):
        row("numpy", numpy_backend, {}, "cold", count, small, 0, repeats=1)


if __name__ == "__main__":
    main()
