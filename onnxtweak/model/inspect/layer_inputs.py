"""What do the last layer and the first ones read? The penultimate tensor, and the front.

Most models begin with layers on what they are given. Others prepare it themselves, a sound as a spectrogram,
a picture scaled: that is the front. The layers after it keep only what their scores have needed.
"""

from __future__ import annotations

from collections.abc import Iterable

from onnx import NodeProto

from onnxtweak.model.graph import GraphIndex

# fmt: off
_PASSED_OVER = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze", "Dropout", "Identity", "Cast"})
_BEHIND_LINEAR = _PASSED_OVER | frozenset(
    {
        "Relu", "GlobalAveragePool", "AveragePool", "ReduceMean", "Add", "Sub", "Mul", "Div", "Transpose",
        "QuantizeLinear", "DequantizeLinear",
    }
)
_LINEAR = frozenset(
    {
        "Gemm", "MatMul", "Conv", "FusedGemm", "FusedMatMul", "MatMulInteger", "MatMulNBits", "QGemm",
        "QLinearMatMul", "QLinearConv",
    }
)
# fmt: on


def penultimate_name(graph: GraphIndex, logits: str) -> str | None:
    """The tensor that feeds the last linear operator before the logits; None when there is no single one.

    Bias, activation and pooling after the linear operator (Gemm, MatMul, Conv) are skipped, and so are
    Flatten, Reshape, Dropout and the like before it. None also when the operator reads the input itself.
    """
    name = logits
    node = graph.producer(name)
    while node is not None and node.op_type not in _LINEAR:
        sources = _varying(graph, node)
        if node.op_type not in _BEHIND_LINEAR or len(sources) != 1:
            return None
        node = graph.producer(sources[0])
    if node is None:
        return None
    sources = [name for name in _varying(graph, node) if name == node.input[0]]
    if len(sources) != len(_varying(graph, node)):
        return None
    name = sources[0]
    over = _PASSED_OVER | {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"}
    while (node := graph.producer(name)) is not None and node.op_type in over:
        name = node.input[0]
    return name if node is not None else None


def front_names(graph: GraphIndex, activations: Iterable[str]) -> frozenset[str]:
    """What the layers of the first activations read, where that is not an input of the model.

    activations : names of tensors. The first are those that are not computed from another.
    """
    names = tuple(activations)
    later = graph.descendants(names)
    first = (name for name in names if graph.position(name) not in later)
    return frozenset(read for name in first if (read := penultimate_name(graph, name)) is not None)


def _varying(graph: GraphIndex, node: NodeProto) -> list[str]:
    return [name for name in dict.fromkeys(node.input) if name and graph.depends_on_input(name)]
