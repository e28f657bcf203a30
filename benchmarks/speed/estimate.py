"""How long for 1.28 million images on 1, 8 and 64 GPUs? An estimate on paper, from measured parts.

    python benchmarks/speed/estimate.py [--images 1281167] [--memory-gib 64]

Nothing here was run on that many GPUs or images. Every part is a figure that was measured (RESULTS.md, GPU:
one H200, ONNX Runtime's CUDA provider without TF32) or is measured when this starts: how fast a state is lent
by one process of a machine and merged by another, or comes from a Dask worker; and, as it was before, through
a pipe. The thesis took 19,422 s on four GTX 1080 Ti, with a table of 8.1 TB.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from onnxtweak.engine.scoring.workers import MERGING, open_workers

from onnxtweak.engine.backends import open_backend, why_no_cupy
from onnxtweak.engine.machine.memory_plan import TapSlice, state_room
from onnxtweak.engine.scoring.finish import BlockScores
from onnxtweak.engine.scoring.scoring import shard_for
from onnxtweak.engine.workers.gpu_processes import gpu_processes
from onnxtweak.engine.workers.shared_memory import Borrower, Lender, Lent
from onnxtweak.method.selection.candidates import add_block, no_theta
from onnxtweak.settings import EngineSettings
from onnxtweak.theta.backend import Backend
from onnxtweak.theta.state import (
    ThetaState,
    bytes_per_neuron,
    combine,
    empty_state,
    sweep_state,
    without_counts,
)
from onnxtweak.types import Tap

NEURONS = 1_587_000  # GoogLeNet's, as the thesis counts them
THESIS = 19_422  # seconds, four GTX 1080 Ti
# RESULTS.md, GPU: GoogLeNet topology on one H200, all 3.0 million activations.
PLAIN = 6876  # samples a second, plain inference
RATIO = {1: 1.17, 10: 1.27}  # capture and score over plain inference
PAIRS = 11.4e12  # neurons x targets x samples a second, limits and sums, 1,000 targets, after a ReLU
DISK = 1.5e9  # bytes a second that images are read with, each process: assumed, not measured
IMAGE = 3 * 224 * 224  # bytes, stored as pixels
GPUS_EACH = 8  # in a machine; more GPUs are more machines, and their states come through Dask
_NEURONS = 400_000  # of a state that is sent while this measures, with 10 targets
_TRIES = 7  # the fastest counts: the others were disturbed


@dataclass(frozen=True)
class Rates:
    """A second: bytes of state lent, merged where they lie, sent through a pipe and merged by one thread as
    before, got from a Dask worker and merged (None: no Dask); pairs ranked.
    """

    lent: float
    merged: float
    piped: float
    dask: float | None
    ranked: float


def bytes_sent(neurons: int, targets: int) -> int:
    """Limits, sums and peaks."""
    return neurons * targets * (4 + 4 + 8 + 4) + neurons


def rates() -> Rates:
    """Measured here, with `_NEURONS` and 10 targets; from a GPU, where there is one."""
    size, piped, lent, merged = bytes_sent(_NEURONS, 10), [], [], []
    total, borrower = sweep_state(_NEURONS, 10), Borrower()
    with gpu_processes((None,)) as submit, ThreadPoolExecutor(min(MERGING, os.cpu_count() or 1)) as pool:
        for _ in range(_TRIES):
            other, took = _timed(lambda: submit(piped_state).result())
            piped.append(took + _timed(lambda: combine(total, other))[1])  # noqa: B023
            answer, took = submit(lent_state, os.getpid()).result()
            if answer is None:
                raise SystemExit("nothing can be lent on this machine")
            lent.append(took)
            merged.append(_timed(lambda: combine(total, borrower.look(answer), pool))[1])  # noqa: B023
            borrower.give_back(answer)
    rank = _rank()
    ranked = min(_timed(rank)[1] for _ in range(_TRIES))
    return Rates(size / min(lent), size / min(merged), size / min(piped), _dask(), 10 * _NEURONS / ranked)


@lru_cache(maxsize=1)
def _made() -> tuple[Backend, ThetaState, Lender]:
    """In a worker: a shard's result, all of it touched."""
    backend = open_backend(EngineSettings(backend="numpy" if why_no_cupy(0) else "cupy"))
    return backend, _touched(backend.new_state(_NEURONS, 10)), Lender(lambda n: backend.buffer((1, n), "cpu"))


def _touched(state: ThetaState) -> ThetaState:
    """In a worker: what a shard's result looks like."""
    for array in (state.hi, state.lo, state.total, state.peak):
        array.fill(1)
    return without_counts(state)


def piped_state() -> ThetaState:
    """In a worker: what is sent through a pipe."""
    backend, state, _ = _made()
    return backend.host_state(state)


def lent_state(borrower: int) -> tuple[Lent | None, float]:
    """In a worker: what is lent, and the seconds that this took."""
    _, state, lender = _made()
    return _timed(lambda: lender.lend(borrower, state))


def _a_state(neurons: int) -> ThetaState:
    """In a Dask worker."""
    return _touched(sweep_state(neurons, 10))


def _dask() -> float | None:
    """Bytes a second from a Dask worker, and merged."""
    try:
        import distributed
    except ImportError:
        return None
    total, took = sweep_state(_NEURONS, 10), []
    with open_workers(EngineSettings(device="cpu", workers=1)) as (submit, _):
        for _ in range(_TRIES):
            future = submit(_a_state, _NEURONS)
            distributed.wait(future)
            took.append(_timed(lambda: combine(total, future.result()))[1])  # noqa: B023
    return bytes_sent(_NEURONS, 10) / min(took)


def _rank() -> Callable[[], object]:
    """Ranks a state as it is at the end, of random numbers."""
    made, rng = empty_state(_NEURONS, 10), np.random.default_rng(0)
    for array in (made.hi, made.lo, made.total, made.peak):
        array[:] = rng.random(array.shape) + 0.5
    made.count_hi[:] = rng.random(made.hi.shape) < 0.1
    block = BlockScores((TapSlice(Tap("t", "Relu", (_NEURONS,)), 0, _NEURONS, 0),), (made,), np.empty(0))
    return lambda: add_block(no_theta(10, 1000), block, threads=None)


def _timed(job: Callable[[], Any]) -> tuple[Any, float]:
    """What it returns, and its seconds."""
    begin = time.perf_counter()
    return job(), time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=1_281_167)
    parser.add_argument("--memory-gib", type=int, default=64)
    args = parser.parse_args()
    here = rates()
    shard = shard_for(args.images, EngineSettings().shard)
    shards = math.ceil(args.images / shard)
    dask = "no Dask" if here.dask is None else f"{here.dask / 1e9:.1f} GB/s from a Dask worker and merged"
    print(f"measured here, {os.cpu_count()} cores: {here.lent / 1e9:.1f} GB/s of state lent,")
    print(f"{here.merged / 1e9:.1f} GB/s merged where they lie; {dask};")
    print(f"{here.piped / 1e9:.2f} GB/s through a pipe and merged; {here.ranked / 1e6:.0f} M pairs/s ranked")
    print(f"{args.images:,} images, {NEURONS:,} neurons, {shards} shards, {args.memory_gib} GiB a process\n")
    print(
        "| targets | GPUs | passes | model, theta | lent | reading | merged | ranking | about | by a pipe |"
    )
    print("|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for targets in (1, 10, 1000):
        size = NEURONS * bytes_per_neuron(targets)
        passes = math.ceil(size / state_room(args.memory_gib * 2**30))
        # More targets than were measured end to end: theta's own rate on top of inference.
        each = RATIO[targets] / PLAIN if targets in RATIO else 1 / PLAIN + NEURONS / passes * targets / PAIRS
        for gpus in (1, GPUS_EACH, 8 * GPUS_EACH):
            # A GPU takes whole shards, and waits while it lends what it found.
            rows = math.ceil(shards / gpus) * shard
            model = passes * min(rows, args.images) * each
            reading = passes * args.images * IMAGE / DISK / gpus
            sent = bytes_sent(NEURONS, targets)
            lent = merged = before = 0.0
            if 1 < gpus <= GPUS_EACH:
                lent, merged = math.ceil(shards / gpus) * sent / here.lent, shards * sent / here.merged
            elif gpus > 1:
                merged = shards * sent / here.dask if here.dask else math.nan
            if gpus > 1:
                before = shards * sent / here.piped
            # The one that merges ranks every neuron at the end of its block.
            ranking = NEURONS * targets / here.ranked
            parts = (model, lent, reading, merged, ranking)
            ends = max(model + lent, reading, merged) + ranking, max(model, reading, before) + ranking
            print(
                f"| {targets:,} | {gpus} | {passes} | {' | '.join(f'{x:,.0f} s' for x in (*parts, *ends))} |"
            )
    print(
        f"\nthe thesis, 10 targets: {THESIS:,} s on four GTX 1080 Ti. Model with lending, reading and merging"
    )
    print("overlap: the longest of them counts, and the ranking after it.")


if __name__ == "__main__":
    main()
