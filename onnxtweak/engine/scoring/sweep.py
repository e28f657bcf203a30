"""How is theta folded over samples? A sweep is the state of one pass, batch by batch, shard by shard."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from onnxtweak.engine.machine.memory_plan import Block, survivor_room
from onnxtweak.engine.passes import Captured, Engine
from onnxtweak.head import ONE_LABEL, Head
from onnxtweak.theta.gaps import Gaps, reciprocal_gaps
from onnxtweak.theta.state import ThetaState, combine, without_counts
from onnxtweak.theta.survivors import Survivors
from onnxtweak.types import Tap


class Read(Protocol):
    """Where captured batches come from: a model, a dump, or a table."""

    def __call__(self, what: str, taps: Sequence[Tap], chosen: np.ndarray | None, /) -> Generator[Captured]:
        """One pass over the samples that yields the values of `taps`, one V per tap.

        what : the pass's name. chosen : positions of samples, ascending int64; None: all of them.
        """


class Reopen(Protocol):
    """How a worker opens the same samples again; picklable. files : that it will read."""

    @property
    def files(self) -> tuple[Path, ...]: ...

    def __call__(self, engine: Engine) -> Read:
        """These samples, read with the worker's engine."""


@dataclass(frozen=True)
class ScoringTask:
    """What to score, apart from the taps.

    labels (N,) int64, or (N, C) marks; targets (c,) int64; theta : "signed" or "thesis". cache_key : digest
    of everything that the scores depend on; None: they are not kept in the work directory. head : how logits
    become decisions. ends (s,) int64 : where shards end, as of `shard_ends`; None: as those of samples do.
    """

    labels: np.ndarray
    targets: np.ndarray
    theta: str
    cache_key: str | None = None
    head: Head = ONE_LABEL
    ends: np.ndarray | None = None

    def shard_ends(self, size: int) -> np.ndarray:
        """Where shards end. size : of one."""
        if self.ends is not None:
            return self.ends
        return np.minimum(np.arange(size, len(self.labels) + size, size), len(self.labels))

    @property
    def together(self) -> list[slice]:
        """Targets that are folded together: all, as a sample is of one at most; labels one by one."""
        count = len(self.targets)
        return [slice(j, j + 1) for j in range(count)] if self.head.several else [slice(0, count)]

    def gaps(self, got: Captured) -> Gaps:
        """Of a batch."""
        return reciprocal_gaps(got.Z, got.labels, self.targets, self.theta, self.head)


@dataclass
class Sweep:
    """The state of a pass over the samples, for one block of neurons; changed in place.

    states : per slice of the block, with `total` up to the last whole shard; none where others have them.
    parts : per slice, this shard's sums (c, m) float64. survivors : per slice; None where the back end does
    not find them. predicted (N,) int64, or (N, C) marks. gaps : per target, |g| of its samples so far. at :
    samples done.
    """

    block: Block
    states: list[ThetaState]
    parts: list[Any]
    survivors: list[Survivors | None]
    predicted: np.ndarray
    gaps: list[list[np.ndarray]]
    at: int = 0


def new_sweep(block: Block, task: ScoringTask, engine: Engine) -> Sweep:
    """A sweep that has seen no sample yet."""
    states = [engine.backend.new_state(len(part), len(task.targets)) for part in block]
    finds = engine.backend.find_survivors is not None
    room = survivor_room(block, engine.settings, engine.reserved_bytes)
    return Sweep(
        block=block,
        states=states,
        parts=[state.total.copy() for state in states],
        survivors=[Survivors(most) if finds else None for most in room],
        predicted=np.empty(task.labels.shape, np.int64),
        gaps=[[] for _ in task.targets],
    )


def fold(sweep: Sweep, got: Captured, task: ScoringTask, engine: Engine) -> None:
    """Fold in one batch, which must not reach across the end of a shard."""
    backend, gap = engine.backend, task.gaps(got)
    sweep.predicted[sweep.at : sweep.at + len(got.labels)] = gap.predicted
    sweep.at += len(got.labels)
    for j in range(len(task.targets)):
        sweep.gaps[j].append(np.abs(gap.gap[gap.own[:, j], j]))
    whole = sweep.at in task.shard_ends(engine.settings.shard)
    parts = [
        (
            rows,
            backend.place_limit(of_targets(gap.limit, rows)),
            backend.place_member(*_member(gap.own[:, rows])),
        )
        for rows in task.together
    ]
    values, find = values_of(sweep.block, got, engine), backend.find_survivors
    for state, part, survivors, V in zip(sweep.states, sweep.parts, sweep.survivors, values, strict=True):
        if task.theta == "thesis":
            np.abs(V, out=V)
        for rows, limit, own in parts:
            sums = part[rows], state.peak[rows]
            backend.fold_samples(V, limit, own, state.hi[rows], state.lo[rows], state.bad, *sums)
        if whole:
            backend.add_up(state.total, part)
        if find is not None and survivors is not None and not survivors.overflowed:
            for rows in task.together:
                target, *found = find(V, of_targets(gap.wanted, rows), state.hi[rows], state.lo[rows])
                survivors.add(state, target + np.int32(rows.start), *found)


def of_targets(values: np.ndarray, targets: slice) -> np.ndarray:
    """Their columns of values (b, c), contiguous."""
    return np.ascontiguousarray(values[:, targets])


def _member(own: np.ndarray) -> tuple[np.ndarray, int]:
    """The target (b,) int64 that each sample is of, -1 for none; and of how many. own (b, c) bool."""
    return np.where(own.any(axis=1), own.argmax(axis=1), -1), own.shape[1]


def values_of(block: Block, got: Captured, engine: Engine) -> Iterator[Any]:
    """A batch's values per slice of the block (b, m), where the folds want them."""
    for part, V in zip(block, got.V, strict=True):
        yield part.of(engine.backend.place(V))


def taps_of(block: Block) -> tuple[Tap, ...]:
    """The taps of a block, in its order."""
    return tuple(part.tap for part in block)


def merge(sweep: Sweep, shard: Sweep, pool: ThreadPoolExecutor | None = None) -> None:
    """Merge a shard that another process folded into a sweep in NumPy. Shards must come in order.

    pool : threads that share the work. No array of the shard is kept: its memory may belong to another
    process.
    """
    for k, (state, other) in enumerate(zip(sweep.states, shard.states, strict=True)):
        combine(state, other, pool)
        own, found = sweep.survivors[k], shard.survivors[k]
        if own is not None and found is not None:
            own.absorb(state, found)
        else:  # a worker on a GPU does not find them
            sweep.survivors[k] = None
    count = len(shard.predicted)
    sweep.predicted[sweep.at : sweep.at + count] = shard.predicted
    sweep.at += count
    for gaps, more in zip(sweep.gaps, shard.gaps, strict=True):
        gaps.extend(values.copy() for values in more)


def to_send(sweep: Sweep) -> Sweep:
    """What another process needs of a shard: limits, sums and survivors, because nothing is counted yet."""
    return replace(sweep, states=[without_counts(state) for state in sweep.states], parts=[])


def on_host(sweep: Sweep, engine: Engine) -> Sweep:
    """The same sweep with its states in NumPy."""
    return replace(sweep, states=[engine.backend.host_state(state) for state in sweep.states])
