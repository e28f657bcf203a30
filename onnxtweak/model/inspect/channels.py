"""Which axis of a hidden tensor is its channel axis? And of scores, which one counts the labels?

A layer with one channel that gives many scores a sample gives one at each position: of each pixel, frame, or
frame and pitch, whatever shape they are brought into afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable

from onnx import NodeProto

from onnxtweak.model.graph import GraphIndex, attribute
from onnxtweak.model.inspect.shapes import Shape
from onnxtweak.model.logits_format import NO_AXIS, class_axis_of

# fmt: off
_FIRST = frozenset(
    {
        "Conv", "ConvTranspose", "BatchNormalization", "MaxPool", "AveragePool", "InstanceNormalization",
        "GroupNormalization", "LRN", "FusedConv", "GlobalAveragePool", "GlobalMaxPool",
    }
)
# fmt: on
_LAST = frozenset({"Gemm", "MatMul", "LayerNormalization"})

# fmt: off
_PASSING = frozenset(
    {
        "Add", "Sub", "Mul", "Identity", "Cast", "Transpose", "BatchNormalization", "Reshape", "Flatten",
        "Squeeze", "Unsqueeze", "Resize", "Upsample",
    }
)
# fmt: on
_KEEPING = frozenset({"Add", "Sub", "Mul", "Identity", "Cast", "BatchNormalization", "Resize", "Upsample"})
_LAYERS = frozenset({"Conv", "ConvTranspose", "MatMul"})
_MOVING = frozenset({"Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze"})


def find_channels_last(graph: GraphIndex, order: Iterable[int]) -> dict[str, bool]:
    """By name, for tensors of layers: True where channels are the last axis, False where they are axis 1.

    order : positions in topological order. Convolutions and the like have channels on axis 1; linear layers,
    layer normalisation and embeddings on the last; a Transpose moves the axis; everything else keeps it. What
    the first layers read has its channels where they want them.
    """
    last: dict[str, bool] = {}
    order = tuple(order)
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
    for node in (graph.nodes[position] for position in order):
        if node.op_type in _FIRST:
            last.setdefault(node.input[0], False)
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


def label_axis(graph: GraphIndex, name: str, shape: Shape) -> tuple[int | None, Shape]:
    """The axis of the labels in scores before a sigmoid, where positions have them; and the scores' shape.

    name, shape : of the scores, as far as the file tells, batch axis first. None where each sample has one
    row of scores; `NO_AXIS` where each position has a single one, and no axis of size 1 stands for it. Of an
    image it is the channels, as `class_axis_of` has it, else the first axis; of other scores the one axis
    whose size is fixed, else the last. A size of 1 that only the last layer tells is filled in.
    """
    places = range(1, len(shape))
    wide = sum(shape[axis] != 1 for axis in places)
    if wide and (kept := _single_channel(graph, name)) is not None:
        axis = next((axis for axis in places if shape[axis] == 1), NO_AXIS)
        if axis == NO_AXIS and kept and len(shape) > 2 and not isinstance(shape[kept], int):
            axis = kept % len(shape)
            shape = (*shape[:axis], 1, *shape[axis + 1 :])
        return axis, shape
    if wide < 2:
        return None, shape
    if (found := class_axis_of(shape, None)) is not None:
        return found, shape
    fixed = [axis for axis in places if isinstance(shape[axis], int) and shape[axis] != 1]
    return fixed[0] if len(fixed) == 1 else 1 if len(shape) == 4 else len(shape) - 1, shape


def layer_axis(graph: GraphIndex, name: str, shape: Shape) -> tuple[int | None, Shape]:
    """The axis of the classes in scores that nothing decides over: the channels of their last layer.

    name, shape : as of `label_axis`. None where no convolution or linear layer is found without a reshaping,
    and for one row of scores a sample. A number of channels that only the layer tells is filled in.
    """
    if sum(size != 1 for size in shape[1:]) < 2:
        return None, shape
    axes = list(range(len(shape)))  # of the tensor that is looked at, for each of the scores
    while (node := graph.producer(name)) is not None and node.input:
        if node.op_type == "Transpose" and len(order := list(attribute(node, "perm", []))) == len(axes):
            axes = [order[axis] for axis in axes]
        elif node.op_type in _LAYERS:
            weight = graph.constant(node.input[1]) if len(node.input) > 1 else None
            if weight is None or weight.ndim < 2:
                return None, shape
            place = 1 if node.op_type in _FIRST else len(axes) - 1
            count = weight.shape[int(node.op_type == "ConvTranspose") if place == 1 else -1]
            axis = axes.index(place)
            known = (*shape[:axis], count, *shape[axis + 1 :]) if not isinstance(shape[axis], int) else shape
            return (axis if axis and count > 1 else None), known
        elif node.op_type not in _KEEPING:
            break
        varying = [item for item in node.input if item and graph.depends_on_input(item)]
        name = node.input[0] if node.op_type in ("Resize", "Upsample") else varying[0]
    return None, shape


def _single_channel(graph: GraphIndex, name: str) -> int | None:
    """Whether the last layer before a tensor has a single channel: its axis, or 0 where that was moved."""
    moved = False
    while (node := graph.producer(name)) is not None:
        varying = [item for item in node.input if item and graph.depends_on_input(item)]
        if node.op_type in _PASSING and (len(varying) == 1 or node.op_type == "Add"):
            moved |= node.op_type in _MOVING
            name = varying[0]  # what is added has as many channels
            continue
        weight = graph.constant(node.input[1]) if len(node.input) > 1 and len(varying) == 1 else None
        if weight is None:
            return None
        if node.op_type in ("Conv", "ConvTranspose"):
            over, axis = (0 if node.op_type == "Conv" else 1), 1
        elif node.op_type in ("MatMul", "Gemm") and weight.ndim == 2:
            over, axis = (0 if node.op_type == "Gemm" and attribute(node, "transB", 0) else 1), -1
        else:
            return None
        if weight.shape[over] != 1:
            return None
        return 0 if moved else axis
    return None
