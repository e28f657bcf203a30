"""Which axis of a hidden tensor is its channel axis?"""

from __future__ import annotations

from collections.abc import Iterable

from onnx import NodeProto

from onnxtweak.model.graph import GraphIndex, attribute

# fmt: off
_FIRST = frozenset(
    {
        "Conv", "ConvTranspose", "BatchNormalization", "MaxPool", "AveragePool", "InstanceNormalization",
        "GroupNormalization", "LRN", "FusedConv", "GlobalAveragePool", "GlobalMaxPool",
    }
)
# fmt: on
_LAST = frozenset({"Gemm", "MatMul", "LayerNormalization"})


def find_channels_last(graph: GraphIndex, order: Iterable[int]) -> dict[str, bool]:
    """By name, for tensors that come from a layer: True where channels are the last axis, False for axis 1.

    order : positions in topological order. Convolutions and the like have channels on axis 1; linear layers,
    layer normalisation and embeddings on the last; a Transpose moves the axis; everything else keeps it.
    """
    last: dict[str, bool] = {}
    for position in order:
        node = graph.nodes[position]
        operator = node.op_type
        side = next((last[name] for name in node.input if name in last), None)
        if operator in _FIRST:
            side = False
        elif operator in _LAST or (operator == "Gather" and side is None):
            side = True
        elif operator == "Transpose":
            side = _transposed(node, side)
        if side is not None:
            last.update(dict.fromkeys(node.output, side))
    return last


def channel_axis(shape: tuple[int, ...], channels_last: bool | None) -> int:
    """Channel axis of one sample's shape. Where it is unknown: 0 for (C, H, W), 1 for (T, D)."""
    if channels_last is None:
        channels_last = len(shape) == 2
    return len(shape) - 1 if channels_last else 0


def _transposed(node: NodeProto, side: bool | None) -> bool | None:
    order: list[int] = list(attribute(node, "perm", []))
    if side is None or not order:
        return None
    return order[-1] == (len(order) - 1 if side else 1)
