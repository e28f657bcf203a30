"""How does a file become a subject, which passes can run? Logits are found, hidden tensors measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, ValueInfoProto, helper

from onnxtweak.data.samples import InputSpec
from onnxtweak.data.splits import View
from onnxtweak.engine.measure import Shapes, measure, probe_feeds
from onnxtweak.engine.session import Port
from onnxtweak.errors import DataError, ModelError
from onnxtweak.head import Answer, Head, Readout
from onnxtweak.model.edit.expose import Exposed, expose
from onnxtweak.model.feature_names import feature_names
from onnxtweak.model.file.model_file import ModelFile, read_model
from onnxtweak.model.inspect.logits import Logits, find_logits
from onnxtweak.model.inspect.taps import TapCandidate, candidates, penultimate_name, select
from onnxtweak.model.logits_format import LogitsFormat
from onnxtweak.settings import EngineSettings, TapSettings
from onnxtweak.types import Neurons, Tap


@dataclass(frozen=True)
class Opened:
    """A model that was read and not yet run.

    inputs : those that its logits need. given : whether the logits were named by the user, or by a record.
    readout, answer : as in `Subject`, once `engine.answer` has settled them.
    """

    model: ModelFile
    logits: Logits
    inputs: tuple[Port, ...]
    given: bool = False
    readout: Readout | None = None
    answer: Answer | None = None

    @property
    def specs(self) -> tuple[InputSpec, ...]:
        """The inputs, as data readers want them."""
        features = feature_names(self.model.proto) if len(self.inputs) == 1 else None
        return tuple(InputSpec(p.name, p.dtype or "object", p.shape or None, features) for p in self.inputs)

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
    model was built for; None: any. largest, maps : values per sample of the largest hidden tensor that was
    measured, and of all of them. readout : how the tensor's columns give the classes' scores; None: they are
    these, or a single logit. answer : the output that shows the class; None: not asked for.
    """

    model: ModelFile
    logits: str
    dtype: str
    shape: tuple[int, ...]
    layout: str
    batch: int | None
    largest: int = 1
    maps: int = 1
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
    graph = expose(model.graph, logits.name, ()).proto.graph
    stored = {t.name for t in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    ports = _ports(graph.input, stored)
    if not ports:
        raise ModelError(
            "the logits do not depend on any input of the model", where=f"{logits.name} in {path}"
        )
    return Opened(model, logits, ports, given=override is not None)


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
        raise ModelError(f"its inputs have different batch sizes, {sorted(sizes)}", where=opened.model.path)
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
    shapes = measure(opened.model, opened.logits.name, names, feeds, settings)
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
    lack = (fixed or len(rows)) - len(rows)
    return {n: np.concatenate([v, np.repeat(v[-1:], lack, axis=0)]) if lack else v for n, v in feeds.items()}


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
