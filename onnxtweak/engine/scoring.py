"""Theta over samples: the longest pass, cut into shards, and kept where it can be taken up again.

The samples are cut into shards of fixed size, in order. Limits are maxima and need no order; sums are added
up shard by shard, whoever computed them: one process, a run that was killed and resumed, or many workers.
That is why all of these give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from onnxtweak.data.splits import View
from onnxtweak.engine.checkpoint import Checkpoint
from onnxtweak.engine.gpu import gpu_numbers
from onnxtweak.engine.passes import Captured, Engine, capture
from onnxtweak.engine.plan import group_taps, survivor_room
from onnxtweak.engine.subject import Subject
from onnxtweak.theta.gaps import reciprocal_gaps
from onnxtweak.theta.state import ThetaState, combine
from onnxtweak.theta.survivors import Survivors
from onnxtweak.types import Tap


@dataclass(frozen=True)
class ThetaPass:
    """Theta's state after all samples: one state per tap. predicted (N,) int64 : by the base."""

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
    """The state of a pass over the samples, for one group of taps; changed in place.

    states : per tap, their `total` up to the last whole shard. parts : per tap, this shard's sums (c, M).
    kept : per tap, what may still count; None where the back end does not find it. predicted (N,) int64.
    gaps : per target, |g| of its samples so far. at : samples done.
    """

    states: list[ThetaState]
    parts: list[Any]
    kept: list[Survivors | None]
    predicted: np.ndarray
    gaps: list[list[np.ndarray]]
    at: int = 0


def from_model(subject: Subject, view: View, engine: Engine) -> Read:
    """Batches by running the model over a view. Chosen samples are given by their position in the view."""
    return lambda what, taps, chosen: capture(
        subject,
        view,
        engine,
        what,
        taps,
        rows=None if chosen is None else view.rows[chosen],
        for_theta=True,
        every=engine.settings.shard,
    )


def theta_pass(
    read: Read,
    taps: Sequence[Tap],
    labels: np.ndarray,
    targets: np.ndarray,
    theta: str,
    engine: Engine,
    *,
    asked: str | None = None,
    reopen: Reopen | None = None,
) -> ThetaPass:
    """Theta of every neuron: limits over all samples, counts over the wrong target samples.

    One sweep where what may count fits into memory, else a second one over the wrong target samples alone.

    labels (N,) int64; targets (c,) int64. theta : "signed" or "thesis". asked : digest of everything the
    answer depends on; with it, and a `work_dir`, the pass can be resumed. reopen : how workers open the
    samples; with it, and `workers` or a `scheduler`, they share the pass.
    """
    question = Question(labels, np.asarray(targets, np.int64), theta)
    states: list[ThetaState] = []
    predicted = np.empty(0, np.int64)
    for number, group in enumerate(group_taps(taps, len(targets), engine.settings)):
        settings = engine.settings
        several = settings.workers or settings.scheduler or len(gpu_numbers(settings.device)) > 1
        if reopen is not None and several:
            from onnxtweak.engine.spread import spread_sweep

            sweep = spread_sweep(reopen, group, question, engine)
        else:
            sweep = _sweep(read, group, question, engine, Checkpoint.at(engine.settings, asked, number))
        _finish(sweep, read, group, question, engine)
        states.extend(engine.backend.host_state(state) for state in sweep.states)
        predicted = sweep.predicted
    return ThetaPass(tuple(states), predicted)


def new_sweep(taps: Sequence[Tap], question: Question, engine: Engine) -> Sweep:
    """Nothing done yet."""
    states = [engine.backend.new_state(tap.neurons, len(question.targets)) for tap in taps]
    rooms = survivor_room(taps, engine.settings)
    finds = engine.backend.find_survivors is not None
    return Sweep(
        states=states,
        parts=[state.total.copy() for state in states],
        kept=[Survivors(most) if finds else None for most in rooms],
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
    values = map(backend.place, got.V)
    for state, part, one, V in zip(sweep.states, sweep.parts, sweep.kept, values, strict=True):
        if question.theta == "thesis":
            np.abs(V, out=V)
        backend.fold_limits(V, limit, state.hi, state.lo, state.bad)
        backend.fold_sums(V, own, part, state.peak)
        if whole:
            backend.add_up(state.total, part)
        if one is not None and not one.overflowed:
            one.add(state, *backend.find_survivors(V, gap.wanted, state.hi, state.lo))


def _sweep(
    read: Read, taps: Sequence[Tap], question: Question, engine: Engine, checkpoint: Checkpoint | None
) -> Sweep:
    """All samples in this process, from where the checkpoint is."""
    sweep = new_sweep(taps, question, engine)
    if checkpoint is not None:
        checkpoint.load(sweep)
    total = len(question.labels)
    chosen = None if sweep.at == 0 else np.arange(sweep.at, total)
    if sweep.at < total:
        for got in read("score", taps, chosen):
            fold(sweep, got, question, engine)
            if checkpoint is not None and sweep.at % engine.settings.shard == 0:
                checkpoint.save(sweep, engine.backend.host_state)
    return sweep


def _finish(sweep: Sweep, read: Read, taps: Sequence[Tap], question: Question, engine: Engine) -> None:
    """Counts, and what is known only when all samples were seen."""
    for j, parts in enumerate(sweep.gaps):
        values = np.concatenate(parts)
        for state in sweep.states:
            state.seen[j] = len(values)
            state.gap[j] = float(np.median(values)) if len(values) else 0.0
    if all(one is not None and not one.overflowed for one in sweep.kept):
        for one, state in zip(sweep.kept, sweep.states, strict=True):
            one.count(state)
        return
    labels = question.labels
    wrong = np.flatnonzero((sweep.predicted != labels) & np.isin(labels, question.targets))
    if len(wrong):
        sweep.states = [engine.backend.take_state(state) for state in sweep.states]
        _count_again(read, taps, wrong, question, engine, sweep.states)


def _count_again(read, taps, wrong, question: Question, engine: Engine, states) -> None:
    """The second sweep, over the wrong target samples alone."""
    for got in read("count", taps, wrong):
        wanted = reciprocal_gaps(got.Z, got.labels, question.targets, question.theta).wanted
        wanted = engine.backend.place_wanted(wanted)
        for s, V in zip(states, map(engine.backend.place, got.V), strict=True):
            if question.theta == "thesis":
                np.abs(V, out=V)
            engine.backend.fold_wanted(V, wanted, s.hi, s.lo, s.count_hi, s.count_lo, s.last_hi, s.last_lo)


def merge(sweep: Sweep, shard: Sweep) -> None:
    """A shard that another process folded, taken into a sweep in NumPy. Shards must come in order."""
    for k, (state, other) in enumerate(zip(sweep.states, shard.states, strict=True)):
        combine(state, other)
        if sweep.kept[k] is not None and shard.kept[k] is not None:
            sweep.kept[k].absorb(state, shard.kept[k])
        else:  # a worker on a GPU does not find them
            sweep.kept[k] = None
    count = len(shard.predicted)
    sweep.predicted[sweep.at : sweep.at + count] = shard.predicted
    sweep.at += count
    for own, more in zip(sweep.gaps, shard.gaps, strict=True):
        own.extend(more)


def on_host(sweep: Sweep, engine: Engine) -> Sweep:
    """The same with states in NumPy, to be sent or saved."""
    return replace(sweep, states=[engine.backend.host_state(state) for state in sweep.states], parts=[])


def _membership(labels: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Position of each label among the targets, -1 for none. (b,) int64."""
    where = np.full(int(max(labels.max(initial=0), targets.max(initial=0))) + 1, -1, np.int64)
    where[targets] = np.arange(len(targets))
    return where[labels]
