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
from onnxtweak.model.edit.piece_builder import ELEMENT_TYPES, Builder, Piece
from onnxtweak.model.edit.position_nodes import PositionSite, build_position_patch
from onnxtweak.model.logits_format import LogitsFormat
from onnxtweak.patch import Linear, Mlp, Patch, Synapses, Tweak, at_columns
from onnxtweak.types import Neurons, Tap

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
    if len(tweak.neurons) == 0:
        bias = np.zeros(columns) if patch.output_bias is None else patch.output_bias
        if at.scale == "logit":
            shape = (-1, *(1 for _ in at.layout.partition("C")[2]))
            build.node("add", "Add", [logits, build.weights("bias", np.reshape(bias, shape))])
        else:
            build.combine(logits, build.weights("bias", np.reshape(bias, (1, -1))), at)
        return build.finish(site.logits_out)
    if at.at_positions:
        place = PositionSite(site.logits_in, at)
        return build_position_patch(patch, tweak.neurons, place, build, site.logits_out)
    values, order = build.read(tweak.neurons)
    add_nodes = _NODES[type(patch)]
    add_nodes(build, patch, _Inputs(values, order, logits, at, columns))
    return build.finish(site.logits_out)


def on_columns(patch: Patch, classes: int, at: LogitsFormat) -> tuple[Patch, int]:
    """The patch of C classes as one of the tensor's columns, and their number."""
    if at.binary:
        patch = patch.for_single_logit()
        return (patch if at.readout is None or at.readout.sign > 0 else patch.scaled(-1.0)), 1
    if at.readout is None or at.is_plain:
        return patch, classes
    return patch.placed(np.array(at.readout.source, np.int64), at.readout.columns), at.readout.columns


def build_slot(taps: Sequence[Tap], site: SpliceSite, *, classes: int, bias: bool, names: str) -> Piece:
    """An empty slot for any linear patch on these taps, filled by feeding arrays or by an adapter.

    The arrays that may be fed are named `names` followed by "index0", "index1", ... (k,) int64 for each tap,
    "weight" (sum of all k, C) and, with `bias`, "bias" (C,). Without taps the slot takes a bias alone.
    """
    build = Builder(site.prefix, site.opset, site.logits_format.dtype)
    classes = site.logits_format.columns(classes)
    declare, dtype = onnx.helper.make_tensor_value_info, ELEMENT_TYPES[site.logits_format.dtype]
    values, inputs = [], []
    for number, tap in enumerate(taps):
        index = gs.Constant(f"{names}index{number}", np.zeros(0, np.int64))
        inputs.append(declare(index.name, onnx.TensorProto.INT64, [f"{site.prefix}k{number}"]))
        values.append(build.read_tap(f"tap{number}", tap, index))
    numpy_dtype = onnx.helper.tensor_dtype_to_np_dtype(dtype)
    parts: list[gs.Tensor] = []
    if values:
        value = build.joined("values", values)
        weight = gs.Constant(f"{names}weight", np.zeros((0, classes), numpy_dtype))
        inputs.append(declare(weight.name, dtype, [f"{site.prefix}k", classes]))
        parts.append(build.node("delta", "MatMul", [value, weight]))
    if bias:
        shift = gs.Constant(f"{names}bias", np.zeros(classes, numpy_dtype))
        inputs.append(declare(shift.name, dtype, [classes]))
        parts.append(shift)
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
    if readout.scale != "logit":
        least = build.number("least", SMALLEST)
        log = build.node("log", "Log", [build.node("above", "Add", [values, least])])
        if readout.scale == "odds":
            rest = build.node("rest", "Sub", [build.number("one", 1.0), values])
            rest = build.node("rest/log", "Log", [build.node("rest/above", "Add", [rest, least])])
            log = build.node("odds", "Sub", [log, rest])
        values = log
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


@dataclass(frozen=True)
class _Inputs:
    """What a patch's nodes read: values (N, K), column k of neuron `order[k]`, and the logits' columns."""

    values: gs.Variable
    order: np.ndarray
    logits: gs.Variable
    format: LogitsFormat
    columns: int


def _synapses(build: Builder, patch: Synapses, at: _Inputs) -> None:
    """The nodes of a product of two factors, (N, p) and (p, C), which is what the synapses add.

    The cheaper of two ways: a single product with the weights in their classes' columns, or, where that
    matrix would be large and mostly zeros, sums per target first.
    """
    target = np.asarray(patch.target)[at.order]
    weight = np.asarray(patch.weight)[at.order]
    present = np.unique(target)
    single, split = len(target) * at.columns, (len(target) + at.columns) * len(present)
    if single <= _LARGE_MATRIX or single <= split:
        factors = [at.values, build.weights("weight", at_columns(weight, target, at.columns))]
    else:
        per_target = at_columns(weight, np.searchsorted(present, target), len(present))
        sums = build.node("targets", "MatMul", [at.values, build.weights("weight", per_target)])
        factors = [sums, build.weights("class", at_columns(np.ones(len(present)), present, at.columns))]
    if at.format.layout in ("NC", "N1") and at.format.scale == "logit":
        build.node("sum", "Gemm", [*factors, at.logits])
    else:
        build.combine(at.logits, build.node("delta", "MatMul", factors), at.format)


def _linear(build: Builder, patch: Linear, at: _Inputs) -> None:
    weight = build.weights("weight", np.asarray(patch.weight)[at.order])
    delta = build.node("gemm", "Gemm", [at.values, weight, build.weights("bias", patch.bias)])
    build.combine(at.logits, delta, at.format)


def _mlp(build: Builder, patch: Mlp, at: _Inputs) -> None:
    first = [build.weights("w1", np.asarray(patch.w1)[at.order]), build.weights("b1", patch.b1)]
    hidden = build.node("relu", "Relu", [build.node("gemm1", "Gemm", [at.values, *first])])
    second = [build.weights("w2", patch.w2), build.weights("b2", patch.b2)]
    build.combine(at.logits, build.node("gemm2", "Gemm", [hidden, *second]), at.format)


# The nodes of each form of patch.
_NODES: dict[type[Patch], Callable[[Builder, Any, _Inputs], None]] = {
    Synapses: _synapses,
    Linear: _linear,
    Mlp: _mlp,
}
