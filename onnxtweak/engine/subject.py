"""How does an opened file become a subject, which passes can run? Its hidden tensors are measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onnxtweak.boxes.head import EachObject, OneObject
from onnxtweak.data.splits import View
from onnxtweak.engine.feeding import Feeding
from onnxtweak.engine.measure import Shapes, measure, probe_feeds
from onnxtweak.engine.opened import Opened, fixed_batch, require_class_scores
from onnxtweak.engine.session import Port, Session
from onnxtweak.errors import DataError, ModelError, UsageError
from onnxtweak.head import SEVERAL_LABELS, Answer, Head, Readout
from onnxtweak.model.detector.layout import Detector
from onnxtweak.model.edit.expose import Exposed, expose
from onnxtweak.model.edit.positions.read_nodes import RESIZES_FROM, way_at_positions
from onnxtweak.model.file.model_file import ModelFile
from onnxtweak.model.inspect.layer_inputs import front_names, penultimate_name
from onnxtweak.model.inspect.taps import TapCandidate, candidates, select
from onnxtweak.model.logits_format import LogitsFormat
from onnxtweak.settings import EngineSettings, TapSettings
from onnxtweak.types import LEVEL, Neurons, Tap

# How maps may be read where there are scores at positions, in the words of `TapSettings.pool`.
_POOLS_AT_POSITIONS = ("none", "mean")
OF_DETECTORS = "`evaluate`, `fit`, `join`, `retrain`, `augment` and `compare` do (docs/howto/boxes.md)"


@dataclass(frozen=True)
class Subject:
    """A model that passes can run.

    logits : tensor name. dtype : its NumPy type. shape : of one sample's logits as `exposed` outputs them: C,
    perhaps with axes of 1. layout : of the tensor itself, as `Logits.layout`. sizes : of its axes of
    positions, where there are scores at positions. batch : the batch size that the model was built for, or
    that its answers ask for; None: any. largest, maps : values per sample of the largest hidden tensor that
    was measured, and of all of them. feeding : what its inputs take. readout : how the tensor's columns give
    the classes' scores; None: they are these, or a single logit. answer : the output that shows the class;
    None: not asked for. several : whether labels mark several classes of one sample at once. detector : where
    boxes are, of a model that finds objects, whose positions are its anchors.
    """

    model: ModelFile
    logits: str
    dtype: str
    shape: tuple[int, ...]
    layout: str
    batch: int | None
    largest: int = 1
    maps: int = 1
    feeding: Feeding = Feeding()
    readout: Readout | None = None
    answer: Answer | None = None
    sizes: tuple[int, ...] = ()
    several: bool = False
    detector: Detector | None = None

    @property
    def classes(self) -> int:
        """C."""
        return int(np.prod(self.shape))

    @property
    def positions(self) -> int:
        """How many rows of scores a sample has: 1, or one for each position."""
        return math.prod(self.sizes)

    @property
    def unit(self) -> str:
        """What a decision is about, in words."""
        if self.detector is not None:
            return "objects"
        return "labels" if self.head.several else self.rows

    @property
    def rows(self) -> str:
        """What a row of scores belongs to, in words."""
        if self.detector is not None:
            return "anchors"
        return "positions" if self.sizes else "samples"

    @property
    def binary(self) -> bool:
        """The model has a single logit z; tables hold the two columns 0 and z."""
        return self.logits_format.binary

    @property
    def logits_format(self) -> LogitsFormat:
        """How the logits tensor holds its values."""
        if self.detector is None:
            return LogitsFormat(self.layout, self.dtype, self.readout)
        levels, there = self.detector.levels, self.detector.objectness
        return LogitsFormat(self.layout, self.dtype, self.readout, levels, there)

    @property
    def of_classes(self) -> Subject:
        """The same with the classes' own scores, which a patch is added to, whatever is shown of them."""
        if self.detector is None or not self.detector.objectness:
            return self
        return replace(self, detector=replace(self.detector, objectness=False))

    @property
    def head(self) -> Head:
        """How these logits become the answer that the model shows."""
        if self.detector is not None:
            return EachObject() if self.detector.background is None else OneObject()
        return SEVERAL_LABELS if self.several else Head(single_logit=self.binary)

    def run(
        self,
        session: Session,
        output: str,
        samples: Mapping[str, np.ndarray],
        slot: Mapping[str, np.ndarray] | None = None,
    ) -> np.ndarray:
        """One output for some samples, as many at a time as `batch` says.

        samples : rows by input. slot : what else is fed, as it is. The last samples are repeated where they
        do not fill a batch; their rows are left out again.
        """
        count, names = len(next(iter(samples.values()))), [port.name for port in session.inputs]
        size = self.batch or count
        found = []
        for start in range(0, count, size):
            part = {name: filled(value[start : start + size], size) for name, value in samples.items()}
            found += session.run(self.feeding.fed(part, names) | dict(slot or {}), [output])
        every = np.concatenate(found)  # of each sample as many rows as it has, which may be other than most
        return every[: count * (len(every) // (-(-count // size) * size))]

    def exposed(
        self,
        taps: Sequence[Tap] = (),
        neurons: Neurons | None = None,
        answer: bool = False,
        some_rows: bool = False,
    ) -> Exposed:
        """The model with scores, and taps or chosen neurons, as outputs; see `model.edit.expose`.

        answer : whether the output that shows the class is kept. some_rows : as of `expose`.
        """
        kept = self.answer.output if answer and self.answer is not None else None
        return expose(self.model.graph, self.logits, taps, neurons, self.logits_format, kept, some_rows)


def hidden(opened: Opened) -> tuple[TapCandidate, ...]:
    """Every tensor between the inputs and the logits; there may be none."""
    return candidates(opened.model.graph, opened.logits.name)


def front_of(opened: Opened) -> frozenset[str]:
    """Names of the hidden tensors that the first layers read; there may be none."""
    activations = (candidate.name for candidate in hidden(opened) if candidate.activation)
    return front_names(opened.model.graph, activations)


def watchable(opened: Opened) -> tuple[TapCandidate, ...]:
    """Every tensor that could be a tap. Raises ModelError when there is none."""
    found = hidden(opened)
    if not found:
        raise ModelError(
            "there is no hidden tensor between the model's input and its logits",
            where=f"{opened.logits.name} in {opened.model.path}",
            hint="there is no neuron to tap; `onnxtweak fit` sets the best biases, without --taps",
        )
    return found


def measured(
    opened: Opened, names: Sequence[str], feeds: dict[str, np.ndarray], settings: EngineSettings
) -> tuple[Subject, Shapes]:
    """The subject, and types and shapes of the named tensors, from one run on a few samples.

    feeds : these samples by input name. Raises ModelError when the logits are not one row of scores per
    sample.
    """
    batch = fixed_batch(opened)
    feeding = opened.feeding
    names = [*names, *(() if opened.detector is None else (level.map for level in opened.detector.levels))]
    shapes = measure(opened.model, opened.logits.name, names, feeds, settings, feeding)
    found = shapes.get(opened.logits.name)
    dtype, measured_shape = found or ("", None)
    positions: tuple[int, ...] = ()
    shape: tuple[int, ...]
    if opened.logits.at_positions and measured_shape is not None:
        layout = opened.logits.layout or ""
        if len(layout) != 1 + len(measured_shape):
            raise ModelError(
                f"scores of shape {measured_shape} per sample are not laid out as {layout}",
                where=opened.logits.name,
                hint="make the tweak again: its record was changed",
            )
        positions = sizes_of(measured_shape, layout)
        shape = (measured_shape[layout.index("C") - 1] if "C" in layout else 1,)
    else:
        shape = require_class_scores(measured_shape, opened, opened.logits.name)
        layout = "N" + "".join("C" if size > 1 else "1" for size in shape)
        shape = shape if "C" in layout else (2,)
    if opened.readout is not None:
        shape = (opened.readout.classes,)
    sizes = [int(np.prod(found[1])) for found in shapes.values() if found is not None]
    name = opened.logits.name
    return Subject(
        opened.model,
        name,
        dtype,
        shape,
        layout,
        batch,
        max(sizes),
        sum(sizes),
        feeding,
        opened.readout,
        opened.answer,
        positions,
        opened.several if opened.answer is None else opened.answer.head.several,
        opened.detector,
    ), shapes


def few_samples(opened: Opened, view: View, wanted: int) -> dict[str, np.ndarray]:
    """Inputs of the first `wanted` samples by name; for a fixed batch, of exactly as many as it takes.

    Where sizes differ, of the largest. Raises DataError when there are none.
    """
    fixed = fixed_batch(opened)
    rows = view.dataset.by_part.largest_of(view.samples)[: fixed or wanted]
    return _filled_rows(view, rows, fixed or len(rows))


def smallest_samples(opened: Opened, view: View, wanted: int) -> dict[str, np.ndarray]:
    """Inputs of at most `wanted` samples by name, as `few_samples`; where sizes differ, of the smallest."""
    fixed = fixed_batch(opened)
    rows = view.dataset.by_part.smallest_of(view.samples)[: fixed or wanted]
    return _filled_rows(view, rows, fixed or len(rows))


def whole_batches(opened: Opened, view: View, wanted: int) -> dict[str, np.ndarray]:
    """Inputs of the first `wanted` samples by name; for a fixed batch, in as many whole ones as that takes.

    Where sizes differ, of the largest. Raises DataError when there are none.
    """
    fixed, rows = fixed_batch(opened) or 1, view.dataset.by_part.largest_of(view.samples)[:wanted]
    return _filled_rows(view, rows, -(-len(rows) // fixed) * fixed)


def _filled_rows(view: View, rows: np.ndarray, size: int) -> dict[str, np.ndarray]:
    """Inputs of some rows by name, the last repeated up to `size`. Raises DataError where there are none."""
    if not len(rows):
        raise DataError("there are no samples", hint="give samples with -d DATA")
    feeds, _, _ = next(iter(view.dataset.batches(rows, len(rows))))
    return {name: filled(value, size) for name, value in feeds.items()}


def filled(rows: np.ndarray, size: int) -> np.ndarray:
    """Rows (n, ...) with the last one repeated until there are `size`."""
    lack = size - len(rows)
    return np.concatenate([rows, np.repeat(rows[-1:], lack, axis=0)]) if lack else rows


def made_up_samples(opened: Opened, known: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Meaningless samples. known : (type, shape) by input name, where the model leaves sizes open; empty: the
    model has seen no samples yet, and texts are not made up for it.

    Raises ModelError when neither says how large an input is.
    """
    try:
        ports = tuple(
            Port(p.name, p.dtype, tuple(known[p.name][1])) if p.name in known else p for p in opened.inputs
        )
        batch = fixed_batch(opened)
        ports = tuple(Port(p.name, p.dtype, (batch, *p.shape[1:])) for p in ports)
        return probe_feeds(ports, opened.model.path, text=bool(known))
    except (LookupError, TypeError, ValueError) as error:
        raise ModelError(
            "the record of the model's inputs is damaged", where=opened.model.path, hint="make the file again"
        ) from error


def choose_taps(
    opened: Opened, found: Sequence[TapCandidate], shapes: Shapes, settings: TapSettings
) -> tuple[Tap, ...]:
    """The taps that the settings select. Raises UsageError for a selector that matches nothing.

    Where there are scores at positions: maps that have positions too, a neuron for each channel there, or
    for its mean over all positions of the sample.
    """
    graph = opened.model.graph
    penultimate = penultimate_name(graph, opened.logits.name)
    if not opened.logits.at_positions:
        return select(found, shapes, settings.taps, settings.pool, penultimate, graph)
    pools = ("none",) if opened.detector is not None else _POOLS_AT_POSITIONS
    if other := [pool for pool in settings.pool if pool not in pools]:
        raise UsageError(
            "where there are scores at every position, maps are read at these positions"
            + (", or their means" if len(pools) > 1 else ", not pooled"),
            where=f"--pool {other[0]}",
            hint="leave it out" + (f", or use {' and '.join(pools)}" if len(pools) > 1 else ""),
        )
    chosen = select(found, shapes, settings.taps, ("none",), penultimate, graph)
    if opened.detector is not None:
        ways = [(tap, _level_of(tap, opened.detector, shapes)) for tap in chosen]
    else:
        logits = shapes[opened.logits.name]
        assert logits is not None  # it was measured first
        sizes = sizes_of(logits[1], opened.logits.layout or "")
        ways = [(tap, way_at_positions(sizes, tap)) for tap in chosen]
    newest = graph.opset >= RESIZES_FROM
    there = [(tap, way) for tap, way in ways if way is not None and (way != "resized" or newest)]
    found_taps = tuple(replace(tap, pool=way) for tap, way in there if "none" in settings.pool)
    found_taps += contexts([tap for tap, _ in there]) if "mean" in settings.pool else ()
    if not found_taps:
        raise ModelError(
            "none of these tensors has the positions that the scores have",
            where=f"--taps {' '.join(settings.taps)}",
            hint="name others with --taps; see `onnxtweak inspect`",
        )
    return found_taps


def contexts(taps: Sequence[Tap]) -> tuple[Tap, ...]:
    """The means over all positions of a sample of those maps that have several."""
    return tuple(replace(tap, pool="mean") for tap in taps if tap.positions > 1)


def _level_of(tap: Tap, detector: Detector, shapes: Shapes) -> str | None:
    """How a map is read at the anchors of the level that has its size; None where none has."""
    own = tuple(size for axis, size in enumerate(tap.shape) if axis != tap.channel_axis)
    for number, level in enumerate(detector.levels):
        found = shapes.get(level.map)
        if found is not None and found[1][1:] == own:
            return f"{LEVEL}{number}"
    return None


def sizes_of(shape: Sequence[int], layout: str) -> tuple[int, ...]:
    """Sizes of the axes of positions. shape : of one sample of a tensor. layout : of the tensor."""
    return tuple(size for size, letter in zip(shape, layout[1:], strict=True) if letter == "P")
