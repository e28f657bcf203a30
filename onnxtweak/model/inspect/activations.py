"""Which tensors are activations, the outputs of a layer's non-linearity?

A single operator (Relu, Gelu, ...) is the easy case. Exporters also expand activations: x * sigmoid(x),
x * clip(x + 3) / 6, 0.5 x (1 + erf(x / sqrt 2)), its tanh form, x * tanh(softplus(x)). There the last product
is the activation, and what leads to it is not. A gate that scales the channels of another map
(squeeze-and-excite) is not an activation, nor is anything it is computed with.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from onnx import NodeProto

from onnxtweak.model.graph import GraphIndex, attribute

# fmt: off
_ALWAYS = frozenset(
    {
        "Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "ThresholdedRelu", "Gelu", "HardSwish", "Swish",
        "Mish", "Softplus", "Softsign", "Tanh", "Sigmoid", "HardSigmoid", "FastGelu", "QuickGelu", "BiasGelu",
        "SplitGelu", "BiasSplitGelu",
    }
)
_ELEMENTWISE = frozenset(
    {
        "Add", "Sub", "Mul", "Div", "Pow", "Neg", "Abs", "Sqrt", "Cast", "Identity", "Min", "Max", "Clip",
        "Relu", "Sigmoid", "Tanh", "Erf", "Softplus", "Exp", "Log",
    }
)
_RESHAPING = frozenset(
    {"Reshape", "Unsqueeze", "Squeeze", "Flatten", "Transpose", "Expand", "Identity", "Cast"}
)
_POOLING = frozenset(
    {"GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax", "ReduceSum", "AveragePool", "MaxPool"}
)
_LAYERS = frozenset({"Conv", "Gemm", "MatMul", "BatchNormalization", "LayerNormalization", "Concat"})
# fmt: on
_QUANTISED_ACTIVATIONS = frozenset({"QLinearLeakyRelu", "QLinearSigmoid"})
_QUANTISED = _QUANTISED_ACTIVATIONS | {
    "QLinearConv", "QLinearMatMul", "QLinearAdd", "QLinearMul", "QGemm", "QLinearAveragePool",
    "QLinearGlobalAveragePool", "QLinearConcat",
}  # fmt: skip
# Which input is the zero point of what a layer, or a quantisation after it, writes.
_ZERO_POINT = {"QLinearConv": 7, "QLinearMatMul": 7, "QLinearAdd": 7, "QGemm": 8, "QuantizeLinear": 2}
_CLIPPING = _QUANTISED_ACTIVATIONS | _ZERO_POINT.keys()
_CLIPPED_AFTER = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "BatchNormalization"})
_MOVING = frozenset(
    {
        "MaxPool",
        "Flatten",
        "Reshape",
        "Transpose",
        "Squeeze",
        "Unsqueeze",
        "Identity",
        "Slice",
        "Concat",
        "Pad",
    }
)
_FUSED = frozenset({"FusedConv", "FusedGemm"})
_INNER = frozenset({"Erf"})
_GATES = frozenset({"Sigmoid", "HardSigmoid", "Clip"})
_LARGEST_BOUND = 1000.0
_STEPS = 8


def find_activations(graph: GraphIndex) -> frozenset[str]:
    """Names of all activations of the main graph that vary with the input."""
    ends: set[str] = set()
    inside_gates: set[int] = set()
    for position, node in enumerate(graph.nodes):
        if not _is_start(graph, node) or not graph.depends_on_input(node.output[0]):
            continue
        product = _gated_by_itself(graph, node)
        if product is not None:
            ends.add(product)
        elif node.op_type in _INNER or (node.op_type == "Clip" and not _is_bounded(graph, node)):
            continue
        elif node.op_type in _GATES and (product := _product_with_other(graph, node)) is not None:
            branch = _pooled_branch(graph, position)
            inside_gates |= branch
            if not branch:
                ends.add(product if node.op_type != "Clip" else node.output[0])
        else:
            ends.add(node.output[0])
    found = {name for name in ends if graph.position(name) not in inside_gates} | _clipped(graph)
    return frozenset(_dequantised(graph, name) for name in found)


def find_quantised(graph: GraphIndex, order: Iterable[int]) -> frozenset[str]:
    """Integer tensors that hold a layer's quantised values, or those moved about. order : topological."""
    found: set[str] = set()
    for position in order:
        node = graph.nodes[position]
        if node.op_type in _QUANTISED or (node.op_type in _MOVING and node.input[0] in found):
            found.add(node.output[0])
    return frozenset(found)


def _clipped(graph: GraphIndex) -> set[str]:
    """Outputs of layers whose quantisation has no values below zero: quantisers fold a ReLU into that."""
    found = set()
    for node in graph.nodes:
        if node.op_type not in _CLIPPING:
            continue
        name, source = node.output[0], graph.producer(node.input[0]) if node.input else None
        if node.op_type == "QuantizeLinear":
            if source is None or source.op_type not in _CLIPPED_AFTER:
                continue
            name = node.input[0]
        clipped = node.op_type in _ZERO_POINT and _starts_at_zero(graph, node, _ZERO_POINT[node.op_type])
        if (clipped or node.op_type in _QUANTISED_ACTIVATIONS) and graph.depends_on_input(name):
            found.add(name)
    return found


def _starts_at_zero(graph: GraphIndex, node: NodeProto, position: int) -> bool:
    """Whether the zero point, input `position`, is the least value of its type."""
    if position >= len(node.input) or not node.input[position]:
        return node.op_type == "QuantizeLinear" and not attribute(node, "output_dtype", 0)  # 0 of uint8
    zero = graph.constant(node.input[position])
    if zero is None or zero.size != 1 or zero.dtype not in (np.uint8, np.int8, np.uint16, np.int16):
        return False
    return bool(zero.reshape(-1)[0] == np.iinfo(zero.dtype).min)


def _dequantised(graph: GraphIndex, name: str) -> str:
    """What later layers read of an activation that is quantised at once: the tensor after DequantizeLinear.

    Runtimes fuse what lies before it, so that it does not exist as floating-point numbers.
    """
    readers = graph.consumers(name)
    if len(readers) == 1 and readers[0].op_type == "QuantizeLinear":
        name, readers = readers[0].output[0], graph.consumers(readers[0].output[0])
    back = [node for node in readers if node.op_type == "DequantizeLinear"]
    return back[0].output[0] if back else name


def _is_start(graph: GraphIndex, node: NodeProto) -> bool:
    if node.op_type in _ALWAYS or node.op_type in _INNER or node.op_type == "Clip":
        return True
    if node.op_type in _FUSED:
        return bool(attribute(node, "activation", ""))
    return node.op_type == "Max" and _is_relu_as_max(graph, node)


def _is_bounded(graph: GraphIndex, node: NodeProto) -> bool:
    """A Clip that shapes values (at zero, or between moderate bounds) rather than guards against overflow."""
    low, high = (_bound(graph, node, name, position) for name, position in (("min", 1), ("max", 2)))
    if low == 0:
        return True
    return low is not None and high is not None and max(abs(low), abs(high)) <= _LARGEST_BOUND


def _bound(graph: GraphIndex, node: NodeProto, name: str, position: int) -> float | None:
    """A bound of a Clip: an attribute in old opsets, input `position` in new ones; None without one."""
    value = attribute(node, name)
    if value is None and len(node.input) > position and node.input[position]:
        constant = graph.constant(node.input[position])
        value = None if constant is None or constant.size != 1 else constant.reshape(-1)[0]
    return None if value is None else float(value)


def _is_relu_as_max(graph: GraphIndex, node: NodeProto) -> bool:
    """Max(x, 0), unless it only keeps a variance from being negative."""
    constants = [graph.constant(name) for name in node.input if not graph.depends_on_input(name)]
    if len(node.input) != 2 or len(constants) != 1 or constants[0] is None or np.any(constants[0]):
        return False
    name = node.output[0]
    for _ in range(_STEPS):
        reader = _sole_reader(graph, name)
        if reader is None or reader.op_type in ("Sqrt", "Pow"):
            return reader is None
        if reader.op_type not in _RESHAPING | {"Add", "Mul"} or len(_varying(graph, reader)) != 1:
            return True
        name = reader.output[0]
    return True


def _gated_by_itself(graph: GraphIndex, node: NodeProto) -> str | None:
    """The product at the end of x * f(x), where `node` is the inner part of f; None for anything else."""
    name = node.output[0]
    for _ in range(_STEPS):
        reader = _sole_reader(graph, name)
        if reader is None or reader.op_type not in _ELEMENTWISE:
            return None
        others = [item for item in _varying(graph, reader) if item != name]
        if others:
            if reader.op_type != "Mul":
                return None
            if not _elementwise_sources(graph, node.input[0]) & _elementwise_sources(graph, others[0]):
                return None
            return _scaled(graph, reader.output[0])
        name = reader.output[0]
    return None


def _product_with_other(graph: GraphIndex, node: NodeProto) -> str | None:
    """The product of which `node`, a gate, is a factor, perhaps reshaped or scaled on the way; else None."""
    name = node.output[0]
    for _ in range(_STEPS):
        reader = _sole_reader(graph, name)
        if reader is None:
            return None
        others = [item for item in _varying(graph, reader) if item != name]
        if others:
            return reader.output[0] if reader.op_type == "Mul" else None
        if reader.op_type not in _RESHAPING | {"Add", "Mul", "Div"}:
            return None
        name = reader.output[0]
    return None


def _pooled_branch(graph: GraphIndex, gate: int) -> set[int]:
    """Nodes from a pooling to the gate, where all that the gate is computed from was pooled; else empty."""
    branch = {gate}
    waiting = _varying(graph, graph.nodes[gate])
    pooled = False
    while True:
        inside = [
            n for n in waiting if set(graph.consumer_positions(n)) <= branch and not graph.is_captured(n)
        ]
        if not inside:
            return branch if pooled else set()
        name = inside[0]
        waiting.remove(name)
        position = graph.position(name)
        if position is None:
            continue
        node = graph.nodes[position]
        if node.op_type in _POOLING:
            pooled = True
        elif node.op_type in _LAYERS | _ELEMENTWISE | _RESHAPING | _ALWAYS:
            waiting.extend(item for item in _varying(graph, node) if item not in waiting)
        else:
            continue
        branch.add(position)


def _scaled(graph: GraphIndex, name: str) -> str:
    """The tensor after multiplication or division by a number: the 0.5 of a GELU, the 6 of a hard swish."""
    for _ in range(2):
        reader = _sole_reader(graph, name)
        if reader is None or reader.op_type not in ("Mul", "Div"):
            return name
        constants = [graph.constant(item) for item in reader.input if item != name]
        if len(constants) != 1 or constants[0] is None or constants[0].size != 1:
            return name
        name = reader.output[0]
    return name


def _elementwise_sources(graph: GraphIndex, name: str) -> set[str]:
    """The tensor and what it is computed from elementwise, a few nodes back."""
    found = {name}
    waiting = [name]
    while waiting and len(found) < 2 * _STEPS:
        node = graph.producer(waiting.pop(0))
        if node is None or node.op_type not in _ELEMENTWISE:
            continue
        for item in _varying(graph, node):
            if item not in found:
                found.add(item)
                waiting.append(item)
    return found


def _varying(graph: GraphIndex, node: NodeProto) -> list[str]:
    return [name for name in dict.fromkeys(node.input) if name and graph.depends_on_input(name)]


def _sole_reader(graph: GraphIndex, name: str) -> NodeProto | None:
    readers = graph.consumers(name)
    alone = len(readers) == 1 and not graph.is_captured(name)
    return readers[0] if alone and all(value.name != name for value in graph.outputs) else None
