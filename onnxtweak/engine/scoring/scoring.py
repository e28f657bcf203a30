"""Theta over samples: the longest pass, cut into shards, and kept where it can be taken up again.

Where the state of all neurons does not fit into memory, they are cut into blocks, with one pass for each; a
block is done with before the next one begins.

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
from onnxtweak.engine.passes import Engine, capture
from onnxtweak.engine.plan import Block, cut_taps
from onnxtweak.engine.scoring.checkpoint import Checkpoint
from onnxtweak.engine.scoring.sweep import (
    Read,
    Reopen,
    ScoringTask,
    Sweep,
    fold,
    new_sweep,
    taps_of,
    values_of,
)
from onnxtweak.engine.subject import Subject
from onnxtweak.theta.gaps import reciprocal_gaps
from onnxtweak.theta.state import ThetaState, begin_counting, bytes_per_neuron
from onnxtweak.types import Tap

# Every shard of another process is sent as a whole state: few enough that this costs less than the model, as
# many as there may be workers.
_MOST_SHARDS = 64


@dataclass(frozen=True)
class BlockScores:
    """Theta's state of a block of neurons after all samples: one for each of its stretches.

    predicted (N,) int64 : by the base.
    """

    block: Block
    states: tuple[ThetaState, ...]
    predicted: np.ndarray


def shard_for(samples: int, least: int) -> int:
    """Samples in a shard: `least`, or more where there would be too many shards to be worth a state each."""
    return max(least, -(-samples // _MOST_SHARDS))


def from_model(subject: Subject, view: View, engine: Engine, taps: Sequence[Tap]) -> Read:
    """Batches by running the model over a view. Chosen samples are given by their position in the view.

    taps : all that will be asked for, in one pass or in several.
    """
    all_values = sum(tap.neurons for tap in taps)
    return lambda what, some, chosen: capture(
        subject,
        view,
        engine,
        what,
        some,
        rows=None if chosen is None else view.rows[chosen],
        for_theta=True,
        every=engine.settings.shard,
        beside=all_values - sum(tap.neurons for tap in some),
    )


def theta_blocks(taps: Sequence[Tap], targets: int, engine: Engine) -> list[Block]:
    """The blocks of neurons that theta is swept in: one, where the state of all fits into memory."""
    each, most = bytes_per_neuron(targets), engine.backend.gpu_state_bytes
    return cut_taps(taps, each, engine.settings, most, engine.reserved_bytes)


def theta_sweeps(
    read: Read,
    blocks: Sequence[Block],
    labels: np.ndarray,
    targets: np.ndarray,
    theta: str,
    engine: Engine,
    *,
    asked: str | None = None,
    reopen: Reopen | None = None,
    done: int = 0,
) -> Iterator[BlockScores]:
    """Theta of every neuron, block by block: limits over all samples, counts over the wrong target samples.

    One sweep for a block where what may count fits into memory, else a second one over the wrong target
    samples alone. The caller drops a block before it takes the next one.

    labels (N,) int64; targets (c,) int64. theta : "signed" or "thesis". asked : digest of everything the
    answer depends on; with it, and a `work_dir`, the pass can be resumed. reopen : how workers open the
    samples; with it, and `workers` or a `scheduler`, they share the pass. done : blocks to leave out.
    """
    question = ScoringTask(labels, np.asarray(targets, np.int64), theta)
    settings = engine.settings
    several = settings.workers or settings.scheduler or len(gpu_numbers(settings.device)) > 1
    checkpoints = [Checkpoint.at(settings, asked, number) for number in range(len(blocks))]
    with ExitStack() as stack:
        shared = None
        if reopen is not None and several and done < len(blocks):
            from onnxtweak.engine.scoring.workers import sharing

            shared = stack.enter_context(sharing(reopen, engine))
        for number, (block, checkpoint) in enumerate(zip(blocks, checkpoints, strict=True)):
            if number >= done:
                what = "score" if len(blocks) == 1 else f"score, block {number + 1} of {len(blocks)}"
                if shared is not None:
                    sweep = shared(block, question, what, checkpoint)
                else:
                    sweep = _sweep(read, block, question, engine, checkpoint, what)
                _finish(sweep, read, question, engine)
                states = tuple(engine.backend.host_state(state) for state in sweep.states)
                scored = BlockScores(block, states, sweep.predicted)
                del sweep, states
                yield scored
                del scored
            if checkpoint is not None:  # whoever took the block has kept it by now
                checkpoint.clear()


def _sweep(
    read: Read,
    block: Block,
    question: ScoringTask,
    engine: Engine,
    checkpoint: Checkpoint | None,
    what: str,
) -> Sweep:
    """All samples in this process, from where the checkpoint is."""
    sweep = new_sweep(block, question, engine)
    if checkpoint is not None:
        checkpoint.load(sweep)
    total = len(question.labels)
    chosen = None if sweep.at == 0 else np.arange(sweep.at, total)
    if sweep.at < total:
        for got in read(what, taps_of(block), chosen):
            fold(sweep, got, question, engine)
            if checkpoint is not None and sweep.at % engine.settings.shard == 0:
                checkpoint.save(sweep, engine.backend.host_state)
    return sweep


def _finish(sweep: Sweep, read: Read, question: ScoringTask, engine: Engine) -> None:
    """Counts, and what is known only when all samples were seen."""
    sweep.parts = []
    sweep.states = [begin_counting(state) for state in sweep.states]
    for j, parts in enumerate(sweep.gaps):
        values = np.concatenate(parts)
        for state in sweep.states:
            state.seen[j] = len(values)
            state.gap[j] = float(np.median(values)) if len(values) else 0.0
    if all(one is not None and not one.overflowed for one in sweep.kept):
        for one, state in zip(sweep.kept, sweep.states, strict=True):
            one.count(state)
        return
    sweep.kept = []
    labels = question.labels
    wrong = np.flatnonzero((sweep.predicted != labels) & np.isin(labels, question.targets))
    if len(wrong):
        sweep.states = [engine.backend.device_state(state) for state in sweep.states]
        _count_again(read, sweep.block, wrong, question, engine, sweep.states)


def _count_again(read: Read, block: Block, wrong: np.ndarray, question: ScoringTask, engine: Engine, states):
    """The second sweep, over the wrong target samples alone."""
    for got in read("count", taps_of(block), wrong):
        wanted = reciprocal_gaps(got.Z, got.labels, question.targets, question.theta).wanted
        wanted = engine.backend.place_wanted(wanted)
        for s, V in zip(states, values_of(block, got, engine), strict=True):
            if question.theta == "thesis":
                np.abs(V, out=V)
            engine.backend.fold_wanted(V, wanted, s.hi, s.lo, s.count_hi, s.count_lo, s.last_hi, s.last_lo)
