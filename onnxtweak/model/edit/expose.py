"""What has to run, and to come out, to watch hidden tensors?

The model with logits and taps as outputs, or with only the chosen neurons' values; whatever no output needs
is cut off, so that it costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx
from onnx import ModelProto, ValueInfoProto

from onnxtweak.errors import ModelError
from onnxtweak.model.edit.patch_nodes import (
    INITIALIZERS_ARE_INPUTS_BEFORE,
    Piece,
    build_columns,
    build_pool,
    build_reader,
    free_prefix,
)
from onnxtweak.model.inspect.graph import GraphIndex
from onnxtweak.types import Neurons, Tap


@dataclass(frozen=True)
class Exposed:
    """A model made to be run, not kept.

    logits : name of the output with the logits, None when they were not asked for. outputs : names of the
    taps' outputs, one per tap in their order; or the one output with the chosen values (N, K).
    """

    proto: ModelProto
    logits: str | None
    outputs: tuple[str, ...]


def expose(
    proto: ModelProto,
    logits: str,
    taps: Sequence[Tap],
    neurons: Neurons | None = None,
    *,
    extra_outputs: Sequence[str] = (),
    with_logits: bool = True,
    logits_dtype: str = "float32",
    binary: bool = False,
) -> Exposed:
    """A new model whose outputs are the logits, the taps or chosen values, and `extra_outputs`.

    Without `neurons` every tap is an output of its own: (N, channels) when pooled, else in its own shape.
    With `neurons`, `taps` is not looked at, and one output holds their values (N, K) in their order; none for
    K = 0. binary : the logits are a single one, which comes out as two columns, 0 and itself. All outputs are
    float32, except that float64 logits stay so, and whole float16 tensors: behind a Cast the runtime would
    show them as they were before they were rounded, and the base rounds them. Original outputs are dropped
    unless named in `extra_outputs`; so are inputs that nothing kept needs. `proto` is not changed; external
    data still counts from its folder.

    Raises ModelError when a tensor that is asked for is not computed by the model's main graph.
    """
    index = GraphIndex(proto)
    outlet = _Outlet(index)
    logits_output = None
    if with_logits and binary:
        logits_output = outlet.columns(logits, logits_dtype)
    elif with_logits:
        logits_output = outlet.whole(logits, logits_dtype != "bfloat16")
    for name in extra_outputs:
        outlet.keep(name)
    if neurons is not None:
        outputs = (outlet.chosen(neurons),) if len(neurons) else ()
    else:
        outputs = tuple(outlet.tap(tap) for tap in taps)
    return Exposed(_assemble(proto, index, outlet), logits_output, outputs)


class _Outlet:
    """Collects what is to come out: which tensors are needed, which nodes are added, which outputs result."""

    def __init__(self, index: GraphIndex) -> None:
        self.index = index
        self.prefix = free_prefix("onnxtweak/watch/", index.all_names)
        self.sources: list[str] = []
        self.pieces: list[Piece] = []
        self.outputs: dict[str, ValueInfoProto] = {}

    def keep(self, name: str) -> None:
        """An original output, typed as it was."""
        declared = next((output for output in self.index.outputs if output.name == name), None)
        if declared is None:
            raise ModelError("the model has no such output", where=name, hint="see `onnxtweak inspect`")
        self._need(name)
        self.outputs[name] = declared

    def whole(self, name: str, as_it_is: bool) -> str:
        """A tensor in its own shape, cast to float32 unless it can stay as it is."""
        self._need(name)
        # ONNX Runtime may let an output share an input's memory.
        computed = self.index.position(name) is not None
        if as_it_is and computed and name not in self.outputs:
            self.outputs[name] = ValueInfoProto(name=name)
            return name
        output = self._new_output()
        if as_it_is:
            node = onnx.helper.make_node("Identity", [name], [output], output)
        else:
            node = onnx.helper.make_node("Cast", [name], [output], output, to=onnx.TensorProto.FLOAT)
        self.pieces.append(Piece((node,), ()))
        return output

    def columns(self, name: str, dtype: str) -> str:
        """A single logit as two columns."""
        self._need(name)
        output, opset = self._new_output(), self.index.opset
        self.pieces.append(build_columns(name, opset=opset, dtype=dtype, output=output, prefix=output + "/"))
        return output

    def tap(self, tap: Tap) -> str:
        if tap.pool == "none" or len(tap.shape) == 1:
            return self.whole(tap.name, tap.dtype in ("float32", "float16"))
        self._need(tap.name)
        output = self._new_output()
        self.pieces.append(
            build_pool(tap, opset=self.index.opset, dtype="float32", output=output, prefix=output + "/")
        )
        return output

    def chosen(self, neurons: Neurons) -> str:
        for number in sorted({int(number) for number in neurons.tap_of}):
            self._need(neurons.taps[number].name)
        output = self._new_output()
        self.pieces.append(
            build_reader(neurons, opset=self.index.opset, dtype="float32", output=output, prefix=output + "/")
        )
        return output

    def _need(self, name: str) -> None:
        if self.index.position(name) is None and name not in (value.name for value in self.index.inputs):
            raise ModelError(
                "the model's main graph does not compute this tensor",
                where=name,
                hint="see `onnxtweak inspect` for the tensors that can be watched",
            )
        self.sources.append(name)

    def _new_output(self) -> str:
        name = f"{self.prefix}{len(self.outputs)}"
        self.outputs[name] = ValueInfoProto(name=name)  # without a type: the runtime infers it
        return name


def _assemble(proto: ModelProto, index: GraphIndex, outlet: _Outlet) -> ModelProto:
    """What the outlet collected, and of the model only what that needs."""
    kept = sorted(index.ancestors(outlet.sources))
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
    for piece in outlet.pieces:
        graph.node.extend(piece.nodes)
        graph.initializer.extend(piece.initializers)
        if proto.ir_version < INITIALIZERS_ARE_INPUTS_BEFORE:
            graph.input.extend(piece.declarations())
    return model
