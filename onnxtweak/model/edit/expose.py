"""How are hidden tensors exposed as outputs of a model?

The model with logits and taps as outputs, or with only the chosen neurons' values; whatever no output needs
is removed, so that it costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx
from onnx import ModelProto, ValueInfoProto

from onnxtweak.errors import ModelError
from onnxtweak.model.edit.patch_nodes import (
    build_pool,
    build_reader,
    build_scores,
    free_prefix,
)
from onnxtweak.model.edit.piece_builder import (
    ELEMENT_TYPES,
    INITIALIZERS_ARE_INPUTS_BEFORE,
    Builder,
    Piece,
)
from onnxtweak.model.edit.positions.level_nodes import build_level_reader, build_level_tap
from onnxtweak.model.edit.positions.position_nodes import build_position_scores
from onnxtweak.model.edit.positions.read_nodes import (
    ROWS,
    PositionSite,
    build_position_reader,
    build_position_tap,
)
from onnxtweak.model.graph import GraphIndex
from onnxtweak.model.logits_format import LogitsFormat
from onnxtweak.types import Neurons, Tap

PROBE = "onnxtweak/probe"  # the input of a model's tail


@dataclass(frozen=True)
class Exposed:
    """A model to be run, not saved.

    logits : name of the output with the logits. outputs : names of the taps' outputs, one per tap in their
    order; or of the one output with the chosen values (N, K). shape : of the output with the shape of the
    logits tensor, where only some rows of it come out.
    """

    proto: ModelProto
    logits: str
    outputs: tuple[str, ...]
    shape: str | None = None


def expose(
    graph: GraphIndex,
    logits: str,
    taps: Sequence[Tap],
    neurons: Neurons | None = None,
    logits_format: LogitsFormat = LogitsFormat(),
    answer: str | None = None,
    some_rows: bool = False,
) -> Exposed:
    """A new model whose outputs are the logits, and the taps or the chosen values.

    logits, logits_format : the logits tensor, its layout and dtype. Without `neurons` every tap is an output
    of its own: (N, channels) when pooled, else in its own shape. With `neurons`, `taps` is ignored, and one
    output holds their values (N, K) in their order; none for K = 0. Where the tensor's columns are not the
    classes' scores, as with a single logit, the scores are computed from them, (N, C). All outputs are
    float32, except that float64 logits stay so, and whole float16 tensors: after a Cast the runtime would
    show them as they were before rounding, and the base rounds them. Original outputs are dropped but for
    `answer`, and so are inputs that nothing needs any more. Where there are scores at positions, every
    position is a row of the outputs; with `some_rows`, those that the new input `ROWS` (R,) int64 asks for.
    The graph's model is not changed; external data is still relative to its folder.

    Raises ModelError when the model's main graph does not compute one of the tensors.
    """
    place = PositionSite(logits, logits_format) if logits_format.at_positions else None
    outlet = _Outlet(graph, place, some_rows=some_rows)
    if place is not None:
        logits_output = outlet.scores_at_positions(place)
    elif logits_format.binary or not logits_format.is_plain:
        logits_output = outlet.scores(logits, logits_format)
    else:
        logits_output = outlet.tensor(logits, logits_format.dtype != "bfloat16")
    if neurons is not None:
        outputs = [outlet.chosen(neurons)] if len(neurons) else []
    else:
        outputs = [outlet.tap(tap) for tap in taps]
    if answer is not None:
        outlet.own(answer)
    shape = outlet.shape(logits) if outlet.some else None
    return Exposed(_assemble(outlet), logits_output, tuple(outputs), shape)


def expose_values(graph: GraphIndex, name: str, outputs: Sequence[str], *, cast: bool = False) -> Exposed:
    """A new model with one tensor as it is, or cast to float32, and some of the model's own outputs.

    The tensor's output is `Exposed.logits`.
    """
    outlet = _Outlet(graph)
    shown = outlet.tensor(name, not cast)
    for output in outputs:
        outlet.own(output)
    return Exposed(_assemble(outlet), shown, tuple(outputs))


def expose_tensors(graph: GraphIndex, names: Sequence[str]) -> tuple[ModelProto, list[str]]:
    """A new model with some tensors, or outputs, as they are; and how its outputs for them are called."""
    outlet, outputs = _Outlet(graph), {value.name for value in graph.outputs}
    shown = [outlet.own(name) if name in outputs else outlet.tensor(name, keep_dtype=True) for name in names]
    return _assemble(outlet), shown


def only_tail(graph: GraphIndex, logits: str, dtype: str, outputs: Sequence[str]) -> ModelProto:
    """What the model does after its logits, as a model of its own; its first input is `PROBE`.

    The input stands for the logits, as float32. dtype : of the logits in the model. outputs : those of the
    model to keep. Inputs of the model whose shapes the tail reads are still inputs, and so are those from
    which it computes anything else.
    """
    outlet = _Outlet(graph)
    for name in outputs:
        outlet.own(name)
    model = _assemble(outlet, without=logits)
    cast = onnx.helper.make_node("Cast", [PROBE], [logits], PROBE + "/cast", to=int(ELEMENT_TYPES[dtype]))
    model.graph.node.insert(0, cast)
    shape = onnx.helper.make_tensor_value_info(PROBE, onnx.TensorProto.FLOAT, None)
    model.graph.input.insert(0, shape)
    return model


class _Outlet:
    """Collects the outputs to be, the tensors that they need, and the nodes that are added for them."""

    def __init__(
        self, graph: GraphIndex, place: PositionSite | None = None, *, some_rows: bool = False
    ) -> None:
        """place : of scores at positions, None for one row of them per sample. some_rows : as of `expose`."""
        self.graph, self.place, self.some = graph, place, some_rows
        self.prefix = free_prefix("onnxtweak/watch/", graph.all_names)
        self.sources: list[str] = []
        self.pieces: list[Piece] = []
        self.outputs: dict[str, ValueInfoProto] = {}

    def tensor(self, name: str, keep_dtype: bool) -> str:
        """A tensor in its own shape, cast to float32 unless it keeps its dtype."""
        self._need(name)
        # ONNX Runtime may let an output share an input's memory.
        computed = self.graph.position(name) is not None
        if keep_dtype and computed and name not in self.outputs:
            self.outputs[name] = ValueInfoProto(name=name)
            return name
        output = self._new_output()
        if keep_dtype:
            node = onnx.helper.make_node("Identity", [name], [output], output)
        else:
            node = onnx.helper.make_node("Cast", [name], [output], output, to=onnx.TensorProto.FLOAT)
        self.pieces.append(Piece((node,), ()))
        return output

    def scores(self, name: str, logits_format: LogitsFormat) -> str:
        """One score per class, (N, C)."""
        self._need(name)
        output, opset = self._new_output(), self.graph.opset
        self.pieces.append(build_scores(name, logits_format, opset=opset, output=output, prefix=output + "/"))
        return output

    def scores_at_positions(self, place: PositionSite) -> str:
        """One score per class and position, (rows, C)."""
        self._need(place.logits)
        output, wide = self._new_output(), "float64" if place.at.dtype == "float64" else "float32"
        build = Builder(output + "/", self.graph.opset, wide)
        self.pieces.append(build_position_scores(place, build, output, some=self.some))
        return output

    def shape(self, name: str) -> str:
        """The shape of a tensor that is needed anyway."""
        output = self._new_output()
        self.pieces.append(Piece((onnx.helper.make_node("Shape", [name], [output], output),), ()))
        return output

    def own(self, name: str) -> str:
        """An output of the model as it is, whatever its type."""
        self.sources.append(name)
        self.outputs[name] = ValueInfoProto(name=name)
        return name

    def tap(self, tap: Tap) -> str:
        """All values of a tap."""
        if self.place is not None:
            self._need(tap.name)
            for level in self.place.at.levels:
                self._need(level.map)
            output = self._new_output()
            build = Builder(output + "/", self.graph.opset, "float32")
            read = build_level_tap if self.place.at.levels else build_position_tap
            self.pieces.append(read(tap, self.place, build, output, some=self.some))
            return output
        if tap.pool == "none" or len(tap.shape) == 1:
            return self.tensor(tap.name, tap.dtype in ("float32", "float16"))
        self._need(tap.name)
        output = self._new_output()
        self.pieces.append(
            build_pool(tap, opset=self.graph.opset, dtype="float32", output=output, prefix=output + "/")
        )
        return output

    def chosen(self, neurons: Neurons) -> str:
        """The values of chosen neurons, (N, K)."""
        for number in sorted({int(number) for number in neurons.tap_of}):
            self._need(neurons.taps[number].name)
        for level in () if self.place is None else self.place.at.levels:
            self._need(level.map)
        output = self._new_output()
        if self.place is not None:
            build = Builder(output + "/", self.graph.opset, "float32")
            read = build_level_reader if self.place.at.levels else build_position_reader
            self.pieces.append(read(neurons, self.place, build, output, some=self.some))
            return output
        self.pieces.append(
            build_reader(neurons, opset=self.graph.opset, dtype="float32", output=output, prefix=output + "/")
        )
        return output

    def _need(self, name: str) -> None:
        if self.graph.position(name) is None and name not in (value.name for value in self.graph.inputs):
            raise ModelError(
                "the model's main graph does not compute this tensor",
                where=name,
                hint="see `onnxtweak inspect` for the tensors that can be tapped",
            )
        self.sources.append(name)

    def _new_output(self) -> str:
        name = f"{self.prefix}{len(self.outputs)}"
        self.outputs[name] = ValueInfoProto(name=name)  # untyped: the runtime infers the type
        return name


def _assemble(outlet: _Outlet, without: str | None = None) -> ModelProto:
    """The collected outputs, with only the part of the model that they need.

    without : a tensor that something else will compute.
    """
    index, proto = outlet.graph, outlet.graph.proto
    kept = sorted(index.ancestors(outlet.sources, before=without))
    used = {name for position in kept for name in index.needs(position)} | set(outlet.sources)
    made = {name for position in kept for name in index.nodes[position].output}
    model = ModelProto(ir_version=proto.ir_version)
    model.opset_import.extend(proto.opset_import)
    model.functions.extend(proto.functions)
    source, graph = proto.graph, model.graph
    graph.name = source.name
    graph.node.extend(index.nodes[position] for position in kept)
    graph.initializer.extend(tensor for tensor in source.initializer if tensor.name in used)
    graph.sparse_initializer.extend(
        tensor for tensor in source.sparse_initializer if tensor.values.name in used
    )
    graph.input.extend(value for value in source.input if value.name in used)
    graph.output.extend(outlet.outputs.values())
    graph.value_info.extend(value for value in source.value_info if value.name in made)
    graph.quantization_annotation.extend(
        annotation for annotation in source.quantization_annotation if annotation.tensor_name in made | used
    )
    if outlet.some:
        graph.input.append(onnx.helper.make_tensor_value_info(ROWS, onnx.TensorProto.INT64, [None]))
    if without is not None:
        _rename_writer(graph, without)
    for piece in outlet.pieces:
        graph.node.extend(piece.nodes)
        graph.initializer.extend(piece.initializers)
        if proto.ir_version < INITIALIZERS_ARE_INPUTS_BEFORE:
            graph.input.extend(piece.declarations())
    return model


def _rename_writer(graph: onnx.GraphProto, name: str) -> None:
    """Where a node that is kept for another of its outputs writes `name` too, it writes another name."""
    for node in graph.node:
        for position, output in enumerate(node.output):
            if output == name:
                node.output[position] = f"{PROBE}/unused"
