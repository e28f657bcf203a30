"""One pass over the samples: batches in, folded state out. V itself is never kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from onnxtweak.data.splits import View
from onnxtweak.engine.backends import Backend, host_buffer
from onnxtweak.engine.plan import Plan, group_taps, plan_batches, survivor_room
from onnxtweak.engine.session import open_session
from onnxtweak.engine.subject import Subject
from onnxtweak.settings import EngineSettings
from onnxtweak.theta.gaps import reciprocal_gaps
from onnxtweak.theta.state import ThetaState
from onnxtweak.theta.survivors import Survivors
from onnxtweak.types import Neurons, Progress, Tap


@dataclass
class Ledger:
    """What the passes of one command did and took, in order; filled as they run.

    passes : (name, samples). seconds : wall time by pass. providers : nodes per execution provider, of the
    last session. device : "cpu" or "cuda:i".
    """

    passes: list[tuple[str, int]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    providers: dict[str, int] = field(default_factory=dict)
    device: str = "cpu"


@dataclass(frozen=True)
class Engine:
    """What every pass needs beside its subject."""

    settings: EngineSettings
    backend: Backend
    progress: Progress
    ledger: Ledger


@dataclass(frozen=True)
class Captured:
    """One fold's worth of samples. The arrays are reused by the next one.

    Z (b, C); V : one (b, m) float32 array per tap; labels (b,) int64; rows (b,) int64 in the data set.
    """

    Z: np.ndarray
    V: tuple[np.ndarray, ...]
    labels: np.ndarray
    rows: np.ndarray


def capture(
    subject: Subject,
    view: View,
    engine: Engine,
    what: str,
    taps: Sequence[Tap] = (),
    neurons: Neurons | None = None,
    rows: np.ndarray | None = None,
    for_theta: bool = False,
) -> Iterator[Captured]:
    """Run the model over a view (or over `rows` of its data set) and yield logits and hidden values.

    With `taps` V holds one array per tap; with `neurons` one array (b, K) of their values in order.
    for_theta : V may be where the back end's folds want it, on a GPU, and not in NumPy.
    """
    exposed = subject.exposed(taps, neurons)
    session = open_session(exposed.proto, subject.model.folder, engine.settings, subject.model.path)
    widths = [len(neurons)] * len(exposed.outputs) if neurons is not None else [t.neurons for t in taps]
    # A pooled or gathered output is (b, m); a tap comes in its own shape and is looked at as (b, m).
    shapes = [(w,) for w in widths] if neurons is not None else [_output_shape(tap) for tap in taps]
    plan = plan_batches(
        sum(widths) + subject.classes,
        subject.largest,
        subject.batch,
        engine.settings,
        model_on_gpu=session.device != "cpu",
        gpu_fold=engine.backend.gpu_fold if for_theta else None,
    )
    Z = np.empty((plan.rows, subject.classes), np.float64 if subject.dtype == "float64" else np.float32)
    empty = engine.backend.buffer if for_theta else host_buffer
    V = [empty((plan.rows, width), session.device) for width in widths]
    rows = view.rows if rows is None else rows
    engine.ledger.device, engine.ledger.providers = session.device, session.providers()
    begin = time.perf_counter()
    engine.progress.start(what, len(rows))
    for feeds, labels, numbers in view.dataset.batches(rows, plan.rows):
        feeds = {port.name: feeds[port.name] for port in session.inputs}
        for start in range(0, len(labels), plan.batch):
            part = {
                name: _whole_batch(value[start : start + plan.batch], plan) for name, value in feeds.items()
            }
            stop = start + len(next(iter(part.values())))
            targets = {exposed.logits: Z[start:stop].reshape(-1, *subject.shape)}
            for name, array, shape in zip(exposed.outputs, V, shapes, strict=True):
                targets[name] = array[start:stop].reshape(-1, *shape)
            session.run_into(part, targets)
        count = len(labels)
        yield Captured(Z[:count], tuple(array[:count] for array in V), labels, numbers)
        engine.backend.wait()
        engine.progress.advance(count)
    engine.progress.finish()
    engine.ledger.passes.append((what, len(rows)))
    engine.ledger.seconds[what] = engine.ledger.seconds.get(what, 0.0) + time.perf_counter() - begin


def _output_shape(tap: Tap) -> tuple[int, ...]:
    return (tap.neurons,) if tap.pool != "none" else tap.shape


def _whole_batch(value: np.ndarray, plan: Plan) -> np.ndarray:
    """A batch the model takes: for a fixed batch size, the last sample is repeated to fill it."""
    lack = plan.batch - len(value)
    if not plan.fixed or lack == 0:
        return np.ascontiguousarray(value)
    return np.concatenate([value, np.repeat(value[-1:], lack, axis=0)])


def logits_pass(subject: Subject, view: View, engine: Engine, what: str) -> np.ndarray:
    """Plain inference: Z (N, C) of a view."""
    Z = np.empty((len(view.rows), subject.classes), np.float64 if subject.dtype == "float64" else np.float32)
    at = 0
    for got in capture(subject, view, engine, what):
        Z[at : at + len(got.Z)] = got.Z
        at += len(got.Z)
    return Z


@dataclass(frozen=True)
class ThetaPass:
    """Theta's state after both sweeps: one state per tap. predicted (N,) int64 : by the base."""

    states: tuple[ThetaState, ...]
    predicted: np.ndarray


# Captured batches of some taps, over all samples or over chosen ones: from a model, or from a dump.
Read = Callable[[str, Sequence[Tap], "np.ndarray | None"], Iterator[Captured]]


def from_model(subject: Subject, view: View, engine: Engine) -> Read:
    """Batches by running the model over a view. Chosen samples are given by their position in the view."""
    return lambda what, taps, chosen: capture(
        subject, view, engine, what, taps, rows=None if chosen is None else view.rows[chosen], for_theta=True
    )


def theta_pass(
    read: Read, taps: Sequence[Tap], labels: np.ndarray, targets: np.ndarray, theta: str, engine: Engine
) -> ThetaPass:
    """Theta of every neuron over the fit samples: limits over all of them, counts over wrong target samples.

    One sweep where what may count fits into memory, else a second one over the wrong target samples alone.

    labels (N,) int64; targets (c,) int64. theta : "signed" or "thesis".
    """
    states: list[ThetaState] = []
    for group in group_taps(taps, len(targets), engine.settings):
        found, kept, predicted = _limits(read, group, labels, targets, theta, engine)
        if any(one is None or one.overflowed for one in kept):
            wrong = np.flatnonzero((predicted != labels) & np.isin(labels, targets))
            if len(wrong):
                _counts(read, group, wrong, targets, theta, engine, found)
        else:
            for one, state in zip(kept, found, strict=True):
                one.count(state)
        states.extend(engine.backend.host_state(state) for state in found)
    return ThetaPass(tuple(states), predicted)


def _limits(
    read, taps, labels, targets, theta, engine
) -> tuple[list[ThetaState], list[Survivors | None], np.ndarray]:
    """The sweep over all samples: limits, sums, and, where the back end finds them, what may count."""
    backend, at = engine.backend, 0
    states = [backend.new_state(tap.neurons, len(targets)) for tap in taps]
    kept = [
        None if backend.find_survivors is None else Survivors(most)
        for most in survivor_room(taps, engine.settings)
    ]
    predicted = np.empty(len(labels), np.int64)
    gaps: list[list[np.ndarray]] = [[] for _ in targets]
    for got in read("score", taps, None):
        gap = reciprocal_gaps(got.Z, got.labels, targets, theta)
        predicted[at : at + len(got.labels)] = gap.predicted
        at += len(got.labels)
        member = _membership(got.labels, targets)
        for j in range(len(targets)):
            gaps[j].append(np.abs(gap.gap[member == j, j]))
        for state, one, V in zip(states, kept, map(backend.place, got.V), strict=True):
            if theta == "thesis":
                np.abs(V, out=V)
            backend.fold_limits(V, gap.limit, state.hi, state.lo, state.bad)
            backend.fold_sums(V, member, state.total, state.peak)
            if one is not None and not one.overflowed:
                one.add(state, *backend.find_survivors(V, gap.wanted, state.hi, state.lo))
    for j, parts in enumerate(gaps):
        values = np.concatenate(parts)
        for state in states:
            state.seen[j] = len(values)
            state.gap[j] = float(np.median(values)) if len(values) else 0.0
    return states, kept, predicted


def _counts(read, taps, wrong, targets, theta, engine, states) -> None:
    """The second sweep, over the wrong target samples alone."""
    for got in read("count", taps, wrong):
        wanted = reciprocal_gaps(got.Z, got.labels, targets, theta).wanted
        for s, V in zip(states, map(engine.backend.place, got.V), strict=True):
            if theta == "thesis":
                np.abs(V, out=V)
            engine.backend.fold_wanted(V, wanted, s.hi, s.lo, s.count_hi, s.count_lo, s.last_hi, s.last_lo)


def _membership(labels: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Position of each label among the targets, -1 for none. (b,) int64."""
    where = np.full(int(max(labels.max(initial=0), targets.max(initial=0))) + 1, -1, np.int64)
    where[targets] = np.arange(len(targets))
    return where[labels]
