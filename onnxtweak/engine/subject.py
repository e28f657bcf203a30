"""How does a file become a subject, which passes can run? Logits are found, hidden tensors measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, ValueInfoProto, helper

from onnxtweak.data.samples import InputSpec, Value
from onnxtweak.data.splits import View
from onnxtweak.engine.feeding import Feeding, constant_input
from onnxtweak.engine.measure import Shapes, measure, probe_feeds
from onnxtweak.engine.session import Port, Session
from onnxtweak.errors import DataError, ModelError, UsageError
from onnxtweak.head import Answer, Head, Readout
from onnxtweak.model.edit.expose import Exposed, expose
from onnxtweak.model.file.model_file import ModelFile, read_model
from onnxtweak.model.inspect.batch import batch_axes
from onnxtweak.model.inspect.logits import Logits, find_logits
from onnxtweak.model.inspect.taps import TapCandidate, candidates, penultimate_name, select
from onnxtweak.model.logits_format import LogitsFormat
from onnxtweak.settings import EngineSettings, TapSettings
from onnxtweak.types import Neurons, Tap


@dataclass(frozen=True)
class Opened:
    """A model that was read and not yet run.

    needed : inputs that its logits need, and the output that they were found from, as declared. axes : of
    every input, the axis that counts samples; None for a single number. constants : values of inputs that
    are the same for all samples. named : whether the logits were named by the user, or by a record. readout,
    answer : as in `Subject`, once `engine.answer` has settled them.
    """

    model: ModelFile
    logits: Logits
    needed: tuple[Port, ...]
    axes: Mapping[str, int | None]
    constants: Mapping[str, Value] = field(default_factory=dict)
    named: bool = False
    readout: Readout | None = None
    answer: Answer | None = None

    @property
    def inputs(self) -> tuple[Port, ...]:
        """What every sample gives a value to, with the axis that counts samples first."""
        ports = [p for p in self.needed if p.name not in self.constants and self.axes[p.name] is not None]
        return tuple(Port(p.name, p.dtype, _rows_first(p.shape, self.axes[p.name])) for p in ports)

    @property
    def specs(self) -> tuple[InputSpec, ...]:
        """The inputs, as data readers want them."""
        return tuple(
            InputSpec(p.name, p.dtype or "object", p.shape or None)
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


@dataclass(frozen=True)
class Subject:
    """A model that passes can run.

    logits : tensor name. dtype : its NumPy type. shape : of one sample's logits as `exposed` outputs them: C,
    perhaps with axes of 1. layout : of the tensor itself, as `Logits.layout`. batch : the batch size that the
    model was built for, or that its answers ask for; None: any. largest, maps : values per sample of the
    largest hidden tensor that was measured, and of all of them. feeding : what its inputs take. readout :
    how the tensor's columns give the classes' scores; None: they are these, or a single logit. answer : the
    output that shows the class; None: not asked for.
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

    @property
    def classes(self) -> int:
        """C."""
        return int(np.prod(self.shape))

    @property
    def binary(self) -> bool:
        """The model has a single logit z; tables hold the two columns 0 and z."""
        return self.logits_format.binary

    @property
    def logits_format(self) -> LogitsFormat:
        """How the logits tensor holds its values."""
        return LogitsFormat(self.layout, self.dtype, self.readout)

    @property
    def head(self) -> Head:
        """How these logits become the answer that the model shows."""
        return Head(single_logit=self.binary)

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
        return np.concatenate(found)[:count]

    def exposed(
        self, taps: Sequence[Tap] = (), neurons: Neurons | None = None, answer: bool = False
    ) -> Exposed:
        """The model with scores, and taps or chosen neurons, as outputs; see `model.edit.expose`.

        answer : whether the output that shows the class is kept.
        """
        kept = self.answer.output if answer and self.answer is not None else None
        return expose(self.model.graph, self.logits, taps, neurons, self.logits_format, kept)


def open_model(path: str | Path, settings: TapSettings) -> Opened:
    """Read a model and find its logits. Raises ModelError when it is not a classifier."""
    return opened_model(read_model(path), settings.logits)


def opened_model(model: ModelFile, override: str | None) -> Opened:
    """The same for a model in memory. override : name of the logits tensor; None: found in the graph.

    Raises ModelError when it is not a classifier.
    """
    path = model.path
    logits = find_logits(model.graph, override)
    graph = expose(model.graph, logits.name, (), answer=logits.output).proto.graph
    stored = {t.name for t in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    ports = _ports(graph.input, stored)
    if not ports:
        raise ModelError(
            "the logits do not depend on any input of the model", where=f"{logits.name} in {path}"
        )
    return Opened(model, logits, ports, batch_axes(model.graph, logits.name), named=override is not None)


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


def fixed_batch(opened: Opened) -> int | None:
    """The batch size the model was built for, None: any. Raises ModelError where inputs differ."""
    sizes = {port.shape[0] for port in opened.inputs if port.shape and port.shape[0] is not None}
    if len(sizes) > 1:
        raise ModelError(
            f"its inputs have different batch sizes, {sorted(sizes)}",
            where=opened.model.path,
            hint="give those that hold no samples, such as states, one value: --input NAME=VALUE",
        )
    return sizes.pop() if sizes else None


def hidden(opened: Opened) -> tuple[TapCandidate, ...]:
    """Every tensor between the inputs and the logits; there may be none."""
    return candidates(opened.model.graph, opened.logits.name)


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
    shapes = measure(opened.model, opened.logits.name, names, feeds, settings, feeding)
    found = shapes.get(opened.logits.name)
    if found is None:
        raise ModelError(
            "this tensor cannot be the logits: it is not a float tensor with one row of scores per sample",
            where=f"{opened.logits.name} in {opened.model.path}",
            hint="name the tensor that holds the class scores with --logits",
        )
    dtype, shape = found
    layout = "N" + "".join("C" if size > 1 else "1" for size in shape)
    if layout.count("C") > 1:
        raise ModelError(
            f"logits of shape {shape} per sample are not one score per class",
            where=f"{opened.logits.name} in {opened.model.path}",
            hint="name another tensor with --logits; scores per position are not supported",
        )
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
    ), shapes


def few_samples(opened: Opened, view: View, wanted: int) -> dict[str, np.ndarray]:
    """Inputs of the first `wanted` samples by name; for a fixed batch, of exactly as many as it takes.

    Raises DataError when there are none.
    """
    fixed = fixed_batch(opened)
    rows = view.rows[: fixed or wanted]
    if not len(rows):
        raise DataError("there are no samples", hint="give samples with -d DATA")
    feeds, _, _ = next(iter(view.dataset.batches(rows, len(rows))))
    return {name: filled(value, fixed or len(rows)) for name, value in feeds.items()}


def filled(rows: np.ndarray, size: int) -> np.ndarray:
    """Rows (n, ...) with the last one repeated until there are `size`."""
    lack = size - len(rows)
    return np.concatenate([rows, np.repeat(rows[-1:], lack, axis=0)]) if lack else rows


def made_up_samples(opened: Opened, known: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Meaningless samples. known : (type, shape) by input name, where the model leaves sizes open.

    Raises ModelError when neither says how large an input is.
    """
    try:
        ports = tuple(
            Port(p.name, p.dtype, tuple(known[p.name][1])) if p.name in known else p for p in opened.inputs
        )
        batch = fixed_batch(opened)
        return probe_feeds(
            tuple(Port(p.name, p.dtype, (batch, *p.shape[1:])) for p in ports), opened.model.path
        )
    except (LookupError, TypeError, ValueError) as error:
        raise ModelError(
            "the record of the model's inputs is damaged", where=opened.model.path, hint="make the file again"
        ) from error


def choose_taps(
    opened: Opened, found: Sequence[TapCandidate], shapes: Shapes, settings: TapSettings
) -> tuple[Tap, ...]:
    """The taps that the settings select. Raises UsageError for a selector that matches nothing."""
    graph = opened.model.graph
    penultimate = penultimate_name(graph, opened.logits.name)
    return select(found, shapes, settings.taps, settings.pool, penultimate, graph)
