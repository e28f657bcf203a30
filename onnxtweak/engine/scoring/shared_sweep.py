"""How do workers share a sweep? Each folds a shard at a time; what they found is merged in order.

The states of GPU processes are lent to this one, which merges them. Those of Dask workers never come here
until all is done: each worker merges a range of the neurons, and counts it.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxtweak.engine.backends import open_backend
from onnxtweak.engine.machine.memory_plan import Block
from onnxtweak.engine.passes import Engine
from onnxtweak.engine.scoring.checkpoint import Checkpoint
from onnxtweak.engine.scoring.finish import BlockScores, TargetGaps, count_wrong, finish, wrong_samples
from onnxtweak.engine.scoring.parted import (
    CountedPart,
    add_counted,
    count_part,
    counts_of,
    cut,
    joined,
    limits_of,
    merge_parts,
)
from onnxtweak.engine.scoring.sweep import (
    Read,
    Reopen,
    ScoringTask,
    Sweep,
    fold,
    merge,
    new_sweep,
    on_host,
    taps_of,
    to_send,
)
from onnxtweak.engine.shared.by_ranges import AHEAD, merged_by_range, ranges_of
from onnxtweak.engine.shared.sending import opened, packed
from onnxtweak.engine.workers.processes import Call, Workers, settings_of_worker
from onnxtweak.theta.state import begin_counting, bytes_sent

if TYPE_CHECKING:
    from onnxtweak.engine.workers.dask_cluster import DaskWorkers

# Threads that merge: more would be limited by the memory.
MERGING = 8


@dataclass(frozen=True)
class SharedSweep:
    """A sweep that workers share. what : the pass's name. given : what each call is given to open."""

    block: Block
    task: ScoringTask
    what: str
    engine: Engine
    given: Any

    @property
    def host(self) -> Engine:
        """The engine with states in NumPy."""
        settings = replace(self.engine.settings, backend="numpy")
        return replace(self.engine, backend=open_backend(settings))

    def shards(self, done: int) -> Iterator[tuple[ScoringTask, int]]:
        """Of each shard from sample `done` on, its task and its first sample."""
        for start, stop in pairwise((0, *self.task.shard_ends(self.engine.settings.shard).tolist())):
            if start >= done:
                ends = np.array([stop - start])
                yield replace(self.task, labels=self.task.labels[start:stop], ends=ends), start


def shared_sweep(
    reopen: Reopen,
    read: Read,
    block: Block,
    task: ScoringTask,
    engine: Engine,
    what: str,
    checkpoint: Checkpoint | None,
) -> Iterator[BlockScores]:
    """What a whole sweep by workers finds, from where the checkpoint is.

    reopen : how workers read what `read` reads here. Raises MachineError where they cannot be started, or all
    are lost.
    """
    assert engine.crew is not None  # `theta_sweeps` has looked
    with engine.crew.at_work() as workers:
        what = f"{what}, {workers.of.processes} workers"
        settings = settings_of_worker(engine.settings, workers.of.processes)
        with workers.of.giving(packed(reopen, engine, settings, reopen.files)) as given:
            shared = SharedSweep(block, task, what, engine, given)
            if workers.dask is not None:
                yield from _by_ranges(shared, workers.dask, checkpoint)
                return
            sweep = _merged_here(shared, workers, checkpoint)
            scored = finish(sweep, read, task, engine)
            del sweep
            yield scored


def _merged_here(shared: SharedSweep, workers: Workers, checkpoint: Checkpoint | None) -> Sweep:
    """All shards, merged by this process."""
    engine = shared.engine
    sweep = new_sweep(shared.block, shared.task, shared.host)
    sweep.parts = []  # the workers fold
    if checkpoint is not None:
        checkpoint.load(sweep, engine.progress)

    def take(call: Call) -> None:
        with workers.answer(call) as shard:
            merge(sweep, shard, pool)
            count = len(shard.predicted)
        if checkpoint is not None:
            checkpoint.save(lambda: sweep)
        engine.progress.advance(count)

    total, done = len(shared.task.labels), sweep.at
    waiting: list[Call] = []
    engine.progress.start(shared.what, total - done)
    with ThreadPoolExecutor(min(MERGING, engine.settings.cores)) as pool:
        for part, start in shared.shards(done):
            waiting.append(workers.begin(_one_shard, shared.given, shared.block, part, start))
            if len(waiting) > AHEAD * workers.of.processes:
                take(waiting.pop(0))
        while waiting:
            take(waiting.pop(0))
    engine.progress.finish()
    engine.stats.passes.append((shared.what, total - done))
    return sweep


def _folded(given: Any, block: Block, task: ScoringTask, start: int) -> tuple[Sweep, Any]:
    """In a worker: one shard, and what is open there."""
    here = opened(given)
    sweep = new_sweep(block, task, here.engine)
    read = here.value(here.engine)
    for got in read("score", taps_of(block), np.arange(start, start + len(task.labels))):
        fold(sweep, got, task, here.engine)
    return to_send(sweep), here


def _one_shard(given: Path, block: Block, task: ScoringTask, start: int, borrower: int | None) -> Any:
    """In a GPU's process: fold one shard."""
    sweep, here = _folded(given, block, task, start)
    return here.hand_over(sweep, partial(on_host, engine=here.engine), borrower)


def _by_ranges(
    shared: SharedSweep, workers: DaskWorkers, checkpoint: Checkpoint | None
) -> Iterator[BlockScores]:
    """All shards, merged and counted by Dask workers, a range of neurons each."""
    engine, block, settings = shared.engine, shared.block, shared.engine.settings
    ranges = ranges_of(block, workers.processes, bytes_sent(len(shared.task.targets)))
    whole = new_sweep(block if checkpoint is not None else (), shared.task, shared.host)
    if checkpoint is not None:
        checkpoint.load(whole, engine.progress)
    done = whole.at
    merged: list[Any] = [None] * len(ranges)
    if done:
        whole.parts = []
        merged = [workers.submit(_as_it_is, part) for part in cut(whole, ranges)]
    seen = replace(whole, block=(), states=[], parts=[], survivors=[])  # what this process sees of the shards

    def take(shard: Sweep) -> None:
        merge(seen, shard)
        engine.progress.advance(len(shard.predicted))

    def so_far() -> Sweep:
        found = joined([workers.result(part) for part in merged], block)
        return replace(seen, block=block, states=found.states, survivors=found.survivors)

    def save() -> None:
        if checkpoint is not None:
            checkpoint.save(so_far)

    engine.progress.start(shared.what, len(shared.task.labels) - done)
    merged_by_range(
        workers,
        (
            partial(workers.submit, _parts_of_shard, shared.given, block, ranges, part, start)
            for part, start in shared.shards(done)
        ),
        partial(merge_parts, threads=min(MERGING, settings.cores)),
        merged,
        take,
        save,
    )
    engine.progress.finish()
    engine.stats.passes.append((shared.what, len(shared.task.labels) - done))
    of, places = TargetGaps.of(seen.gaps), workers.places()
    counted = [
        workers.submit(count_part, part, of, place=places[k % len(places)]) for k, part in enumerate(merged)
    ]
    merged.clear()
    if not all(workers.result(workers.submit(_is_done, part)) for part in counted):
        _count_by_ranges(shared, workers, ranges, counted, wrong_samples(seen.predicted, shared.task))
    for k, part in enumerate(ranges):
        states = tuple(workers.result(counted[k]).sweep.states)
        counted[k] = None
        yield BlockScores(part, states, seen.predicted, ends=k == len(ranges) - 1)


def _count_by_ranges(
    shared: SharedSweep, workers: DaskWorkers, ranges: list[Block], counted: list[Any], wrong: np.ndarray
) -> None:
    """The second sweep, over wrong samples of the targets. counted : futures of the ranges, replaced."""
    if not len(wrong):
        return
    engine, size = shared.engine, shared.engine.settings.shard
    limits = [workers.submit(limits_of, part) for part in counted]
    engine.progress.start("count", len(wrong))

    def begin(rows: np.ndarray) -> Any:
        task = replace(shared.task, labels=shared.task.labels[rows])
        return workers.submit(_counts_of_shard, shared.given, shared.block, ranges, task, rows, limits)

    merged_by_range(
        workers,
        (partial(begin, wrong[start : start + size]) for start in range(0, len(wrong), size)),
        add_counted,
        counted,
        engine.progress.advance,
    )
    engine.progress.finish()
    engine.stats.passes.append((f"count, {workers.processes} workers", len(wrong)))


def _parts_of_shard(
    given: Any, block: Block, ranges: list[Block], task: ScoringTask, start: int
) -> list[Sweep]:
    """In a Dask worker: fold one shard; its ranges, and last what the command sees of it."""
    sweep, here = _folded(given, block, task, start)
    sweep = on_host(sweep, here.engine)
    return [*cut(sweep, ranges), replace(sweep, block=(), states=[], survivors=[])]


def _counts_of_shard(
    given: Any,
    block: Block,
    ranges: list[Block],
    task: ScoringTask,
    rows: np.ndarray,
    limits: list[Sweep],
) -> list[Any]:
    """In a Dask worker: count some wrong samples; the ranges, and last how many samples these were."""
    here = opened(given)
    sweep, engine = joined(limits, block), here.engine
    sweep.states = [engine.backend.device_state(begin_counting(state)) for state in sweep.states]
    count_wrong(sweep, here.value(engine), rows, task, engine)
    sweep.states = [engine.backend.host_state(state) for state in sweep.states]
    return [*counts_of(sweep, ranges), len(rows)]


def _as_it_is(part: Sweep) -> Sweep:
    return part


def _is_done(part: CountedPart) -> bool:
    return part.done
