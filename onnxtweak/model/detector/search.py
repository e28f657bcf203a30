"""Where in a graph are a detector's class scores and boxes?

The search starts at each sigmoid and softmax, and goes back over what only moves numbers, to maps whose
scores are joined there; and forward to the outputs that show scores and boxes. Where no scores are joined
before a sigmoid, each level may have sigmoids of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from onnx import NodeProto

from onnxtweak.model.detector.layout import Detector, ShownAt
from onnxtweak.model.detector.levels import TWEAKED, as_tweaked, joined_levels, level_map
from onnxtweak.model.graph import DEFAULT_DOMAINS, GraphIndex, attribute
from onnxtweak.model.inspect.shapes import constant_ints, known_shape

_MOST_STEPS = 16
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
            maps = [level_map(graph, part) for part in joined.parts]
            levels = tuple(each for each in maps if each is not None)
            return Detector(node.input[0], node.op_type, joined.class_axis, levels, shown)
    for node in graph.nodes:
        found = joined_levels(graph, node)
        if found is None:
            continue
        name = as_tweaked(graph, node.output[0])
        if logits is not None and name != logits:
            continue
        shown = _shown(graph, name, found.class_axis, found.first_score)
        if shown is not None:
            where = name, "Sigmoids", found.class_axis, found.levels, shown
            return Detector(*where, found.first_score, found.objectness)
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
        if node.op_type == "Add" and node.input[0].startswith(TWEAKED):  # a patch, behind the same scores
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
    if axis not in (1, 2) or any(level_map(graph, part) is None for part in node.input):
        return None
    return _Joined(tuple(node.input), axis if swapped else 3 - axis)


def _over_classes(graph: GraphIndex, node: NodeProto, joined: _Joined) -> bool:
    axis = attribute(node, "axis", -1 if graph.opset >= 13 else 1)
    return bool(axis % 3 == joined.class_axis)


def _shown(graph: GraphIndex, scores: str, class_axis: int, first: int = 0) -> ShownAt | None:
    """Where scores and boxes can be read; None without boxes.

    first : where the classes begin on their axis. Boxes stand before them, or in another output.
    """
    outputs = {value.name for value in graph.outputs}
    for name, axis, begin in _forward(graph, scores, class_axis, first):
        if name not in outputs:
            continue
        begin -= _cut_off(graph, name, axis)
        if begin >= _OF_BOX:
            return ShownAt(name, name, axis, begin)
        boxes = next((other for other in sorted(outputs) if _holds_boxes(graph, other, name)), None)
        return None if boxes is None else ShownAt(name, boxes, axis, begin)
    node = _suppressing(graph, scores)
    if node is None:
        return None
    if first:
        return ShownAt(scores, scores, class_axis, first, True)
    before = _boxes_before(graph, node, scores)
    return None if before is None else ShownAt(scores, before, class_axis, suppressed=True)


def _cut_off(graph: GraphIndex, name: str, axis: int) -> int:
    """How many numbers before the classes were cut off where a tensor was made, such as boxes."""
    for _ in range(_MOST_STEPS):
        node = graph.producer(name)
        if node is None or node.op_type not in ("Identity", "Cast", "Transpose", "Slice", "Split"):
            return 0
        if node.op_type == "Transpose":
            axis = 3 - axis
        if node.op_type == "Split" and attribute(node, "axis", 0) % 3 == axis:
            sizes = constant_ints(graph, node, "split", 1) or ()
            return sum(sizes[: list(node.output).index(name)])
        if node.op_type == "Slice":
            starts, axes = (constant_ints(graph, node, *of) or () for of in (("starts", 1), ("axes", 3)))
            return sum(max(start, 0) for start, own in zip(starts, axes, strict=False) if own % 3 == axis)
        name = node.input[0]
    return 0


def _suppressing(graph: GraphIndex, name: str) -> NodeProto | None:
    """The node that suppresses boxes by what is computed from a tensor."""
    behind = (graph.nodes[place] for place in sorted(graph.descendants([name], through_shapes=False)))
    return next((node for node in behind if node.op_type == "NonMaxSuppression"), None)


def _boxes_before(graph: GraphIndex, node: NodeProto, scores: str) -> str | None:
    """The boxes of all anchors that a suppression reads, before scores change or choose them; None without.

    So without shifts that keep boxes of several classes apart.
    """
    own, after = node.input[0], graph.descendants([scores], through_shapes=False)
    if graph.position(own) not in after:
        return str(own)
    for place in sorted(graph.ancestors([own]) & after):
        for name in graph.needs(place):
            shape = known_shape(graph, name)
            fits = shape is None or (len(shape) == 3 and _OF_BOX in shape[1:])
            alone = name != scores and graph.position(name) not in after
            if fits and alone and graph.depends_on_input(name):
                return name
    return None


def _forward(graph: GraphIndex, name: str, class_axis: int, first: int) -> Iterator[tuple[str, int, int]]:
    """Tensors that hold the scores, the classes' axis in each, and where they begin there."""
    waiting, seen = [(name, class_axis, first)], set[str]()
    while waiting and len(seen) < _MOST_STEPS:
        name, axis, begin = waiting.pop(0)
        if name in seen:
            continue
        seen.add(name)
        yield name, axis, begin
        for node in graph.consumers(name):
            found = None if _ends_before(graph, node, axis, begin) else _passed_on(node, name, axis, begin)
            if found is not None:
                waiting.append(found)


def _ends_before(graph: GraphIndex, node: NodeProto, axis: int, begin: int) -> bool:
    """Whether a node takes only what stands before the classes, which begin there."""
    if node.op_type != "Slice":
        return False
    ends, axes = (constant_ints(graph, node, *of) or () for of in (("ends", 2), ("axes", 3)))
    return any(0 < end <= begin and own % 3 == axis for end, own in zip(ends, axes, strict=False))


def _passed_on(node: NodeProto, name: str, axis: int, begin: int) -> tuple[str, int, int] | None:
    """What a node makes of scores, if it only moves them: as `_forward` has it.

    Decoded boxes are put before the scores again, or written over those that stood there.
    """
    op, output = node.op_type, node.output[0] if node.output else ""
    if op in ("Identity", "Cast"):
        return output, axis, begin
    if op == "Transpose":
        return (output, 3 - axis, begin) if list(attribute(node, "perm", [])) == [0, 2, 1] else None
    if op == "Concat":
        last = len(node.input) > 1 and node.input[-1] == name != node.input[0]
        along = attribute(node, "axis", 1) % 3 == axis
        return (output, axis, begin or _OF_BOX) if last and along else None
    if begin and op in ("Slice", "Split"):
        return node.output[-1], axis, begin
    return (output, axis, begin) if begin and op == "ScatterND" and node.input[0] == name else None


def _holds_boxes(graph: GraphIndex, output: str, scores: str) -> bool:
    """Whether an output has four numbers for each of many anchors."""
    shape = known_shape(graph, output)
    if output == scores or shape is None or len(shape) not in (3, 4):
        return False
    return shape[-1] == _OF_BOX or (len(shape) == 3 and shape[1] == _OF_BOX)
