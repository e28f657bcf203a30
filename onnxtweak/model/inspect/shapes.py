"""Which shape does a tensor certainly have, as far as the file tells?

Declared shapes and the last few operators before a tensor are read; ONNX shape inference is not used, because
it can be wrong on real models and silently returns nothing on large ones. Shapes of taps are measured by
running the model; these shapes serve to find the logits before anything runs.
"""

from __future__ import annotations

from math import prod

from onnx import NodeProto

from onnxtweak.model.graph import DEFAULT_DOMAINS, GraphIndex, attribute

Shape = tuple[int | str | None, ...]

# fmt: off
ELEMENTWISE = frozenset(
    {
        "Identity", "Cast", "CastLike", "Dropout", "QuantizeLinear", "DequantizeLinear", "Softmax",
        "LogSoftmax", "Hardmax", "Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Clip", "Gelu",
        "HardSwish", "HardSigmoid", "Swish", "Tanh", "Sigmoid", "Softplus", "Softsign", "Mish",
        "ThresholdedRelu", "PRelu", "Neg", "Abs", "Exp", "Log", "Sqrt", "Erf", "Reciprocal",
        "BatchNormalization", "LayerNormalization", "InstanceNormalization", "LpNormalization",
    }
)
# fmt: on
BROADCASTING = frozenset({"Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Where", "Pow"})
GLOBAL_POOLS = frozenset({"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"})
_DEPTH = 16


def known_shape(graph: GraphIndex, name: str, depth: int = _DEPTH) -> Shape | None:
    """Shape of a tensor, batch axis included: a number, a symbol or None per axis; None for an unknown rank.

    depth : how many nodes to go back at most.
    """
    declared = graph.declared_shape(name)
    node = graph.producer(name)
    if declared is not None and all(isinstance(size, int) for size in declared[1:]):
        return declared
    derived = None
    if node is not None and depth > 0 and node.domain in DEFAULT_DOMAINS:
        derived = _after(graph, node, depth - 1)
    if declared is None or derived is None or len(declared) != len(derived):
        return declared if declared is not None else derived
    return tuple(
        derived_size if isinstance(derived_size, int) and not isinstance(size, int) else size
        for size, derived_size in zip(declared, derived, strict=True)
    )


def shape_before(graph: GraphIndex, name: str, output: str) -> Shape | None:
    """The shape of a tensor as an output declares it, with which only elementwise nodes and transpositions
    between them lie; None where others do."""
    declared = graph.declared_shape(output)
    places, at = list(range(len(declared or ()))), output
    while declared is not None and at != name:
        node = graph.producer(at)
        if node is None or node.domain not in DEFAULT_DOMAINS or not node.input:
            return None
        if node.op_type == "Transpose":
            order = attribute(node, "perm", list(reversed(range(len(places)))))
            if sorted(order) != sorted(places):
                return None
            places = [places[order.index(axis)] for axis in range(len(places))]
        elif node.op_type not in ELEMENTWISE:
            return None
        at = node.input[0]
    return None if declared is None else tuple(declared[place] for place in places)


def constant_ints(graph: GraphIndex, node: NodeProto, name: str, position: int) -> tuple[int, ...] | None:
    """Integers that are an attribute in old opsets, input `position` in new ones; None when not constant."""
    value = attribute(node, name)
    if value is None and len(node.input) > position:
        constant = graph.constant(node.input[position])
        value = None if constant is None else constant.reshape(-1).tolist()
    if value is None:
        return None
    return tuple(int(item) for item in (value if isinstance(value, (list, tuple)) else [value]))


def _after(graph: GraphIndex, node: NodeProto, depth: int) -> Shape | None:
    if node.op_type == "Constant":
        return graph.constant_shape(node.output[0])
    if not node.input:
        return None
    first = known_shape(graph, node.input[0], depth)
    if node.op_type in ELEMENTWISE:
        return first
    if node.op_type in BROADCASTING:
        return _broadcast([known_shape(graph, item, depth) for item in node.input if item])
    if node.op_type == "Gemm":
        weight = graph.constant_shape(node.input[1])
        rows = first[0] if first and len(first) == 2 and not attribute(node, "transA", 0) else None
        return rows, None if weight is None else weight[0 if attribute(node, "transB", 0) else 1]
    if node.op_type == "MatMul":
        weight = graph.constant_shape(node.input[1])
        return None if first is None or weight is None or len(weight) != 2 else (*first[:-1], weight[1])
    if node.op_type == "Conv":
        weight = graph.constant_shape(node.input[1])
        if weight is None:
            return None
        return (first[0] if first else None, weight[0], *_convolved(node, first, weight))
    if node.op_type in GLOBAL_POOLS and first is not None:
        return (*first[:2], *(1 for _ in first[2:]))
    if node.op_type in ("AveragePool", "MaxPool", "LpPool") and first is not None:
        return (*first[:2], *(None for _ in first[2:]))
    return _reshaped(graph, node, first)


def _reshaped(graph: GraphIndex, node: NodeProto, first: Shape | None) -> Shape | None:
    if node.op_type == "Flatten":
        rest = first[1:] if first is not None and attribute(node, "axis", 1) == 1 else (None,)
        sizes = [size for size in rest if isinstance(size, int)]
        return first[0] if first else None, prod(sizes) if len(sizes) == len(rest) else None
    if node.op_type == "Reshape":
        target = constant_ints(graph, node, "shape", 1)
        if target is None:
            return _target_rank(graph, node)
        kept = first if first is not None and not attribute(node, "allowzero", 0) else ()
        return tuple(
            kept[axis] if size == 0 and axis < len(kept) else size if size > 0 else None
            for axis, size in enumerate(target)
        )
    if first is None:
        return None
    if node.op_type == "Transpose":
        order = attribute(node, "perm", list(reversed(range(len(first)))))
        return tuple(first[axis] for axis in order) if len(order) == len(first) else None
    if node.op_type in ("Squeeze", "Unsqueeze"):
        axes = constant_ints(graph, node, "axes", 1)
        if axes is None:
            return None
        if node.op_type == "Squeeze":
            gone = {axis % len(first) for axis in axes}
            return tuple(size for axis, size in enumerate(first) if axis not in gone)
        rank = len(first) + len(axes)
        new = {axis % rank for axis in axes}
        old = iter(first)
        return tuple(1 if axis in new else next(old) for axis in range(rank))
    if node.op_type in ("ReduceMean", "ReduceMax", "ReduceSum"):
        axes = constant_ints(graph, node, "axes", 1)
        if axes is None:
            return None
        gone = {axis % len(first) for axis in axes}
        if attribute(node, "keepdims", 1):
            return tuple(1 if axis in gone else size for axis, size in enumerate(first))
        return tuple(size for axis, size in enumerate(first) if axis not in gone)
    return None


def _target_rank(graph: GraphIndex, node: NodeProto) -> Shape | None:
    """Reshape to a computed shape: where it is a Concat of single numbers, their count is the rank."""
    source = graph.producer(node.input[1]) if len(node.input) > 1 else None
    while source is not None and source.op_type in ("Cast", "Identity"):
        source = graph.producer(source.input[0])
    if source is None or source.op_type != "Concat":
        return None
    sizes: list[int | None] = []
    for part in source.input:
        value = graph.constant(part)
        sizes.extend([None] if value is None else [int(v) if v > 0 else None for v in value.reshape(-1)])
    return tuple(sizes)


def _convolved(node: NodeProto, first: Shape | None, weight: tuple[int, ...]) -> Shape:
    """Spatial sizes after a convolution: kept exactly where it is 1x1 with stride 1 and no padding."""
    plain = (
        all(size == 1 for size in weight[2:])
        and all(step == 1 for step in attribute(node, "strides", []))
        and not any(attribute(node, "pads", []))
    )
    if first is not None and plain and len(first) == len(weight):
        return first[2:]
    return tuple(None for _ in weight[2:])


def _broadcast(inputs: list[Shape | None]) -> Shape | None:
    shapes = [shape for shape in inputs if shape is not None]
    if len(shapes) < len(inputs):
        return None
    rank = max(map(len, shapes))
    sizes: list[int | str | None] = []
    for axis in range(rank):
        here = [s[axis - rank + len(s)] for s in shapes if axis - rank + len(s) >= 0]
        wide = [size for size in here if isinstance(size, int) and size != 1]
        unknown = [size for size in here if not isinstance(size, int)]
        sizes.append(wide[0] if wide else unknown[0] if unknown else 1)
    return tuple(sizes)


def is_state(graph: GraphIndex, output: str) -> bool:
    """Whether an output has the shape of one of several inputs, as states that are handed on have."""
    shapes = [graph.declared_shape(value.name) for value in graph.inputs]
    shape = graph.declared_shape(output)
    return len(shapes) > 1 and shape is not None and len(shape) > 2 and shape in shapes
