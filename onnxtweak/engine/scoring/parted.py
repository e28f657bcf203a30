"""How is a sweep cut into ranges of neurons, merged range by range, and put together again?

What is handed to a function here is never changed: Dask may make a call again, with the same arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from onnxtweak.engine.machine.memory_plan import Block
from onnxtweak.engine.scoring.finish import TargetGaps, count_survivors
from onnxtweak.engine.scoring.sweep import Sweep, merge
from onnxtweak.theta.backend import Found
from onnxtweak.theta.state import (
    ThetaState,
    add_counts,
    copied,
    counts_alone,
    limits_alone,
    state_slice,
    without_counts,
)
from onnxtweak.theta.survivors import Survivors

_NO_SAMPLES = np.empty(0, np.int64)


def cut(sweep: Sweep, ranges: Sequence[Block]) -> list[Sweep]:
    """The states and survivors of each range; their arrays are views of the sweep's."""
    found = [None if one is None or one.overflowed else _by_neuron(one) for one in sweep.survivors]
    parts = []
    for block in ranges:
        states: list[ThetaState] = []
        survivors: list[Survivors | None] = []
        for part in block:
            k = max(j for j, whole in enumerate(sweep.block) if whole.number <= part.number)
            first = part.number - sweep.block[k].number
            states.append(state_slice(sweep.states[k], first, first + len(part)))
            whole = sweep.survivors[k] if sweep.survivors else None
            one = None
            if whole is not None:
                one = Survivors(whole.most * len(part) // len(sweep.block[k]))
                one.restore(*_between(found[k], first, first + len(part)), whole.overflowed)
            survivors.append(one)
        parts.append(Sweep(block, states, [], survivors, _NO_SAMPLES, []))
    return parts


def _by_neuron(survivors: Survivors) -> Found:
    target, neuron, ratio = survivors.all()
    order = np.argsort(neuron, kind="stable")
    return target[order], neuron[order], ratio[order]


def _between(found: Found | None, first: int, last: int) -> Found:
    """Those of neurons [first, last), which are counted from `first` on. found : in the order of neurons."""
    if found is None:
        return np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32)
    target, neuron, ratio = found
    span = slice(*np.searchsorted(neuron, (first, last)))
    return target[span], (neuron[span] - first).astype(np.int32), ratio[span]


def merge_parts(before: Sweep | None, parts: Sequence[Sweep], threads: int = 1) -> Sweep:
    """A range of some shards, in their order, after what was merged of the shards before."""
    first, *others = [*([] if before is None else [before]), *parts]
    survivors = [None if one is None else Survivors(one.most) for one in first.survivors]
    made = replace(first, states=[copied(state) for state in first.states], survivors=survivors)
    for own, found, state in zip(survivors, first.survivors, made.states, strict=True):
        if own is not None and found is not None:
            own.absorb(state, found)
    with ThreadPoolExecutor(threads) as pool:
        for part in others:
            merge(made, part, pool)
    return made


def joined(parts: Sequence[Sweep], block: Block) -> Sweep:
    """The ranges of a block, in order, as one sweep of it."""
    pieces: list[list[tuple[Sweep, int]]] = [[] for _ in block]
    for sweep in parts:
        for j, part in enumerate(sweep.block):
            k = max(k for k, whole in enumerate(block) if whole.number <= part.number)
            pieces[k].append((sweep, j))
    states = [_end_to_end([sweep.states[j] for sweep, j in each]) for each in pieces]
    survivors = [
        _all_survivors([sweep.survivors[j] for sweep, j in each], [len(s.states[j].bad) for s, j in each])
        for each in pieces
        if parts[0].survivors
    ]
    return Sweep(block, states, [], survivors, _NO_SAMPLES, [])


def _end_to_end(states: Sequence[ThetaState]) -> ThetaState:
    shared = {"seen": states[0].seen, "gap": states[0].gap}
    arrays = {
        name: np.concatenate([getattr(state, name) for state in states], axis=-1)
        for name in vars(states[0])
        if name not in shared
    }
    return ThetaState(**arrays, **shared)


def _all_survivors(some: Sequence[Survivors | None], neurons: Sequence[int]) -> Survivors | None:
    """Survivors of consecutive ranges of so many neurons each."""
    known = [one for one in some if one is not None]
    if len(known) < len(some):
        return None
    found = [one.all() for one in known]
    starts = np.cumsum([0, *neurons[:-1]])
    made = Survivors(sum(one.most for one in known))
    made.restore(
        np.concatenate([target for target, _, _ in found]),
        np.concatenate([n + np.int32(at) for (_, n, _), at in zip(found, starts, strict=True)]),
        np.concatenate([ratio for _, _, ratio in found]),
        any(one.overflowed for one in known),
    )
    return made


@dataclass(frozen=True)
class CountedPart:
    """A range whose limits are finished. done : whether it is counted, too; else all counts are zero."""

    sweep: Sweep
    done: bool


def count_part(merged: Sweep, of: TargetGaps) -> CountedPart:
    """Count the survivors of a range, if they were all kept."""
    sweep = replace(merged)
    done = count_survivors(sweep, of)
    return CountedPart(sweep, done)


def limits_of(part: CountedPart) -> Sweep:
    """The limits of a range, within which others count."""
    states = [without_counts(limits_alone(state)) for state in part.sweep.states]
    return replace(part.sweep, states=states)


def add_counted(before: CountedPart, parts: Sequence[Sweep]) -> CountedPart:
    """A range with what was counted of it in some shards."""
    states = list(before.sweep.states)
    for part in parts:
        states = [add_counts(state, other) for state, other in zip(states, part.states, strict=True)]
    return CountedPart(replace(before.sweep, states=states), done=True)


def counts_of(sweep: Sweep, ranges: Sequence[Block]) -> list[Sweep]:
    """What a shard counted, range by range, without the limits."""
    return cut(replace(sweep, states=[counts_alone(state) for state in sweep.states], survivors=[]), ranges)
