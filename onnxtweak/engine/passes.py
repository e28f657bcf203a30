"""What does one pass over the samples yield? Logits and hidden values, batch by batch, never all of V."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from onnxtweak.data.splits import View
from onnxtweak.engine.machine.gpu import gpu_count
from onnxtweak.engine.machine.memory_plan import BatchPlan, PassContext, memory_limits_batch, plan_batches
from onnxtweak.engine.machine.prefetch import prefetch
from onnxtweak.engine.position_batches import position_batches
from onnxtweak.engine.session import Session, session_of
from onnxtweak.engine.subject import Subject, filled
from onnxtweak.engine.workers.learning_device import LearningDevice
from onnxtweak.engine.workers.processes import Crew
from onnxtweak.model.edit.positions.read_nodes import ROWS
from onnxtweak.settings import EngineSettings
from onnxtweak.theta.backend import Backend, host_buffer
from onnxtweak.types import Neurons, Progress, Tap, silent


@dataclass
class RunStats:
    """What the passes of one command did, in order, and how long they took; filled as they run.

    passes : (name, samples). seconds : wall time by name. providers : nodes per execution provider in the
    last session. device : "cpu" or "cuda:i", of the last session. learnt : the devices on which
    learners computed.
    """

    passes: list[tuple[str, int]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    providers: dict[str, int] = field(default_factory=dict)
    device: str = "cpu"
    learnt: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Engine:
    """What every pass needs besides its subject.

    reserved_bytes : memory for the model and samples. crew : workers that passes may be shared among.
    prepared : what else a pass depends on: how samples are prepared, the device, this version, and the batch
    size that was asked for, as another may be computed in another order, with other last digits (a digest);
    and what `known_by_memory` adds.
    """

    settings: EngineSettings
    backend: Backend
    progress: Progress
    stats: RunStats
    reserved_bytes: int = 0
    crew: Crew | None = None
    prepared: str = ""

    @property
    def learning_device(self) -> LearningDevice:
        """Where learners compute."""
        backend = self.backend
        room, used = backend.gpu_learning_bytes, self.stats.learnt
        return LearningDevice(backend.xp, room, backend.where, crew=self.crew, used=used)

    @property
    def unrecorded(self) -> Engine:
        """The engine without progress, with statistics of its own; nothing is kept in the work directory."""
        return replace(
            self, settings=replace(self.settings, work_dir=None), progress=silent, stats=RunStats()
        )

    @contextmanager
    def passing(self, what: str, samples: int, session: Session, begin: float) -> Iterator[None]:
        """Report a pass that is made inside to the progress and to the statistics.

        begin : when its time began, by `time.perf_counter`. A pass that is left early is not counted.
        """
        self.stats.device, self.stats.providers = session.device, session.providers()
        self.progress.start(what, samples)
        yield
        self.progress.finish()
        self.stats.passes.append((what, samples))
        self.stats.seconds[what] = self.stats.seconds.get(what, 0.0) + time.perf_counter() - begin


@dataclass(frozen=True)
class Captured:
    """The samples of one fold. The next one reuses the arrays.

    Z (b, C); V : one (b, m) float32 array per tap; labels (b,) int64; rows (b,) int64 in the data set.
    """

    Z: np.ndarray
    V: tuple[np.ndarray, ...]
    labels: np.ndarray
    rows: np.ndarray


@dataclass(frozen=True)
class Folding:
    """How a pass hands out its samples.

    for_theta : hidden values may be where the back end's folds want them, on a GPU, instead of in NumPy.
    every : see `Dataset.batches`. other_values : see `PassContext`. samples : to plan the folds for; None:
    those of the view.
    """

    for_theta: bool = False
    every: int | None = None
    other_values: int = 0
    samples: int | None = None


def capture(
    subject: Subject,
    view: View,
    engine: Engine,
    what: str,
    taps: Sequence[Tap] = (),
    neurons: Neurons | None = None,
    folding: Folding = Folding(),
) -> Generator[Captured]:
    """Run the model over a view and yield logits and hidden values.

    With `taps` V holds one array per tap; with `neurons` one array (b, K) of their values in order. what :
    the pass's name in the progress and in the statistics.

    Raises ModelError where the model does not load, DataError where it rejects a sample.
    """
    if subject.sizes:
        yield from _capture_positions(subject, view, engine, what, taps, neurons, folding.every)
        return
    session, logits, outputs, _ = _open_exposed(subject, view, engine, taps, neurons)
    widths = [len(neurons)] * len(outputs) if neurons is not None else [t.neurons for t in taps]
    # A pooled or gathered output is (b, m); any other tap comes in its own shape and is viewed as (b, m).
    shapes = [(w,) for w in widths] if neurons is not None else [_output_shape(tap) for tap in taps]
    rows, every, device = view.rows, folding.every, session.device
    plan = plan_of(subject, engine, sum(widths), len(rows), device, folding)
    Z = np.empty((plan.rows, subject.classes), np.float64 if subject.dtype == "float64" else np.float32)
    empty = engine.backend.buffer if folding.for_theta else host_buffer
    V = [empty((plan.rows, width), device) for width in widths]
    begin = time.perf_counter()
    on_gpu, names = device != "cpu", [port.name for port in session.inputs]
    size = plan.batch if on_gpu else plan.rows
    with engine.passing(what, len(rows), session, begin):
        batches = view.dataset.batches(rows, size, every, engine.settings.cores)
        fed = (_feed(feeds, session, plan, engine) for feeds, _, _ in batches)
        done = held = 0
        # While a GPU runs the model, the cores have nothing else to do.
        for feeds, count in prefetch(fed) if on_gpu else fed:
            for start in range(0, count, plan.batch):
                part = {name: value[start : start + plan.batch] for name, value in feeds.items()}
                span = slice(held + start, held + start + len(next(iter(part.values()))))
                targets = {logits: Z[span].reshape(-1, *subject.shape)}
                for name, array, shape in zip(outputs, V, shapes, strict=True):
                    targets[name] = array[span].reshape(-1, *shape)
                session.run_into(subject.feeding.fed(part, names), targets)
            del feeds, part
            held += count
            at = done + held
            if at < len(rows) and (every is None or at % every) and held + plan.batch <= plan.rows:
                continue
            numbers = rows[done:at]
            yield Captured(
                Z[:held], tuple(array[:held] for array in V), view.dataset.labels[numbers], numbers
            )
            engine.backend.wait()
            engine.progress.advance(held)
            done, held = at, 0


def _capture_positions(
    subject: Subject,
    view: View,
    engine: Engine,
    what: str,
    taps: Sequence[Tap],
    neurons: Neurons | None,
    every: int | None,
) -> Generator[Captured]:
    """The same, where every position is a row; arrays are new for each batch.

    every : rows of a shard, see `shard_ends`; None: there are none.
    """
    session, logits, outputs, shape = _open_exposed(subject, view, engine, taps, neurons)
    begin, samples = time.perf_counter(), len(view.samples)
    width = len(neurons) if neurons is not None else sum(tap.neurons for tap in taps)
    plan = plan_of(subject, engine, width, samples, session.device)
    kind = np.float64 if subject.dtype == "float64" else np.float32
    names = [port.name for port in session.inputs if port.name != ROWS]
    with engine.passing(what, samples, session, begin):
        for part in position_batches(subject, view, plan, names, engine.settings.cores, every):
            sizes, Z, *V = session.run({**part.feeds, ROWS: part.local}, [shape, logits, *outputs])
            part.require(subject.logits_format.rows_of(sizes.tolist()))
            values = tuple(array.astype(np.float32, copy=False) for array in V)
            labels = view.dataset.labels_of(part.rows)
            Z = Z.astype(kind, copy=False)
            yield Captured(Z, values, labels, part.rows)
            engine.progress.advance(part.samples)


def known_by_memory(engine: Engine, subject: Subject, taps: Sequence[Tap] = ()) -> Engine:
    """The engine, whose `prepared` has `--memory` too where that limits the batches of passes over taps.

    So nothing that was kept is gone on with in batches of another size. Memory that limits none is not known.
    """
    settings = engine.settings
    # Whatever else is read of a sample, such as the last layer's inputs, is among all its hidden values.
    most = (sum(tap.neurons for tap in taps) + subject.classes) * subject.positions + 2 * subject.maps
    may_be_gpu = settings.device != "cpu" and gpu_count() > 0
    if not memory_limits_batch(most, subject.largest, subject.batch, settings, may_be_gpu):
        return engine
    return replace(engine, prepared=f"{engine.prepared}, memory {settings.memory}")


def plan_of(
    subject: Subject,
    engine: Engine,
    values: int,
    samples: int,
    device: str,
    folding: Folding = Folding(),
) -> BatchPlan:
    """Sizes of a pass that takes `values` hidden values per sample out of a model on a device."""
    context = PassContext(
        other_values=folding.other_values,
        model_on_gpu=device != "cpu",
        gpu_fold_bytes=engine.backend.gpu_fold_bytes if folding.for_theta else None,
        reserved_bytes=engine.reserved_bytes,
        samples=folding.samples or samples,
    )
    return plan_batches(
        _values_of_sample(subject, values), subject.largest, subject.batch, engine.settings, context
    )


def bytes_at_positions(subject: Subject, taps: Sequence[Tap]) -> int:
    """What is held, at least, of samples with scores at positions where taps are read there; else 0.

    A pass takes one sample at a time where `--memory` is little, and checks of a written file two.
    """
    return 2 * 4 * _values_of_sample(subject, sum(tap.neurons for tap in taps)) if subject.sizes else 0


def _values_of_sample(subject: Subject, values: int) -> int:
    """How many values a pass holds of a sample, that takes so many out of the model at each position."""
    each = (values + subject.classes) * subject.positions
    # Of positions some are kept: what the model holds meanwhile is more, and a patch may hold as much again.
    return each + 2 * subject.maps if subject.sizes else each


def _open_exposed(
    subject: Subject, view: View, engine: Engine, taps: Sequence[Tap], neurons: Neurons | None
) -> tuple[Session, str, tuple[str, ...], str]:
    """A session with taps or neurons as outputs, and the output names: of logits, the others, logits' shape.

    The last is empty where there are no scores at positions.
    """
    exposed = subject.exposed(taps, neurons, some_rows=bool(subject.sizes))
    logits, outputs, model = exposed.logits, exposed.outputs, exposed.proto.SerializeToString()
    shape = exposed.shape or ""
    assert logits is not None  # `Subject.exposed` always asks for them
    del exposed  # every copy of the weights counts
    session = session_of(subject.model, model, engine.settings, subject.maps, len(view.samples))
    return session, logits, outputs, shape


def _output_shape(tap: Tap) -> tuple[int, ...]:
    return (tap.neurons,) if tap.pool != "none" else tap.shape


def _feed(
    feeds: dict[str, np.ndarray], session: Session, plan: BatchPlan, engine: Engine
) -> tuple[dict[str, Any], int]:
    """Samples by input where the session reads them fastest, and how many they are.

    For a fixed batch size, the last sample is repeated to fill the last batch.
    """
    count = len(next(iter(feeds.values())))
    lack = -count % plan.batch if plan.fixed else 0
    return {
        port.name: engine.backend.feed(filled(feeds[port.name], count + lack), session.device)
        for port in session.inputs
        if port.name in feeds
    }, count
