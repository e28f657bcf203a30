"""How long for 1.28 million images on 1, 8 and 64 GPUs? An estimate on paper, from measured parts.

    python benchmarks/estimate.py [--images 1281167] [--memory-gib 64]

Nothing here was run on that many GPUs or images. Every part is a figure that was measured (RESULTS.md, GPU:
one H200, ONNX Runtime's CUDA provider without TF32) or is measured when this starts: how fast a state goes
from one process to another and into the total. The thesis took 19,422 s on four GTX 1080 Ti, with a table of
8.1 TB.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from onnxtweak.engine.fleet import gpu_processes
from onnxtweak.engine.plan import Stretch, state_room
from onnxtweak.engine.scoring import Scored, shard_for
from onnxtweak.method.candidates import add_block, no_theta
from onnxtweak.settings import EngineSettings
from onnxtweak.theta.state import ThetaState, bytes_per_neuron, combine, empty_state, without_counts
from onnxtweak.types import Tap

NEURONS = 1_587_000  # GoogLeNet's, as the thesis counts them
THESIS = 19_422  # seconds, four GTX 1080 Ti
# RESULTS.md, GPU: GoogLeNet topology on one H200, all 10.2 million activations.
PLAIN = 422  # samples a second, plain inference
RATIO = {1: 1.20, 10: 1.44}  # capture and score over plain inference
PAIRS = 11.9e12  # neurons x targets x samples a second, limits and sums, 1,000 targets, after a ReLU
DISK = 1.5e9  # bytes a second that images are read with, each process: assumed, not measured
IMAGE = 3 * 224 * 224  # bytes, stored as pixels
_TRIES = 7  # the fastest counts: the others were disturbed


def state(neurons: int) -> ThetaState:
    """Something of the size of a shard's result."""
    return without_counts(empty_state(neurons, 10))


def bytes_sent(neurons: int, targets: int) -> int:
    """Limits, sums and peaks."""
    return neurons * targets * (4 + 4 + 8 + 4) + neurons


def rates() -> tuple[float, float, float]:
    """A second: bytes of state from one process into another, and into the total; pairs ranked at the end."""
    neurons = 200_000
    size = bytes_sent(neurons, 10)
    with gpu_processes((None,)) as submit:
        submit(state, 10).result()
        sent = min(_timed(lambda: submit(state, neurons).result()) for _ in range(_TRIES))
    total, other = empty_state(neurons, 10), state(neurons)
    merged = min(_timed(lambda: combine(total, other)) for _ in range(_TRIES))
    count = 1 << 17
    block = Scored((Stretch(Tap("t", "Relu", (count,)), 0, count, 0),), (_counted(count),), np.empty(0))
    ranked = min(_timed(lambda: add_block(no_theta(10, 1000), block)) for _ in range(_TRIES))
    return size / sent, size / merged, 10 * count / ranked


def _counted(neurons: int) -> ThetaState:
    """A state as it is at the end, of random numbers."""
    made, rng = empty_state(neurons, 10), np.random.default_rng(0)
    for array in (made.hi, made.lo, made.total, made.peak):
        array[:] = rng.random(array.shape) + 0.5
    made.count_hi[:] = rng.random(made.hi.shape) < 0.1
    return made


def _timed(job: Callable[[], object]) -> float:
    begin = time.perf_counter()
    job()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=1_281_167)
    parser.add_argument("--memory-gib", type=int, default=64)
    args = parser.parse_args()
    sent, merged, ranked = rates()
    shard = shard_for(args.images, EngineSettings().shard)
    shards = math.ceil(args.images / shard)
    said = f"{sent / 1e9:.2f} GB/s of state sent, {merged / 1e9:.1f} GB/s merged"
    print(f"measured here: {said}, {ranked / 1e6:.0f} M pairs/s ranked")
    print(f"{args.images:,} images, {NEURONS:,} neurons, {shards} shards, {args.memory_gib} GiB a process\n")
    print("| targets | GPUs | passes | model, theta | reading | states sent, merged | ranking | about |")
    print("|--:|--:|--:|--:|--:|--:|--:|--:|")
    for targets in (1, 10, 1000):
        size = NEURONS * bytes_per_neuron(targets)
        passes = math.ceil(size / state_room(args.memory_gib * 2**30))
        # More targets than were measured end to end: theta's own rate on top of inference.
        each = RATIO[targets] / PLAIN if targets in RATIO else 1 / PLAIN + NEURONS / passes * targets / PAIRS
        for gpus in (1, 8, 64):
            # A GPU takes whole shards.
            rows = math.ceil(shards / gpus) * shard
            model = passes * min(rows, args.images) * each
            reading = passes * args.images * IMAGE / DISK / gpus
            # One process needs no merging; else one after the other, on the machine that merges.
            moving = 0 if gpus == 1 else shards * bytes_sent(NEURONS, targets) * (1 / sent + 1 / merged)
            # The one that merges ranks every neuron at the end of its block.
            ranking = NEURONS * targets / ranked
            whole = max(model, reading, moving) + ranking
            print(
                f"| {targets:,} | {gpus} | {passes} | {model:,.0f} s | {reading:,.0f} s | {moving:,.0f} s"
                f" | {ranking:,.0f} s | {whole:,.0f} s |"
            )
    print(f"\nthe thesis, 10 targets: {THESIS:,} s on four GTX 1080 Ti. Model, reading and sending")
    print("overlap: the longest of them counts, and the ranking after it.")


if __name__ == "__main__":
    main()
