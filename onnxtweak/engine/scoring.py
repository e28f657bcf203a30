"""Theta over samples: the longest pass, cut into shards, and kept where it can be taken up again.

Where the state of all neurons does not fit into memory, they are cut into blocks, with one pass for each; a
block is done with before the next one begins.

The samples are cut into shards of fixed size, in order. Limits are maxima and need no order; sums are added
up shard by shard, whoever computed them: one process, a run that was killed and resumed, or many workers.
That is why all of these give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from onnxtweak.data.splits import View
from onnxtweak.engine.checkpoint import Checkpoint
from onnxtweak.engine.gpu import gpu_numbers
from onnxtweak.engine.passes import Captured, Engine, capture
from onnxtweak.engine.plan import Block, cut_taps, survivor_room
from onnxtweak.engine.subject import Subject
from onnxtweak.theta.gaps import reciprocal_gaps
from onnxtweak.theta.state import ThetaState, begin_counting, bytes_per_neuron, combine, without_counts
from onnxtweak.theta.survivors import Survivors
from onnxtweak.types import Tap

# Every shard of another process is sent as a whole state: few enough that this costs less than the model, as
# many as there may be workers.
_MOST_SHARDS = 64


@dataclass(frozen=True)
class Scored:
    """Theta's state of a block of neurons after all samples: one for each of its stretches.

    predicted (N,) int64 : by the base.
    """

    block: Block
    states: tuple[ThetaState, ...]
    predicted: np.ndarray


# Captured batches of some taps, over all samples or over chosen ones: from a model, a dump, or a table.
Read = Callable[[str, Sequence[Tap], "np.ndarray | None"], Iterator[Captured]]


class Reopen(Protocol):
    """How a worker opens the same samples again; must be picklable and comparable."""

    def __call__(self, engine: Engine) -> Read: ...


@dataclass(frozen=True)
class Question:
    """What is asked of the samples, apart from the taps.

    labels (N,) int64; targets (c,) int64; theta : "signed" or "thesis".
    """

    labels: np.ndarray
    targets: np.ndarray
    theta: str


@dataclass
class Sweep:
    """The state of a pass over the samples, for one block of neurons; changed in place.

    states : per stretch, their `total` up to the last whole shard. parts : per stretch, this shard's sums
    (c, M). kept : per stretch, what may still count; None where the back end does not find it. predicted
    (N,) int64. gaps : per target, |g| of its samples so far. at : samples done.
    """

    block: Block
    states: list[ThetaState]
    parts: list[Any]
    kept: list[Survivors | None]
    predicted: np.ndarray
    gaps: list[list[np.ndarray]]
    at: int = 0


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
    each, most = bytes_per_neuron(targets), engine.backend.state_room
    return cut_taps(taps, each, engine.settings, most, engine.taken)


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
) -> Iterator[Scored]:
    """Theta of every neuron, block by block: limits over all samples, counts over the wrong target samples.

    One sweep for a block where what may count fits into memory, else a second one over the wrong target
    samples alone. The caller drops a block before it takes the next one.

    labels (N,) int64; targets (c,) int64. theta : "signed" or "thesis". asked : digest of everything the
    answer depends on; with it, and a `work_dir`, the pass can be resumed. reopen : how workers open the
    samples; with it, and `workers` or a `scheduler`, they share the pass. done : blocks to leave out.
    """
    question = Question(labels, np.asarray(targets, np.int64), theta)
    settings = engine.settings
    several = settings.workers or settings.scheduler or len(gpu_numbers(settings.device)) > 1
    checkpoints = [Checkpoint.at(settings, asked, number) for number in range(len(blocks))]
    with ExitStack() as stack:
        shared = None
        if reopen is not None and several and done < len(blocks):
            from onnxtweak.engine.spread import sharing

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
                scored = Scored(block, states, sweep.predicted)
                del sweep, states
                yield scored
                del scored
            if checkpoint is not None:  # whoever took the block has kept it by now
                checkpoint.clear()


def new_sweep(block: Block, question: Question, engine: Engine) -> Sweep:
    """Nothing done yet."""
    states = [engine.backend.new_state(len(stretch), len(question.targets)) for stretch in block]
    finds = engine.backend.find_survivors is not None
    room = survivor_room(block, engine.settings, engine.taken)
    return Sweep(
        block=block,
        states=states,
        parts=[state.total.copy() for state in states],
        kept=[Survivors(most) if finds else None for most in room],
        predicted=np.empty(len(question.labels), np.int64),
        gaps=[[] for _ in question.targets],
    )


def fold(sweep: Sweep, got: Captured, question: Question, engine: Engine) -> None:
    """One batch more. A batch never reaches across the end of a shard."""
    backend, targets = engine.backend, question.targets
    gap = reciprocal_gaps(got.Z, got.labels, targets, question.theta)
    sweep.predicted[sweep.at : sweep.at + len(got.labels)] = gap.predicted
    sweep.at += len(got.labels)
    member = _membership(got.labels, targets)
    for j in range(len(targets)):
        sweep.gaps[j].append(np.abs(gap.gap[member == j, j]))
    whole = sweep.at % engine.settings.shard == 0 or sweep.at == len(sweep.predicted)
    limit, own = backend.place_limit(gap.limit), backend.place_member(member, len(targets))
    values = _values(sweep.block, got, engine)
    for state, part, one, V in zip(sweep.states, sweep.parts, sweep.kept, values, strict=True):
        if question.theta == "thesis":
            np.abs(V, out=V)
        backend.fold_limits(V, limit, state.hi, state.lo, state.bad)
        backend.fold_sums(V, own, part, state.peak)
        if whole:
            backend.add_up(state.total, part)
        if one is not None and not one.overflowed:
            one.add(state, *backend.find_survivors(V, gap.wanted, state.hi, state.lo))


def _values(block: Block, got: Captured, engine: Engine) -> Iterator[Any]:
    """The stretches' columns of a batch, where the folds want them."""
    for stretch, V in zip(block, got.V, strict=True):
        yield stretch.of(engine.backend.place(V))


def _sweep(
    read: Read,
    block: Block,
    question: Question,
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


def taps_of(block: Block) -> tuple[Tap, ...]:
    """The taps that a block looks at, in its order."""
    return tuple(stretch.tap for stretch in block)


def _finish(sweep: Sweep, read: Read, question: Question, engine: Engine) -> None:
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
        sweep.states = [engine.backend.take_state(state) for state in sweep.states]
        _count_again(read, sweep.block, wrong, question, engine, sweep.states)


def _count_again(read: Read, block: Block, wrong: np.ndarray, question: Question, engine: Engine, states):
    """The second sweep, over the wrong target samples alone."""
    for got in read("count", taps_of(block), wrong):
        wanted = reciprocal_gaps(got.Z, got.labels, question.targets, question.theta).wanted
        wanted = engine.backend.place_wanted(wanted)
        for s, V in zip(states, _values(block, got, engine), strict=True):
            if question.theta == "thesis":
                np.abs(V, out=V)
            engine.backend.fold_wanted(V, wanted, s.hi, s.lo, s.count_hi, s.count_lo, s.last_hi, s.last_lo)


def merge(sweep: Sweep, shard: Sweep, pool: ThreadPoolExecutor | None = None) -> None:
    """A shard that another process folded, taken into a sweep in NumPy. Shards must come in order.

    pool : threads to do it with. Nothing of the shard is kept: its memory may be another's.
    """
    for k, (state, other) in enumerate(zip(sweep.states, shard.states, strict=True)):
        combine(state, other, pool)
        if sweep.kept[k] is not None and shard.kept[k] is not None:
            sweep.kept[k].absorb(state, shard.kept[k])
        else:  # a worker on a GPU does not find them
            sweep.kept[k] = None
    count = len(shard.predicted)
    sweep.predicted[sweep.at : sweep.at + count] = shard.predicted
    sweep.at += count
    for own, more in zip(sweep.gaps, shard.gaps, strict=True):
        own.extend(values.copy() for values in more)


def to_send(sweep: Sweep) -> Sweep:
    """What another process needs of a shard: limits and sums, for nothing is counted yet."""
    return replace(sweep, states=[without_counts(state) for state in sweep.states], parts=[])


def on_host(sweep: Sweep, engine: Engine) -> Sweep:
    """The same with states in NumPy."""
    return replace(sweep, states=[engine.backend.host_state(state) for state in sweep.states])


def _membership(labels: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Position of each label among the targets, -1 for none. (b,) int64."""
    where = np.full(int(max(labels.max(initial=0), targets.max(initial=0))) + 1, -1, np.int64)
    where[targets] = np.arange(len(targets))
    return where[labels]
