"""How is a file opened? Its logits are found, and the inputs that they need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from onnx import TensorProto, ValueInfoProto, helper

from onnxtweak.data.samples import InputSpec, MarkedAt, Value
from onnxtweak.engine.feeding import Feeding, constant_input
from onnxtweak.engine.session import Port
from onnxtweak.errors import ModelError, UsageError
from onnxtweak.head import Answer, Readout
from onnxtweak.model.detector.layout import Detector
from onnxtweak.model.detector.search import find_detector
from onnxtweak.model.feature_names import feature_names
from onnxtweak.model.file.model_file import ModelFile, ModelSource, read_model
from onnxtweak.model.file.tweak_metadata import recorded_axis, tweaks_inside
from onnxtweak.model.inspect.batch import batch_axes
from onnxtweak.model.inspect.logits import Logits, find_logits
from onnxtweak.model.inspect.shapes import known_shape
from onnxtweak.model.logits_format import NO_AXIS, classes_of, layout_of
from onnxtweak.settings import TapSettings
from onnxtweak.types import Progress, ticking

MANY_NODES = 20_000  # ONNX Runtime starts fewer within seconds


@dataclass(frozen=True)
class Opened:
    """A model that was read and not yet run.

    needed : inputs that its logits need, and the output that they were found from, as declared. axes : of
    every input, the axis that counts samples; None for a single number. constants : values of inputs that are
    the same for all samples. named : whether the logits were named by the user, or by a record. detector :
    where boxes are, of a model that finds objects. readout, answer : as in `Subject`, once `engine.answer`
    has settled them. several : what a record says of that. alone : whether it runs one sample at a time,
    though its inputs take any number of them.
    """

    model: ModelFile
    logits: Logits
    needed: tuple[Port, ...]
    axes: Mapping[str, int | None]
    constants: Mapping[str, Value] = field(default_factory=dict)
    named: bool = False
    detector: Detector | None = None
    readout: Readout | None = None
    answer: Answer | None = None
    several: bool = False
    alone: bool = False

    @property
    def may_be_at_positions(self) -> bool:
        """Whether there may be scores at every position, so that labels may be there too."""
        axis, shape = self.logits.axis, self.logits.shape
        return axis is not None and (axis == NO_AXIS or shape is None or len(shape) > 2)

    @property
    def may_have_several_labels(self) -> bool | MarkedAt:
        """Whether a sample may have several labels at once, or where positions may have labels that are there
        or not."""
        shape, axis = self.logits.shape, self.logits.axis
        if self.detector is not None:
            return False
        if not self.may_be_at_positions:
            return not self.logits.binary
        if self.logits.chooses or shape is None or axis is None:
            return False
        return MarkedAt(tuple(size if isinstance(size, int) else None for size in shape), axis)

    @property
    def inputs(self) -> tuple[Port, ...]:
        """What every sample gives a value to, with the axis that counts samples first."""
        ports = [p for p in self.needed if p.name not in self.constants and self.axes[p.name] is not None]
        return tuple(Port(p.name, p.dtype, _rows_first(p.shape, self.axes[p.name])) for p in ports)

    @property
    def specs(self) -> tuple[InputSpec, ...]:
        """The inputs, as data readers want them."""
        features = feature_names(self.model.proto) if len(self.inputs) == 1 else None
        return tuple(
            InputSpec(p.name, p.dtype or "object", p.shape or None, features, self.may_be_at_positions)
            if self.axes[p.name] is not None
            else InputSpec(p.name, p.dtype or "object", ())
            for p in (*self.inputs, *self.numbers)
        )

    @property
    def numbers(self) -> tuple[Port, ...]:
        """The inputs that take a single number, whose value is not known yet."""
        return tuple(p for p in self.needed if self.axes[p.name] is None and p.name not in self.constants)

    @property
    def feeding(self) -> Feeding:
        """What the inputs take; single numbers that are not known are 1.

        Raises UsageError for a constant that does not fit.
        """
        shapes = self.model.graph.declared_shape
        values = {port.name: 1 for port in self.numbers} | dict(self.constants)
        return Feeding(
            self.axes,
            {
                port.name: constant_input(port, self.axes[port.name], values[port.name], shapes(port.name))
                for port in self.needed
                if port.name in values
            },
        )

    def recorded(self, provenance: Mapping[str, Any]) -> Opened:
        """The same model, with the values that a tweak's provenance records, as far as they fit."""
        inputs = {port.name for port in self.declared_inputs}
        recorded = provenance.get("constants")
        values = recorded if isinstance(recorded, Mapping) else {}
        fitting = {k: v for k, v in values.items() if k in inputs and isinstance(v, int | float | str)}
        return self.given(fitting)

    def given(self, values: Mapping[str, Value]) -> Opened:
        """The same model, with values for some of its inputs.

        Raises UsageError for an unknown name, and where no input is left for the samples.
        """
        inputs = [port.name for port in self.declared_inputs]
        for name in values:
            if name not in inputs:
                raise UsageError(
                    f"the model has no input of the name `{name}`",
                    where=f"--input {name}={values[name]}",
                    hint=f"its inputs: {', '.join(inputs)}",
                )
        found = replace(self, constants={**self.constants, **values})
        if not found.inputs:
            raise UsageError(
                "every input that the logits need is the same for all samples",
                where="--input",
                hint=f"leave out `{next(iter(self.needed)).name}`, and give it with the samples",
            )
        return found

    @property
    def declared_inputs(self) -> tuple[Port, ...]:
        """All inputs that must be fed, as the file declares them."""
        graph = self.model.proto.graph
        return _ports(graph.input, {tensor.name for tensor in graph.initializer})

    @property
    def declared_outputs(self) -> tuple[Port, ...]:
        """All outputs, as the file declares them."""
        return _ports(self.model.proto.graph.output, set())


def open_model(path: ModelSource, settings: TapSettings) -> Opened:
    """Read a model and find its logits. Raises ModelError when it is not a classifier."""
    return opened_model(read_model(path), settings)


def opened_model(model: ModelFile, settings: TapSettings) -> Opened:
    """The same for a model in memory."""
    path = model.path
    # Who says which axis counts the classes says that these are no anchors; so did who made a tweak inside.
    axis = settings.class_axis if settings.class_axis is not None else _axis_inside(model, settings.logits)
    detector = None if axis is not None else find_detector(model.graph, settings.logits)
    if detector is None:
        logits = find_logits(model.graph, settings.logits, settings.class_axis)
        if axis is not None and not _counts_over(logits, axis):
            logits = find_logits(model.graph, settings.logits, axis)
    else:
        logits = _of_detector(model, detector)
    needed = model.graph.needed_inputs([logits.name, logits.output])
    ports = _ports((value for value in model.graph.inputs if value.name in needed), set())
    if not ports:
        raise ModelError(
            "the logits do not depend on any input of the model", where=f"{logits.name} in {path}"
        )
    axes = batch_axes(model.graph, logits.name)
    return Opened(model, logits, ports, axes, named=settings.logits is not None, detector=detector)


def _axis_inside(model: ModelFile, logits: str | None) -> int | None:
    """Which axis counts the classes, as the last tweak inside records it, of the scores that are meant."""
    inside = tweaks_inside(model.proto)
    if not inside or logits not in (None, inside[-1].logits):
        return None
    last = inside[-1]
    slotted = {"logits_layout": last.patch.get("layout")}  # which is all that a slot records
    return recorded_axis(slotted | last.provenance)


def _counts_over(logits: Logits, axis: int) -> bool:
    """Whether the graph tells that the classes are on this axis of scores at positions; 0: on none."""
    at = logits.axis if logits.layout is None else max(logits.layout.find("C"), NO_AXIS)
    return at == axis or (axis == NO_AXIS and bool(at and logits.shape and logits.shape[at] == 1))


def _of_detector(model: ModelFile, detector: Detector) -> Logits:
    """The class scores of a detector, as far as its file tells."""
    shape, axis = known_shape(model.graph, detector.logits), detector.class_axis
    rule = f"before {detector.rule}" if detector.rule != "Sigmoids" else "behind a Sigmoid of each level"
    return Logits(
        detector.logits,
        detector.shown.scores,
        rule,
        f"{detector.logits!r} holds the class logits of all anchors: {rule}",
        shape,
        layout_of(shape, axis),
        classes_of(shape, axis),
        (detector.rule,),
        axis,
    )


def _rows_first(shape: tuple[int | None, ...], axis: int | None) -> tuple[int | None, ...]:
    return shape if not axis else (shape[axis], *shape[:axis], *shape[axis + 1 :])


def _ports(values: Iterable[ValueInfoProto], stored: set[str]) -> tuple[Port, ...]:
    """Graph inputs or outputs as the file declares them, without those that are `stored` initializers."""
    return tuple(
        Port(
            value.name,
            _numpy_name(value.type.tensor_type.elem_type),
            tuple(d.dim_value if d.dim_value > 0 else None for d in value.type.tensor_type.shape.dim),
        )
        for value in values
        if value.name not in stored
    )


def _numpy_name(kind: int) -> str | None:
    if kind == TensorProto.UNDEFINED:
        return None
    if kind == TensorProto.BFLOAT16:
        return "bfloat16"
    return np.dtype(helper.tensor_dtype_to_np_dtype(kind)).name


def require_class_scores(shape: tuple[int, ...] | None, opened: Opened, name: str) -> tuple[int, ...]:
    """The shape of one sample's scores. None : the tensor is no float tensor with one row per sample.

    Raises ModelError where it is not one score per class.
    """
    where = f"{name} in {opened.model.path}"
    if shape is None:
        raise ModelError(
            "this tensor cannot be the logits: it is not a float tensor with one row of scores per sample",
            where=where,
            hint="name the tensor that holds the class scores with --logits; of scores [T, N, C] at "
            "positions, export the model with samples first, [N, T, C]",
        )
    if sum(size > 1 for size in shape) > 1:
        raise ModelError(
            f"logits of shape {shape} per sample are not one score per class",
            where=where,
            hint="name another tensor with --logits; where each position has scores of its own, say which "
            "axis counts the classes: --class-axis N",
        )
    return shape


def fixed_batch(opened: Opened) -> int | None:
    """The batch size that the model runs, None: any. Raises ModelError where inputs differ."""
    sizes = {port.shape[0] for port in opened.inputs if port.shape and port.shape[0] is not None}
    if len(sizes) > 1:
        raise ModelError(
            f"its inputs have different batch sizes, {sorted(sizes)}",
            where=opened.model.path,
            hint="give those that hold no samples, such as states, one value: --input NAME=VALUE",
        )
    return 1 if opened.alone else sizes.pop() if sizes else None


@contextmanager
def starting(opened: Opened, what: str, progress: Progress) -> Iterator[None]:
    """Show how long the block takes, where it starts a model of very many nodes. what : it does."""
    nodes = len(opened.model.graph.nodes)
    if nodes < MANY_NODES:
        yield
        return
    progress.start(what, 0, "nodes")
    with ticking(progress):
        yield
    progress.advance(nodes)
    progress.finish()
