"""Which nodes and initializers are added to a model, to read chosen neurons or to add a patch to the logits?

Every piece is a graph of its own (`onnxtweak.model.edit.piece_builder`); the user's model never passes
through onnx-graphsurgeon.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from onnxtweak.head import SMALLEST, Readout
from onnxtweak.model.edit.piece_builder import ELEMENT_TYPES, Builder, Piece, placed
from onnxtweak.model.edit.positions.level_nodes import build_level_patch
from onnxtweak.model.edit.positions.position_nodes import add_slot_at_positions, build_position_patch
from onnxtweak.model.edit.positions.read_nodes import PositionSite, read_at_positions
from onnxtweak.model.logits_format import LogitsFormat
from onnxtweak.patch import Linear, Mlp, Patch, Synapses, Tweak, at_columns
from onnxtweak.types import Neurons, Tap

# Which nodes a patch becomes: recorded, because only the same form gives the same bytes again.
PIECE_FORM = 4
_LARGE_MATRIX = 1 << 16  # numbers; below it one MatMul is cheaper than two


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
    at = site.logits_format
    build = Builder(site.prefix, site.opset, at.dtype)
    logits = gs.Variable(site.logits_in)
    patch, columns = on_columns(tweak.patch, tweak.classes, at)
    if at.levels:
        place, form = PositionSite(site.logits_in, at), patch.as_linear(columns) or patch
        assert isinstance(form, Linear | Mlp)  # every other form is linear
        return build_level_patch(form, tweak.neurons, place, build, site.logits_out)
    if len(tweak.neurons) == 0:
        bias = np.zeros(columns) if patch.output_bias is None else patch.output_bias
        bias = bias if at.readout is None or not at.readout.rest else bias[at.readout.places]
        if at.scale == "logit":
            shape = (-1, *(1 for _ in at.layout.partition("C")[2]))
            build.node("add", "Add", [logits, build.weights("bias", np.reshape(bias, shape))])
        else:
            build.combine(logits, build.weights("bias", np.reshape(bias, (1, -1))), at)
        return build.finish(site.logits_out)
    if at.at_positions:
        place = PositionSite(site.logits_in, at)
        linear = patch.as_linear(columns)
        return build_position_patch(linear or patch, tweak.neurons, place, build, site.logits_out)
    delta = _DELTAS[type(patch)](build, patch, tweak.neurons, columns)
    build.combine(logits, delta, at)
    return build.finish(site.logits_out)


def on_columns(patch: Patch, classes: int, at: LogitsFormat) -> tuple[Patch, int]:
    """The patch of C classes as one of the tensor's columns, and their number."""
    if at.binary:
        patch = patch.for_single_logit()
        return (patch if at.readout is None or at.readout.sign > 0 else patch.scaled(-1.0)), 1
    spread = at.readout is not None and (at.readout.rest or (at.levels and at.scale == "odds"))
    if at.readout is None or at.is_plain or spread:  # whose nodes spread what they add themselves
        return patch, classes
    return patch.placed(np.array(at.readout.source, np.int64), at.readout.columns), at.readout.columns


def build_slot(taps: Sequence[Tap], site: SpliceSite, *, classes: int, bias: bool, names: str) -> Piece:
    """An empty slot for any linear patch on these taps, filled by feeding arrays or by an adapter.

    The arrays that may be fed are named `names` followed by "index0", "index1", ... (k,) int64 for each tap,
    "weight" (sum of all k, C) and, with `bias`, "bias" (C,). Without taps the slot takes a bias alone. Empty
    means one neuron of each tap with a weight of zero: some runtimes misread arrays without numbers.
    """
    at = site.logits_format
    build, place = Builder(site.prefix, site.opset, at.dtype), PositionSite(site.logits_in, at)
    classes = classes if at.readout is not None and at.readout.rest else at.columns(classes)
    declare, dtype = onnx.helper.make_tensor_value_info, ELEMENT_TYPES[site.logits_format.dtype]
    values, inputs = [], []
    for number, tap in enumerate(taps):
        index = gs.Constant(f"{names}index{number}", np.zeros(1, np.int64))
        inputs.append(declare(index.name, onnx.TensorProto.INT64, [f"{site.prefix}k{number}"]))
        name = f"tap{number}"
        read = read_at_positions(build, place, name, tap, index) if at.at_positions else None
        values.append(build.read_tap(name, tap, index) if read is None else read)
    numpy_dtype = onnx.helper.tensor_dtype_to_np_dtype(dtype)
    value = weight = shift = None
    if values:
        value = build.joined("values", values)
        weight = gs.Constant(f"{names}weight", np.zeros((len(taps), classes), numpy_dtype))
        inputs.append(declare(weight.name, dtype, [f"{site.prefix}k", classes]))
    if bias:
        shift = gs.Constant(f"{names}bias", np.zeros(classes, numpy_dtype))
        inputs.append(declare(shift.name, dtype, [classes]))
    if at.at_positions:
        add_slot_at_positions(build, place, value, weight, shift)
        return replace(build.finish(site.logits_out), inputs=tuple(inputs))
    parts: list[gs.Tensor] = [] if value is None else [build.node("delta", "MatMul", [value, weight])]
    parts += [] if shift is None else [shift]
    delta = parts[0] if len(parts) == 1 else build.node("shift", "Add", parts)
    build.combine(gs.Variable(site.logits_in), delta, site.logits_format, 0 if values else 1)
    return replace(build.finish(site.logits_out), inputs=tuple(inputs))


def build_reader(neurons: Neurons, *, opset: int, dtype: str, output: str, prefix: str) -> Piece:
    """Nodes that write the K >= 1 chosen values, (N, K) in the order of `neurons`, to `output` as `dtype`."""
    build = Builder(prefix, opset, dtype)
    build.in_order(*build.read(neurons))
    return build.finish(output)


def build_pool(tap: Tap, *, opset: int, dtype: str, output: str, prefix: str) -> Piece:
    """Nodes that write every channel of a pooled tap, (N, channels), to `output` as `dtype`."""
    build = Builder(prefix, opset, dtype)
    build.read_tap("tap", tap, None)
    return build.finish(output)


def build_scores(name: str, at: LogitsFormat, *, opset: int, output: str, prefix: str) -> Piece:
    """Nodes that write the classes' scores Z (N, C) of a tensor to `output`, as its readout has them.

    at : layout, dtype and readout of the tensor. Without a readout it is a single logit, whose scores are 0
    and itself. Scores are float64 where the tensor is, else float32.
    """
    wide = "float64" if at.dtype == "float64" else "float32"
    build = Builder(prefix, opset, wide)
    values = build.node("column", "Flatten", [gs.Variable(name)], axis=1)
    if at.dtype != wide:
        values = build.cast("wide", values, wide)
    readout = at.readout or Readout.plain(1)
    if readout.scale == "odds":
        values = build.log_odds(values)
    elif readout.scale == "probability":
        least = build.number("least", SMALLEST)
        values = build.node("log", "Log", [build.node("above", "Add", [values, least])])
    if readout.sign < 0:
        values = build.node("negative", "Neg", [values])
    if readout.single:
        pads = [0, 1, 0, 0]
        if opset < 11:
            values = build.node("pad", "Pad", [values], pads=pads)
        else:
            values = build.node("pad", "Pad", [values, build.index("pads", pads)])
    elif readout.source != tuple(range(readout.columns)):
        values = build.node("classes", "Gather", [values, build.index("source", readout.source)], axis=1)
    if any(readout.offset):
        offset = build.weights("offset", np.array([readout.offset], np.float64))
        build.node("scores", "Add", [values, offset])
    return build.finish(output)


def _synapses(build: Builder, patch: Synapses, neurons: Neurons, columns: int) -> gs.Tensor:
    """What synapses add, (N, C): a product with their weights in their targets' columns.

    Or, where that matrix would be large and mostly zeros, the sums per target first.
    """
    target, weight = np.asarray(patch.target), np.asarray(patch.weight)
    present = np.unique(target)
    values, column, width = build.read_for(neurons, len(present))
    single, split = width * columns, (width + columns) * len(present)
    if single <= _LARGE_MATRIX or single <= split:
        return _product(
            build, ("delta", "weight"), values, placed(at_columns(weight, target, columns), column, width)
        )
    per_target = at_columns(weight, np.searchsorted(present, target), len(present))
    sums = _product(build, ("targets", "weight"), values, placed(per_target, column, width))
    return _product(build, ("delta", "class"), sums, at_columns(np.ones(len(present)), present, columns))


def _linear(build: Builder, patch: Linear, neurons: Neurons, columns: int) -> gs.Tensor:
    values, column, width = build.read_for(neurons, columns)
    weight = placed(np.asarray(patch.weight), column, width)
    return _layer(build, ("product", "weight"), values, weight, ("delta", "bias"), patch.bias)


def _mlp(build: Builder, patch: Mlp, neurons: Neurons, columns: int) -> gs.Tensor:
    values, column, width = build.read_for(neurons, len(patch.b1))
    first = placed(np.asarray(patch.w1), column, width)
    hidden = _layer(build, ("product1", "w1"), values, first, ("shifted", "b1"), patch.b1)
    hidden = build.node("relu", "Relu", [hidden])
    return _layer(build, ("product2", "w2"), hidden, np.asarray(patch.w2), ("delta", "b2"), patch.b2)


def _product(build: Builder, names: tuple[str, str], values: gs.Tensor, weight: np.ndarray) -> gs.Variable:
    """names : of the node and of its weights.

    Not a Gemm: quantisers make a MatMul of it, under a name by which nobody can exclude it, and OpenCV reads
    none that adds what was computed.
    """
    return build.node(names[0], "MatMul", [values, build.weights(names[1], weight)])


def _layer(
    build: Builder,
    product: tuple[str, str],
    values: gs.Tensor,
    weight: np.ndarray,
    shift: tuple[str, str],
    bias: np.ndarray,
) -> gs.Variable:
    """A product and a bias; product, shift : names of the node and of its array."""
    return build.node(
        shift[0], "Add", [_product(build, product, values, weight), build.weights(shift[1], bias)]
    )


# What each form of patch adds.
_DELTAS: dict[type[Patch], Callable[[Builder, Any, Neurons, int], gs.Tensor]] = {
    Synapses: _synapses,
    Linear: _linear,
    Mlp: _mlp,
}
