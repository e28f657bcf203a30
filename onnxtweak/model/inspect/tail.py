"""Which tensors of a model could its answer be decided by, between its last layer and an output?

From an output the search goes back over operators that compute each sample's answer from its scores: softmax
and sigmoid in any spelling, thresholds, weights, look-ups, choices. A tensor on the way that everything else
passes through is a cut: the output is a function of it, and a patch could be added there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from onnx import NodeProto

from onnxtweak.model.graph import DEFAULT_DOMAINS, GraphIndex
from onnxtweak.model.inspect.softmax import SAME_VALUE

# fmt: off
_TAIL = SAME_VALUE | frozenset(
    {
        "Softmax", "LogSoftmax", "Hardmax", "Sigmoid", "HardSigmoid", "Tanh", "Atan", "Erf", "Softplus",
        "Softsign", "Exp", "Log", "Neg", "Abs", "Reciprocal", "Sqrt", "Pow", "Sign", "Round", "Floor", "Ceil",
        "Clip", "Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean", "Where", "Not", "And", "Or", "Xor",
        "Mod", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal", "ReduceMax", "ReduceMin",
        "ReduceSum", "ReduceMean", "ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceSumSquare",
        "LpNormalization", "ArgMax", "ArgMin", "TopK", "OneHot", "Gather", "GatherElements", "GatherND",
        "Slice", "Split", "Concat", "Pad", "Expand", "Tile", "Reshape", "Flatten", "Squeeze", "Unsqueeze",
        "Transpose", "QuantizeLinear", "DequantizeLinear", "Constant", "ConstantOfShape", "CumSum", "IsNaN",
        "IsInf", "ZipMap", "Normalizer", "LabelEncoder", "ArrayFeatureExtractor", "Scaler", "Binarizer",
        "QLinearSoftmax", "QLinearSigmoid",
    }
)
_LINEAR = frozenset({"Gemm", "MatMul", "Conv", "FusedGemm", "FusedMatMul", "MatMulInteger", "MatMulNBits"})
# Results can be any number where an input can.
_SUMS = SAME_VALUE | frozenset(
    {
        "Add", "Sub", "Sum", "Mean", "Neg", "Round", "Floor", "Ceil", "Scaler", "ReduceMean", "ReduceSum",
        "GlobalAveragePool", "Concat", "Slice", "Gather", "Split", "Reshape", "Flatten", "Squeeze",
        "Unsqueeze", "Transpose", "Expand",
    }
)
_OPEN = frozenset({"Relu", "LeakyRelu", "PRelu", "Elu", "Gelu", "BatchNormalization"})
# fmt: on
_DOMAINS = (*DEFAULT_DOMAINS, "ai.onnx.ml", "com.microsoft")
_MOST_STEPS = 400


def cuts(graph: GraphIndex, output: str) -> tuple[str, ...]:
    """Tensors that everything between the last layer and `output` passes through, the output first.

    The last one is the deepest: what a layer, or anything else that is not part of a tail, computes.
    """
    order = {position: rank for rank, position in enumerate(graph.topological_order())}
    found = [output]
    frontier = {output}
    for _ in range(_MOST_STEPS):
        places = {name: position for name in frontier if (position := graph.position(name)) is not None}
        if len(places) < len(frontier):  # an input of the model
            break
        name = max(places, key=lambda item: order.get(places[item], -1))
        node = graph.nodes[places[name]]
        if not _is_tail(node) or _is_bias(graph, node):
            break
        frontier -= set(node.output)
        needed = {item for item in graph.needs(places[name]) if graph.depends_on_input(item)}
        frontier |= {item for item in needed if not _is_one_number(graph, item)}
        if len(frontier) == 1:
            found.extend(frontier - {found[-1]})
    return tuple(found)


def passed_by_all(graph: GraphIndex, names: Sequence[str]) -> str | None:
    """The one of several tensors that the others are computed from alone, as where only one is scaled."""
    return next((name for name in names if all(name in cuts(graph, other) for other in names)), None)


def last_computed(graph: GraphIndex, names: Sequence[str]) -> str | None:
    """The one of several tensors that is computed from all others: features are not class scores."""
    for name in names:
        needed = graph.ancestors([name])
        if all(graph.position(other) in needed for other in names):
            return name
    return None


def tail_positions(graph: GraphIndex, logits: str, outputs: Sequence[str]) -> set[int]:
    """Positions of the nodes by which `outputs` follow from `logits`."""
    return graph.descendants([logits], through_shapes=False) & graph.ancestors(outputs)


def tail_operators(graph: GraphIndex, logits: str, output: str) -> tuple[str, ...]:
    """Operators between `logits` and `output`, each once, in the order in which they run."""
    within = tail_positions(graph, logits, [output])
    order = [position for position in graph.topological_order() if position in within]
    return tuple(dict.fromkeys(graph.nodes[position].op_type for position in order))


def shown_outputs(graph: GraphIndex, logits: str) -> tuple[str, ...]:
    """The model's outputs that depend on `logits`, or are them."""
    after = graph.descendants([logits], through_shapes=False)
    return tuple(
        value.name for value in graph.outputs if value.name == logits or graph.position(value.name) in after
    )


def ranks_classes(graph: GraphIndex, output: str) -> bool:
    """Whether an output with several numbers per sample lists classes from the best down, as TopK does."""
    return any(node.op_type == "TopK" and name == node.output[1] for node, name in _behind(graph, output))


def names_class(graph: GraphIndex, output: str) -> bool:
    """Whether an output is the class itself, be it written as a floating-point number."""
    return ranks_classes(graph, output) or any(
        node.op_type in ("ArgMax", "ArgMin") for node, _ in _behind(graph, output)
    )


def is_top_value(graph: GraphIndex, output: str, numbers: int) -> bool:
    """Whether an output holds the value of the best class, or of the best few, rather than one per class.

    numbers : of a sample. The largest of several groups is one for each of these.
    """
    return any(
        (node.op_type == "TopK" and name == node.output[0]) or (node.op_type == "ReduceMax" and numbers == 1)
        for node, name in _behind(graph, output)
    )


def is_unbounded(graph: GraphIndex, name: str) -> bool:
    """Whether a tensor can hold any number, wherever its values lie on some samples.

    So it is where nothing but sums, and products with constants, follows on a linear layer. Of operators that
    are not known, and of numbers divided by others that vary, nothing is said.
    """
    seen, frontier = set[str](), [name]
    while frontier:
        current = frontier.pop()
        node = graph.producer(current)
        if node is None or current in seen:
            continue
        seen.add(current)
        if node.op_type in _LINEAR or node.op_type in _OPEN:
            return True
        varying = [item for item in node.input if item and graph.depends_on_input(item)]
        scaled = len(varying) == 1 and (
            node.op_type == "Mul" or (node.op_type == "Div" and varying == [node.input[0]])
        )
        if node.op_type in _SUMS or scaled:
            frontier += varying
    return False


def _is_one_number(graph: GraphIndex, name: str) -> bool:
    """Whether an input of the model is one number for all samples, such as a threshold."""
    return graph.position(name) is None and graph.declared_shape(name) in ((), (1,))


def _behind(graph: GraphIndex, output: str) -> Iterator[tuple[NodeProto, str]]:
    """The producers of an output and their tensors, back over what casts, reshapes, scales or names it."""
    name = output
    for _ in range(_MOST_STEPS):
        node = graph.producer(name)
        if node is None:
            return
        yield node, name
        varying = [item for item in node.input if item and graph.depends_on_input(item)]
        looked_up = node.op_type in _TABLES and len(node.input) > 1 and varying == [node.input[1]]
        if len(varying) != 1 or not (looked_up or node.op_type in _UNCHANGED):
            return
        name = varying[0]


_UNCHANGED = SAME_VALUE | {"Squeeze", "Unsqueeze", "Reshape", "Flatten", "Mul", "Div", "Add", "Sub", "Round"}
_TABLES = frozenset({"Gather", "GatherND", "ArrayFeatureExtractor"})


def _is_tail(node: NodeProto) -> bool:
    return node.op_type in _TAIL and node.domain in _DOMAINS


def _is_bias(graph: GraphIndex, node: NodeProto) -> bool:
    """Whether the node adds a constant to what a linear operator gives."""
    if node.op_type != "Add":
        return False
    varying = [item for item in node.input if graph.depends_on_input(item)]
    source = graph.producer(varying[0]) if len(varying) == 1 else None
    return source is not None and source.op_type in _LINEAR


def positive_class(graph: GraphIndex, names: list[str]) -> str:
    """p where a Concat joins p and 1 - p; "" otherwise."""
    for name in names:
        node = graph.producer(name)
        if node is not None and node.op_type == "Sub" and graph.constant(node.input[0]) is not None:
            rest = [other for other in names if other != name]
            if rest == [node.input[1]]:
                return rest[0]
    return ""
