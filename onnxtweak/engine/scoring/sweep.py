"""How is theta folded over samples? The state of one pass, batch by batch, shard by shard."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from onnxtweak.engine.passes import Captured, Engine
from onnxtweak.engine.plan import Block, survivor_room
from onnxtweak.theta.gaps import reciprocal_gaps
from onnxtweak.theta.state import ThetaState, combine, without_counts
from onnxtweak.theta.survivors import Survivors
from onnxtweak.types import Tap

# Captured batches of some taps, over all samples or over chosen ones: from a model, a dump, or a table.
Read = Callable[[str, Sequence[Tap], "np.ndarray | None"], Iterator[Captured]]


class Reopen(Protocol):
    """How a worker opens the same samples again; must be picklable and comparable."""

    def __call__(self, engine: Engine) -> Read: ...


@dataclass(frozen=True)
class ScoringTask:
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


def new_sweep(block: Block, question: ScoringTask, engine: Engine) -> Sweep:
    """Nothing done yet."""
    states = [engine.backend.new_state(len(stretch), len(question.targets)) for stretch in block]
    finds = engine.backend.find_survivors is not None
    room = survivor_room(block, engine.settings, engine.reserved_bytes)
    return Sweep(
        block=block,
        states=states,
        parts=[state.total.copy() for state in states],
        kept=[Survivors(most) if finds else None for most in room],
        predicted=np.empty(len(question.labels), np.int64),
        gaps=[[] for _ in question.targets],
    )


def fold(sweep: Sweep, got: Captured, question: ScoringTask, engine: Engine) -> None:
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
    values = values_of(sweep.block, got, engine)
    for state, part, one, V in zip(sweep.states, sweep.parts, sweep.kept, values, strict=True):
        if question.theta == "thesis":
            np.abs(V, out=V)
        backend.fold_limits(V, limit, state.hi, state.lo, state.bad)
        backend.fold_sums(V, own, part, state.peak)
        if whole:
            backend.add_up(state.total, part)
        if one is not None and not one.overflowed:
            one.add(state, *backend.find_survivors(V, gap.wanted, state.hi, state.lo))


def values_of(block: Block, got: Captured, engine: Engine) -> Iterator[Any]:
    """The stretches' columns of a batch, where the folds want them."""
    for stretch, V in zip(block, got.V, strict=True):
        yield stretch.of(engine.backend.place(V))


def taps_of(block: Block) -> tuple[Tap, ...]:
    """The taps that a block looks at, in its order."""
    return tuple(stretch.tap for stretch in block)


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
