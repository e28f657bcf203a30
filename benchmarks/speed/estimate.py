"""How long for 1.28 million images on 1, 8 and 64 GPUs? An estimate on paper, from measured parts.

    python benchmarks/speed/estimate.py [--images 1281167] [--memory-gib 64]

Nothing here was run on that many GPUs or images. Every part is a figure that was measured (RESULTS.md, GPU:
one H200, ONNX Runtime's CUDA provider without TF32) or is measured when this starts: how fast a state is lent
by one process of a machine and merged by another; how fast Dask workers send each other their ranges and
merge them, and what each of these calls costs; and, as it was before, how fast one process receives and
merges everything. The thesis took 19,422 s on four GTX 1080 Ti, with a table of 8.1 TB.
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


from onnxtweak.engine.backends import open_backend, why_no_cupy
from onnxtweak.engine.machine.memory_plan import Block, TapSlice, state_room
from onnxtweak.engine.scoring.finish import BlockScores
from onnxtweak.engine.scoring.parted import cut, merge_parts
from onnxtweak.engine.scoring.scoring import shard_for
from onnxtweak.engine.scoring.shared_sweep import MERGING
from onnxtweak.engine.scoring.sweep import Sweep
from onnxtweak.engine.shared.by_ranges import merged_by_range, ranges_of
from onnxtweak.engine.workers.gpu_processes import gpu_processes
from onnxtweak.engine.workers.processes import open_workers
from onnxtweak.engine.workers.shared_memory import Borrower, Lender, Lent
from onnxtweak.method.selection.candidates import add_block, no_theta
from onnxtweak.settings import EngineSettings
from onnxtweak.theta.backend import Backend
from onnxtweak.theta.state import (
    ThetaState,
    bytes_per_neuron,
    bytes_sent,
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
    """A second: bytes of state lent; merged where they lie; got from a Dask worker and merged, by one process
    as before and by each of two workers that exchange ranges; pairs ranked. call : seconds that the scheduler
    takes for a shard's range. Dask's are of the processor.
    """

    lent: float
    merged: float
    received: float
    exchanged: float
    call: float
    ranked: float


def rates() -> Rates:
    """Measured here, with `_NEURONS` and 10 targets; from a GPU, where there is one."""
    size, lent, merged = _NEURONS * bytes_sent(10), [], []
    total, borrower = sweep_state(_NEURONS, 10), Borrower()
    with gpu_processes((None,)) as gpus, ThreadPoolExecutor(min(MERGING, os.cpu_count() or 1)) as pool:
        for _ in range(_TRIES):
            answer, took = gpus.submit(lent_state, os.getpid()).result()
            if answer is None:
                raise SystemExit("nothing can be lent on this machine")
            lent.append(took)
            merged.append(_timed(lambda: combine(total, borrower.look(answer), pool))[1])  # noqa: B023
            borrower.give_back(answer)
    rank = _rank()
    ranked = min(_timed(rank)[1] for _ in range(_TRIES))
    return Rates(size / min(lent), size / min(merged), *_dask(), 10 * _NEURONS / ranked)


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


def lent_state(borrower: int) -> tuple[Lent | None, float]:
    """In a worker: what is lent, and the seconds that this took."""
    _, state, lender = _made()
    return _timed(lambda: lender.lend(borrower, state))


def _parts(block: Block, ranges: list[Block]) -> list[Any]:
    """In a Dask worker: a shard's ranges, and nothing for the command."""
    states = [_touched(sweep_state(len(part), 10)) for part in block]
    sweep = Sweep(block, states, [], [None for _ in block], np.empty(0, np.int64), [])
    return [*cut(sweep, ranges), None]


def _block(neurons: int) -> Block:
    return (TapSlice(Tap("t", "Relu", (neurons,)), 0, neurons, 0),)


def _dask() -> tuple[float, float, float]:
    """`received`, `exchanged` and `call` of `Rates`, by two Dask workers, in seconds of the processor."""
    received, exchanged, shards, size = [], [], 8, _NEURONS * bytes_sent(10)
    with open_workers(EngineSettings(device="cpu", workers=2)) as workers:
        dask = workers.dask
        assert dask is not None
        places = dask.places()

        def spent() -> tuple[float, float]:
            """By this process, the scheduler in it, and by the workers."""
            theirs = [dask.result(dask.submit(time.process_time, place=place)) for place in places]
            return time.process_time(), sum(theirs)

        def merged(block: Block, ranges: list[Block]) -> tuple[float, float]:
            """What was spent on merging shards that were there."""
            made = [dask.submit(_parts, block, ranges, place=places[k % 2]) for k in range(shards)]
            dask.wait(made)
            sums: list[Any] = [None] * len(ranges)
            before = spent()
            merged_by_range(
                dask, [lambda shard=shard: shard for shard in made], merge_parts, sums, lambda _: None
            )
            dask.wait(sums)
            after = spent()
            return after[0] - before[0], after[1] - before[1]

        block = _block(_NEURONS)
        total, future = sweep_state(_NEURONS, 10), dask.submit(_parts, block, [block])
        dask.wait([future])
        for _ in range(_TRIES):
            before = spent()
            combine(total, dask.result(future)[0].states[0])
            received.append(spent()[0] - before[0])
            exchanged.append(merged(block, ranges_of(block, 2, bytes_sent(10)))[1])
        few = _block(4096)
        calls = min(merged(few, ranges_of(few, 64, 1 << 30))[0] for _ in range(3)) / (64 * shards)
    return size / min(received), shards * size / min(exchanged), calls


def _rank() -> Callable[[], object]:
    """Ranks a state as it is at the end, of random numbers."""
    made, rng = empty_state(_NEURONS, 10), np.random.default_rng(0)
    for array in (made.hi, made.lo, made.total, made.peak):
        array[:] = rng.random(array.shape) + 0.5
    made.count_hi[:] = rng.random(made.hi.shape) < 0.1
    block = BlockScores(_block(_NEURONS), (made,), np.empty(0))
    return lambda: add_block(no_theta(10, 1000), block, threads=None)


def _timed(job: Callable[[], Any]) -> tuple[Any, float]:
    """What it returns, and its seconds."""
    begin = time.perf_counter()
    return job(), time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=1_281_167)
    parser.add_argument("--memory-gib", type=int, default=64)
    parser.add_argument(
        "--rates",
        type=float,
        nargs=6,
        help="of another run: lent merged received exchanged call ranked, in SI",
    )
    args = parser.parse_args()
    here = Rates(*args.rates) if args.rates else rates()
    shard = shard_for(args.images, EngineSettings().shard)
    shards = math.ceil(args.images / shard)
    print(f"measured here, {os.cpu_count()} cores: {here.lent / 1e9:.1f} GB/s of state lent,")
    print(f"{here.merged / 1e9:.1f} GB/s merged where they lie; {here.ranked / 1e6:.0f} M pairs/s ranked;")
    print(f"by Dask, a second of the processor: {here.received / 1e9:.2f} GB got and merged by one process,")
    print(
        f"{here.exchanged / 1e9:.2f} GB sent, got and merged by a worker; {here.call * 1e3:.2f} ms of it for"
    )
    print("a range of a shard in the scheduler and the command")
    print(f"{args.images:,} images, {NEURONS:,} neurons, {shards} shards, {args.memory_gib} GiB a process\n")
    print(
        "| targets | GPUs | passes | model, theta | lent | reading | merged | to the command | ranking "
        "| about | one receiver |"
    )
    print("|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for targets in (1, 10, 1000):
        size = NEURONS * bytes_per_neuron(targets)
        passes = math.ceil(size / state_room(args.memory_gib * 2**30))
        # More targets than were measured end to end: theta's own rate on top of inference.
        each = RATIO[targets] / PLAIN if targets in RATIO else 1 / PLAIN + NEURONS / passes * targets / PAIRS
        for gpus in (1, GPUS_EACH, 2 * GPUS_EACH, 8 * GPUS_EACH):
            # A GPU takes whole shards, and waits while it lends what it found.
            rows = math.ceil(shards / gpus) * shard
            model = passes * min(rows, args.images) * each
            reading = passes * args.images * IMAGE / DISK / gpus
            sent = NEURONS * bytes_sent(targets)
            lent = merged = final = before = 0.0
            if 1 < gpus <= GPUS_EACH:
                lent, merged = math.ceil(shards / gpus) * sent / here.lent, shards * sent / here.merged
                before = merged
            elif gpus > 1:
                # Each receives its range of every shard, between its own shards.
                ranges = min(gpus, max(sent // passes >> 26, 1))
                merged = shards * sent / ranges / here.exchanged + passes * shards * ranges * here.call
                final = sent / here.received
                before = shards * sent / here.received
            # The one that has the finished states ranks every neuron at the end of its block.
            ranking = NEURONS * targets / here.ranked
            parts = (model, lent, reading, merged, final, ranking)
            about = max(model + lent, reading, merged) + ranking
            if gpus > GPUS_EACH:
                about = max(model + merged, reading) + final + ranking
            ends = about, max(model + lent, reading, before) + ranking
            print(
                f"| {targets:,} | {gpus} | {passes} | {' | '.join(f'{x:,.0f} s' for x in (*parts, *ends))} |"
            )
    print(f"\nthe thesis, 10 targets: {THESIS:,} s on four GTX 1080 Ti. On one machine model with lending,")
    print("reading and merging overlap: the longest of them counts, and the ranking after it. A Dask worker")
    print("merges between its shards, and the finished states come to the command at the end.")


if __name__ == "__main__":
    main()
