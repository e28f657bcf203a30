"""How are all neurons scored? Theta over all samples: the longest pass, in shards, so that it can be resumed.

Where the state of all neurons does not fit into memory, they are cut into blocks, with one pass for each; a
block is finished before the next one begins.

The samples are cut into shards of fixed size, in order. Limits are maxima and need no order; sums are added
up shard by shard, whoever computed them: one process, a run that was killed and resumed, or many workers.
That is why all of these give the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onnxtweak.data.splits import View
from onnxtweak.engine.machine.memory_plan import Block, cut_taps
from onnxtweak.engine.passes import Engine, Folding, capture
from onnxtweak.engine.scoring.checkpoint import Checkpoint
from onnxtweak.engine.scoring.finish import BlockScores, finish
from onnxtweak.engine.scoring.sweep import Read, Reopen, ScoringTask, Sweep, fold, new_sweep, on_host, taps_of
from onnxtweak.engine.shared.sending import files_read
from onnxtweak.engine.subject import Subject
from onnxtweak.theta.state import bytes_per_neuron
from onnxtweak.types import Tap

# A shard from another process is sent as a whole state: few enough shards that this costs less than running
# the model, and as many as there may be workers.
_MOST_SHARDS = 64


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


@dataclass(frozen=True, eq=False)
class ModelSamples:
    """How a worker reads what `from_model` reads here."""

    subject: Subject
    view: View
    taps: tuple[Tap, ...]

    def __call__(self, engine: Engine) -> Read:
        return from_model(self.subject, self.view, engine, self.taps)

    @property
    def files(self) -> tuple[Path, ...]:
        return files_read(self.subject, self.view)


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
    checkpoints = [Checkpoint.at(engine.settings, task.cache_key, number) for number in range(len(blocks))]
    crew = engine.crew
    for number, (block, checkpoint) in enumerate(zip(blocks, checkpoints, strict=True)):
        if number >= done:
            what = "score" if len(blocks) == 1 else f"score, block {number + 1} of {len(blocks)}"
            if reopen is not None and crew is not None and crew.wanted:
                from onnxtweak.engine.scoring.shared_sweep import shared_sweep

                yield from shared_sweep(reopen, read, block, task, engine, what, checkpoint)
            else:
                sweep = _sweep(read, block, task, engine, checkpoint, what)
                scored = finish(sweep, read, task, engine)
                del sweep
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
            if checkpoint is not None and sweep.at in task.shard_ends(engine.settings.shard):
                checkpoint.save(lambda: on_host(sweep, engine))
    return sweep
