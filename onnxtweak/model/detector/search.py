"""Where in a graph are a detector's class scores and boxes?

The search starts at each sigmoid and softmax, and goes back over what only moves numbers, to maps whose
scores are joined there; and forward to the outputs that show scores and boxes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from onnx import NodeProto

from onnxtweak.model.detector.layout import Detector
from onnxtweak.model.graph import DEFAULT_DOMAINS, GraphIndex, attribute
from onnxtweak.model.inspect.shapes import known_shape
from onnxtweak.model.logits_format import Level

_MOVING = frozenset(
    {"Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Cast", "Split", "Slice"}
)
_LAYING_OUT = frozenset({"Reshape", "Flatten"})
_NEIGHBOURS = [0, 2, 3, 1]  # of a map's axes, channels last: anchors of a position follow each other
_TWEAKED = "onnxtweak/"  # what names begin with that a splice makes
_MOST_STEPS = 12
_OF_BOX = 4


def find_detector(graph: GraphIndex, logits: str | None = None) -> Detector | None:
    """Scores and boxes of a detector; None for a model that is none, as far as its graph tells.

    logits : the tensor that has to hold the scores; None: any.
    """
    for node in graph.nodes:
        if node.op_type not in ("Sigmoid", "Softmax") or node.domain not in DEFAULT_DOMAINS:
            continue
        if logits is not None and node.input[0] != logits:
            continue
        joined = _joined(graph, node.input[0])
        if joined is None or (node.op_type == "Softmax" and not _over_classes(graph, node, joined)):
            continue
        shown = _shown(graph, node.output[0], joined.class_axis)
        if shown is not None:
            maps = [_map_of(graph, part) for part in joined.parts]
            levels = tuple(Level(*each) for each in maps if each is not None)
            return Detector(node.input[0], node.op_type, joined.class_axis, levels, *shown)
    return None


@dataclass(frozen=True)
class _Joined:
    """Scores of several levels, joined to one tensor (N, C, A) or (N, A, C). parts : of the levels."""

    parts: tuple[str, ...]
    class_axis: int


def _joined(graph: GraphIndex, name: str) -> _Joined | None:
    """The levels behind a tensor; None where it is not joined of several, and nothing else."""
    shape, swapped = known_shape(graph, name), False
    if shape is not None and len(shape) != 3:
        return None
    for _ in range(_MOST_STEPS):
        node = graph.producer(name)
        if node is None:
            return None
        if node.op_type == "Concat" and len(node.input) > 1:
            break
        if node.op_type == "Add" and node.input[0].startswith(_TWEAKED):  # a patch, behind the same scores
            name = node.input[0]
            continue
        if node.op_type not in ("Split", "Slice", "Identity", "Cast", "Transpose"):
            return None
        if node.op_type == "Transpose":
            if list(attribute(node, "perm", [2, 1, 0])) != [0, 2, 1]:
                return None
            swapped = not swapped
        name = node.input[0]
    else:
        return None
    axis = attribute(node, "axis", 1)
    axis = axis + 3 if axis < 0 else axis
    if axis not in (1, 2) or any(_map_of(graph, part) is None for part in node.input):
        return None
    return _Joined(tuple(node.input), axis if swapped else 3 - axis)


def _map_of(graph: GraphIndex, name: str) -> tuple[str, bool] | None:
    """The map that a level's part was laid out from, and whether anchors of a position follow each other."""
    laid_out, neighbours = False, False
    for _ in range(_MOST_STEPS):
        node = graph.producer(name)
        if node is not None and node.op_type == "Concat" and not laid_out:
            name = node.input[-1]  # of boxes and scores, laid out alike
            continue
        if node is None or node.op_type not in _MOVING:
            break
        if node.op_type in ("Split", "Slice") and not laid_out:
            return None
        laid_out |= node.op_type in _LAYING_OUT
        neighbours |= node.op_type == "Transpose" and list(attribute(node, "perm", [])) == _NEIGHBOURS
        name = node.input[0]
    shape = known_shape(graph, name)
    is_map = _convolved(graph, name) if shape is None else len(shape) == 4
    return (name, neighbours) if laid_out and is_map and graph.producer(name) is not None else None


def _convolved(graph: GraphIndex, name: str) -> bool:
    """Whether a tensor is what a convolution gives, or several of them joined."""
    node = graph.producer(name)
    if node is not None and node.op_type == "Concat":
        return all(_convolved(graph, one) for one in node.input)
    return node is not None and node.op_type == "Conv"


def _over_classes(graph: GraphIndex, node: NodeProto, joined: _Joined) -> bool:
    axis = attribute(node, "axis", -1 if graph.opset >= 13 else 1)
    return bool(axis % 3 == joined.class_axis)


def _shown(graph: GraphIndex, scores: str, class_axis: int) -> tuple[str, str, int, int, bool] | None:
    """Outputs of scores and boxes, where each begins, whether boxes are suppressed; None without boxes."""
    outputs = {value.name for value in graph.outputs}
    for name, first, beside in _forward(graph, scores, class_axis):
        if name in outputs and beside:
            return name, name, first, 0, False
        if name in outputs:
            boxes = next((other for other in sorted(outputs) if _holds_boxes(graph, other, name)), None)
            return None if boxes is None else (name, boxes, first, 0, False)
        node = _suppressing(graph, name)
        if node is not None:
            return name, node.input[0], first, 0, True
    return None


def _suppressing(graph: GraphIndex, name: str) -> NodeProto | None:
    """The node that suppresses boxes by scores, as they are or with classes and anchors exchanged."""
    for node in graph.consumers(name):
        if node.op_type == "NonMaxSuppression":
            return node
        if node.op_type == "Transpose" and (found := _suppressing(graph, node.output[0])) is not None:
            return found
    return None


def _forward(graph: GraphIndex, name: str, class_axis: int) -> Iterator[tuple[str, int, bool]]:
    """Tensors that hold the scores, where they begin on the classes' axis, and whether boxes stand before."""
    first, beside = 0, False
    for _ in range(_MOST_STEPS):
        yield name, first, beside
        follows = ("Concat", "Identity", "Cast")
        node = next((one for one in graph.consumers(name) if one.op_type in follows), None)
        if node is None:
            return
        if node.op_type == "Concat":
            if (
                attribute(node, "axis", 1) % 3 != class_axis
                or node.input[0] == name
                or node.input[-1] != name
            ):
                return
            first, beside = _OF_BOX, True
        name = node.output[0]


def _holds_boxes(graph: GraphIndex, output: str, scores: str) -> bool:
    """Whether an output has four numbers for each of many anchors."""
    shape = known_shape(graph, output)
    if output == scores or shape is None or len(shape) not in (3, 4):
        return False
    return shape[-1] == _OF_BOX or (len(shape) == 3 and shape[1] == _OF_BOX)
