"""How are all neurons scored? Theta over all samples: the longest pass, in shards, so that it can be resumed.

Where the state of all neurons does not fit into memory, they are cut into blocks, with one pass for each; a
block is finished before the next one begins.

The samples are cut into shards of fixed size, in order. Limits are maxima and need no order; sums are added
up shard by shard, whoever computed them: one process, a run that was killed and resumed, or many workers.
That is why all of these give the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from onnxtweak.data.splits import View
from onnxtweak.engine.machine.gpu import gpu_numbers
from onnxtweak.engine.machine.memory_plan import Block, cut_taps
from onnxtweak.engine.passes import Engine, Folding, capture
from onnxtweak.engine.scoring.checkpoint import Checkpoint
from onnxtweak.engine.scoring.sweep import (
    Read,
    Reopen,
    ScoringTask,
    Sweep,
    fold,
    new_sweep,
    of_targets,
    taps_of,
    values_of,
)
from onnxtweak.engine.subject import Subject
from onnxtweak.theta.gaps import is_of
from onnxtweak.theta.state import ThetaState, begin_counting, bytes_per_neuron
from onnxtweak.types import Tap

# A shard from another process is sent as a whole state: few enough shards that this costs less than running
# the model, and as many as there may be workers.
_MOST_SHARDS = 64


@dataclass(frozen=True)
class BlockScores:
    """Theta's states of a block of neurons after all samples, in NumPy: one per slice of the block.

    predicted (N,) int64 : by the base; of several labels (N, C), marks.
    """

    block: Block
    states: tuple[ThetaState, ...]
    predicted: np.ndarray


def shard_for(samples: int, least: int) -> int:
    """Samples per shard: `least`, or more where there would be too many shards."""
    return max(least, -(-samples // _MOST_SHARDS))


def from_model(subject: Subject, view: View, engine: Engine, taps: Sequence[Tap]) -> Read:
    """Batches by running the model over a view. Chosen samples are given by their position in the view.

    taps : all that will be read, in one pass or in several.
    """
    all_values = sum(tap.neurons for tap in taps)
    return lambda what, some, chosen: capture(
        subject,
        view if chosen is None else View(view.dataset, view.rows[chosen]),
        engine,
        what,
        some,
        folding=Folding(
            for_theta=True,
            every=engine.settings.shard,
            other_values=all_values - sum(tap.neurons for tap in some),
        ),
    )


def theta_blocks(taps: Sequence[Tap], targets: int, engine: Engine) -> list[Block]:
    """The blocks of neurons, with one sweep each: a single one where the state of all fits into memory."""
    each, most = bytes_per_neuron(targets), engine.backend.gpu_state_bytes
    return cut_taps(taps, each, engine.settings, most, engine.reserved_bytes)


def theta_sweeps(
    read: Read,
    blocks: Sequence[Block],
    task: ScoringTask,
    engine: Engine,
    *,
    reopen: Reopen | None = None,
    done: int = 0,
) -> Iterator[BlockScores]:
    """Theta of every neuron (METHOD 2, 11), block by block: limits over all samples, then counts.

    One sweep per block where its survivors fit into memory, else a second one over the wrong samples of the
    targets. The caller drops a block before it takes the next one.

    read : all samples of the task. With a `cache_key` and a `work_dir` the pass can be resumed. reopen : how
    workers open the samples; with it, and `workers`, a `scheduler` or several GPUs, they share the pass.
    done : how many of the first blocks to leave out. Raises MachineError where workers cannot be started,
    OutputError where the work directory cannot be written to.
    """
    settings = engine.settings
    several = settings.workers or settings.scheduler or len(gpu_numbers(settings.device)) > 1
    checkpoints = [Checkpoint.at(settings, task.cache_key, number) for number in range(len(blocks))]
    with ExitStack() as stack:
        shared = None
        if reopen is not None and several and done < len(blocks):
            from onnxtweak.engine.scoring.workers import sharing

            shared = stack.enter_context(sharing(reopen, engine))
        for number, (block, checkpoint) in enumerate(zip(blocks, checkpoints, strict=True)):
            if number >= done:
                what = "score" if len(blocks) == 1 else f"score, block {number + 1} of {len(blocks)}"
                if shared is not None:
                    sweep = shared(block, task, what, checkpoint)
                else:
                    sweep = _sweep(read, block, task, engine, checkpoint, what)
                _finish(sweep, read, task, engine)
                states = tuple(engine.backend.host_state(state) for state in sweep.states)
                scored = BlockScores(block, states, sweep.predicted)
                del sweep, states
                yield scored
                del scored
            if checkpoint is not None:  # the caller has stored the block by now
                checkpoint.clear()


def _sweep(
    read: Read,
    block: Block,
    task: ScoringTask,
    engine: Engine,
    checkpoint: Checkpoint | None,
    what: str,
) -> Sweep:
    """Sweep all samples in this process, from where the checkpoint is."""
    sweep = new_sweep(block, task, engine)
    if checkpoint is not None:
        checkpoint.load(sweep, engine.progress)
    total = len(task.labels)
    chosen = None if sweep.at == 0 else np.arange(sweep.at, total)
    if sweep.at < total:
        for got in read(what, taps_of(block), chosen):
            fold(sweep, got, task, engine)
            if checkpoint is not None and sweep.at % engine.settings.shard == 0:
                checkpoint.save(sweep, engine.backend.host_state)
    return sweep


def _finish(sweep: Sweep, read: Read, task: ScoringTask, engine: Engine) -> None:
    """Counts, and what is known only once all samples were seen."""
    sweep.parts = []
    sweep.states = [begin_counting(state) for state in sweep.states]
    for j, parts in enumerate(sweep.gaps):
        values = np.concatenate(parts)
        for state in sweep.states:
            state.seen[j] = len(values)
            state.gap[j] = float(np.median(values)) if len(values) else 0.0
    found = [survivors for survivors in sweep.survivors if survivors is not None and not survivors.overflowed]
    if len(found) == len(sweep.states):
        for survivors, state in zip(found, sweep.states, strict=True):
            survivors.count(state)
        return
    sweep.survivors = []
    del found
    own, missed = is_of(task.labels, task.targets), ~is_of(sweep.predicted, task.targets)
    wrong = np.flatnonzero((own & missed).any(axis=1))
    if len(wrong):
        sweep.states = [engine.backend.device_state(state) for state in sweep.states]
        _count_wrong(sweep, read, wrong, task, engine)


def _count_wrong(sweep: Sweep, read: Read, wrong: np.ndarray, task: ScoringTask, engine: Engine) -> None:
    """The second sweep, over the wrong samples of the targets: their positions (n,) int64."""
    for got in read("count", taps_of(sweep.block), wrong):
        gaps = task.gaps(got)
        parts = [(rows, engine.backend.place_wanted(of_targets(gaps.wanted, rows))) for rows in task.together]
        for s, V in zip(sweep.states, values_of(sweep.block, got, engine), strict=True):
            if task.theta == "thesis":
                np.abs(V, out=V)
            for rows, wanted in parts:
                counts = (part[rows] for part in (s.hi, s.lo, s.count_hi, s.count_lo, s.last_hi, s.last_lo))
                engine.backend.fold_wanted(V, wanted, *counts)
