"""Which nodes and initializers are added to a model, to read chosen neurons or to add a patch to the logits?

Every piece is built with onnx-graphsurgeon as a graph of its own, from which nodes and initializers are
taken; the user's model never passes through it. Only operators are used whose meaning has not changed since
opset 7: axes are never given to a reduction, because they moved from an attribute to an input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import ArrayLike

from onnxtweak.errors import ModelError
from onnxtweak.model.inspect.logits import LogitsFormat
from onnxtweak.patch import Linear, Mlp, Patch, Synapses, Tweak, at_columns
from onnxtweak.types import Neurons, Tap

ELEMENT_TYPES = {
    "float32": onnx.TensorProto.FLOAT,
    "float16": onnx.TensorProto.FLOAT16,
    "bfloat16": onnx.TensorProto.BFLOAT16,
    "float64": onnx.TensorProto.DOUBLE,
}
_POOL = {"mean": "GlobalAveragePool", "max": "GlobalMaxPool"}
INITIALIZERS_ARE_INPUTS_BEFORE = 4  # IR version
_LARGE_MATRIX = 1 << 16  # numbers; below it one MatMul is cheaper than two


@dataclass(frozen=True)
class Piece:
    """Nodes in execution order, and the initializers they need.

    inputs : declarations of those initializers that callers may feed.
    """

    nodes: tuple[onnx.NodeProto, ...]
    initializers: tuple[onnx.TensorProto, ...]
    inputs: tuple[onnx.ValueInfoProto, ...] = ()

    def declarations(self) -> tuple[onnx.ValueInfoProto, ...]:
        """The initializers as graph inputs, which they must also be before IR version 4."""
        return tuple(
            onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            for tensor in self.initializers
        )


@dataclass(frozen=True)
class SpliceSite:
    """Where in a model a patch is added.

    logits_in, logits_out : names of the tensor that is read and of the one that is written. logits_format :
    of both; weights are cast to its dtype. opset : of the model. prefix : what the name of everything new
    starts with.
    """

    logits_in: str
    logits_out: str
    logits_format: LogitsFormat
    opset: int
    prefix: str


def free_prefix(wish: str, names: Iterable[str]) -> str:
    """A prefix that none of `names` starts with: `wish`, or with _2, _3, ... before its last slash."""
    own = [name for name in names if name.startswith(wish[:-1])]
    prefix, number = wish, 1
    while any(name.startswith(prefix) for name in own):
        number += 1
        prefix = f"{wish[:-1]}_{number}/"
    return prefix


def build_piece(tweak: Tweak, site: SpliceSite) -> Piece:
    """The tweak as nodes that read the taps and the site's `logits_in`, and write its `logits_out`.

    A single logit gets what the patch adds to class 1 minus what it adds to class 0. The same arguments give
    the same bytes.

    Raises ModelError when a weight does not fit into the dtype of the logits.
    """
    build = _Builder(site.prefix, site.opset, site.logits_format.dtype)
    logits, layout = gs.Variable(site.logits_in), site.logits_format.layout
    patch, classes = tweak.patch, tweak.classes
    if site.logits_format.binary:
        patch, classes = patch.for_single_logit(), 1
    if len(tweak.neurons) == 0:
        bias = np.zeros(classes) if patch.output_bias is None else patch.output_bias
        shape = (-1, *(1 for _ in layout.partition("C")[2]))
        build.node("add", "Add", [logits, build.weights("bias", np.reshape(bias, shape))])
        return build.finish(site.logits_out)
    values, order = build.read(tweak.neurons)
    add_nodes = _NODES[type(patch)]
    add_nodes(build, patch, _Inputs(values, order, logits, layout, classes))
    return build.finish(site.logits_out)


def build_slot(taps: Sequence[Tap], site: SpliceSite, *, classes: int, bias: bool, names: str) -> Piece:
    """An empty slot for any linear patch on these taps, filled by feeding arrays or by an adapter.

    The arrays that may be fed are named `names` followed by "index0", "index1", ... (k,) int64 for each tap,
    "weight" (sum of all k, C) and, with `bias`, "bias" (C,). Without taps the slot takes a bias alone.
    """
    build = _Builder(site.prefix, site.opset, site.logits_format.dtype)
    classes = 1 if site.logits_format.binary else classes
    declare, dtype = onnx.helper.make_tensor_value_info, ELEMENT_TYPES[site.logits_format.dtype]
    values, inputs = [], []
    for number, tap in enumerate(taps):
        index = gs.Constant(f"{names}index{number}", np.zeros(0, np.int64))
        inputs.append(declare(index.name, onnx.TensorProto.INT64, [f"{site.prefix}k{number}"]))
        values.append(build.read_tap(f"tap{number}", tap, index))
    numpy_dtype = onnx.helper.tensor_dtype_to_np_dtype(dtype)
    parts: list[gs.Tensor] = []
    if values:
        value = values[0] if len(values) == 1 else build.node("values", "Concat", values, axis=1)
        weight = gs.Constant(f"{names}weight", np.zeros((0, classes), numpy_dtype))
        inputs.append(declare(weight.name, dtype, [f"{site.prefix}k", classes]))
        parts.append(build.node("delta", "MatMul", [value, weight]))
    if bias:
        shift = gs.Constant(f"{names}bias", np.zeros(classes, numpy_dtype))
        inputs.append(declare(shift.name, dtype, [classes]))
        parts.append(shift)
    delta = parts[0] if len(parts) == 1 else build.node("shift", "Add", parts)
    layout, rows = site.logits_format.layout, 0 if values else 1
    build.add(gs.Variable(site.logits_in), delta, layout, rows)
    return replace(build.finish(site.logits_out), inputs=tuple(inputs))


def build_reader(neurons: Neurons, *, opset: int, dtype: str, output: str, prefix: str) -> Piece:
    """Nodes that write the K >= 1 chosen values, (N, K) in the order of `neurons`, to `output` as `dtype`."""
    build = _Builder(prefix, opset, dtype)
    values, order = build.read(neurons)
    if not np.array_equal(order, np.arange(len(order))):
        build.node("order", "Gather", [values, build.index("order/index", np.argsort(order))], axis=1)
    return build.finish(output)


def build_pool(tap: Tap, *, opset: int, dtype: str, output: str, prefix: str) -> Piece:
    """Nodes that write every channel of a pooled tap, (N, channels), to `output` as `dtype`."""
    build = _Builder(prefix, opset, dtype)
    build.read_tap("tap", tap, None)
    return build.finish(output)


def build_columns(name: str, *, opset: int, dtype: str, output: str, prefix: str) -> Piece:
    """Nodes that write a single logit as two columns (N, 2), 0 and itself, to `output`.

    name, dtype : of the logit. The columns are float64 where the logit is, else float32.
    """
    wide = "float64" if dtype == "float64" else "float32"
    build = _Builder(prefix, opset, wide)
    column = build.node("column", "Flatten", [gs.Variable(name)], axis=1)
    if dtype != wide:
        column = build.cast("wide", column, wide)
    pads = [0, 1, 0, 0]
    if opset < 11:
        build.node("pad", "Pad", [column], pads=pads)
    else:
        build.node("pad", "Pad", [column, build.index("pads", pads)])
    return build.finish(output)


class _Builder:
    """A graph under construction. dtype : in which values and weights are computed."""

    def __init__(self, prefix: str, opset: int, dtype: str) -> None:
        self.prefix = prefix
        self.dtype = dtype
        self.graph = gs.Graph(opset=opset)
        self.sources: dict[str, gs.Variable] = {}

    def node(self, name: str, op: str, inputs: Sequence[gs.Tensor], **attributes: object) -> gs.Variable:
        """Append a node; its only output has the node's name."""
        output = gs.Variable(self.prefix + name)
        self.graph.nodes.append(gs.Node(op, output.name, attributes, list(inputs), [output]))
        return output

    def index(self, name: str, values: ArrayLike) -> gs.Constant:
        return gs.Constant(self.prefix + name, np.ascontiguousarray(values, dtype=np.int64))

    def weights(self, name: str, values: np.ndarray) -> gs.Constant:
        with np.errstate(over="ignore"):
            cast = np.ascontiguousarray(values).astype(
                onnx.helper.tensor_dtype_to_np_dtype(ELEMENT_TYPES[self.dtype])
            )
        if not np.isfinite(cast).all():
            raise ModelError(
                f"a weight of the tweak does not fit into {self.dtype}, the type of the model's logits",
                where=self.prefix + name,
                hint="use a smaller --scale",
            )
        return gs.Constant(self.prefix + name, cast)

    def source(self, name: str) -> gs.Variable:
        """A tensor of the base: one variable, no matter how many taps read it."""
        return self.sources.setdefault(name, gs.Variable(name))

    def read(self, neurons: Neurons) -> tuple[gs.Variable, np.ndarray]:
        """The chosen values (N, K), grouped by tap, and `order` (K,) int64: column k is neuron `order[k]`."""
        tap_of = np.asarray(neurons.tap_of)
        index = np.asarray(neurons.index)
        used = [number for number in range(len(neurons.taps)) if (tap_of == number).any()]
        parts = [
            self.read_tap(f"tap{position}", neurons.taps[number], index[tap_of == number])
            for position, number in enumerate(used)
        ]
        values = parts[0] if len(parts) == 1 else self.node("values", "Concat", parts, axis=1)
        return values, np.argsort(tap_of, kind="stable")

    def add(self, logits: gs.Variable, delta: gs.Tensor, layout: str, rows: int = 0) -> None:
        """Add `delta` (N, C) to logits of any layout. rows : N where it is fixed; 0: that of `delta`."""
        if layout not in ("NC", "N1"):
            axes = [-1 if axis == "C" else 1 for axis in layout[1:]]
            shape = self.index("shape", [rows, *axes] if axes else [-1])
            delta = self.node("reshape", "Reshape", [delta, shape])
        self.node("add", "Add", [logits, delta])

    def read_tap(self, name: str, tap: Tap, index: np.ndarray | gs.Constant | None) -> gs.Variable:
        """The neurons `index` of one tap, or all neurons of a pooled one, (N, neurons) as `self.dtype`."""
        value, dtype = self.source(tap.name), tap.dtype
        pooled = tap.pool != "none" and len(tap.shape) > 1
        axis = 1 + tap.channel_axis if pooled else 1
        if pooled and axis == 1 and dtype == "float32":
            # Whole feature maps are pooled in the blocked layout of convolutions; a Gather would undo it.
            value, pooled = self.pool(name, tap, value), False
        elif not pooled and len(tap.shape) != 1:
            value = self.node(f"{name}/flatten", "Flatten", [value], axis=1)
        if index is not None:
            chosen = index if isinstance(index, gs.Constant) else self.index(f"{name}/index", index)
            value = self.node(f"{name}/gather", "Gather", [value, chosen], axis=axis)
        if pooled:
            if dtype != "float32":  # runtimes pool float32 only
                value, dtype = self.cast(f"{name}/float32", value, "float32"), "float32"
            if axis != 1:
                rest = [other for other in range(1, 1 + len(tap.shape)) if other != axis]
                value = self.node(f"{name}/transpose", "Transpose", [value], perm=[0, axis, *rest])
            value = self.pool(name, tap, value)
        return value if dtype == self.dtype else self.cast(f"{name}/cast", value, self.dtype)

    def pool(self, name: str, tap: Tap, value: gs.Tensor) -> gs.Variable:
        """(N, channels, ...) as (N, channels)."""
        value = self.node(f"{name}/pool", _POOL[tap.pool], [value])
        return self.node(f"{name}/flatten", "Flatten", [value], axis=1)

    def cast(self, name: str, value: gs.Tensor, dtype: str) -> gs.Variable:
        """The value as `dtype`."""
        return self.node(name, "Cast", [value], to=int(ELEMENT_TYPES[dtype]))

    def finish(self, output: str) -> Piece:
        """The piece; its last node writes `output`."""
        self.graph.nodes[-1].outputs[0].name = output
        exported = gs.export_onnx(self.graph, do_type_check=False).graph
        return Piece(tuple(exported.node), tuple(exported.initializer))


@dataclass(frozen=True)
class _Inputs:
    """What a patch's nodes read: values (N, K), column k of neuron `order[k]`, and the logits in `layout`."""

    values: gs.Variable
    order: np.ndarray
    logits: gs.Variable
    layout: str
    classes: int


def _synapses(build: _Builder, patch: Synapses, at: _Inputs) -> None:
    """The nodes of a product of two factors, (N, p) and (p, C), which is what the synapses add.

    The cheaper of two ways: a single product with the weights in their classes' columns, or, where that
    matrix would be large and mostly zeros, sums per target first.
    """
    target = np.asarray(patch.target)[at.order]
    weight = np.asarray(patch.weight)[at.order]
    present = np.unique(target)
    single, split = len(target) * at.classes, (len(target) + at.classes) * len(present)
    if single <= _LARGE_MATRIX or single <= split:
        factors = [at.values, build.weights("weight", at_columns(weight, target, at.classes))]
    else:
        per_target = at_columns(weight, np.searchsorted(present, target), len(present))
        sums = build.node("targets", "MatMul", [at.values, build.weights("weight", per_target)])
        factors = [sums, build.weights("class", at_columns(np.ones(len(present)), present, at.classes))]
    if at.layout in ("NC", "N1"):
        build.node("sum", "Gemm", [*factors, at.logits])
    else:
        build.add(at.logits, build.node("delta", "MatMul", factors), at.layout)


def _linear(build: _Builder, patch: Linear, at: _Inputs) -> None:
    weight = build.weights("weight", np.asarray(patch.weight)[at.order])
    delta = build.node("gemm", "Gemm", [at.values, weight, build.weights("bias", patch.bias)])
    build.add(at.logits, delta, at.layout)


def _mlp(build: _Builder, patch: Mlp, at: _Inputs) -> None:
    first = [build.weights("w1", np.asarray(patch.w1)[at.order]), build.weights("b1", patch.b1)]
    hidden = build.node("relu", "Relu", [build.node("gemm1", "Gemm", [at.values, *first])])
    second = [build.weights("w2", patch.w2), build.weights("b2", patch.b2)]
    build.add(at.logits, build.node("gemm2", "Gemm", [hidden, *second]), at.layout)


# The nodes of each form of patch.
_NODES: dict[type[Patch], Callable[[_Builder, Any, _Inputs], None]] = {
    Synapses: _synapses,
    Linear: _linear,
    Mlp: _mlp,
}
