"""Which maps do joined anchors come from, and which levels have sigmoids of their own before that?"""

from __future__ import annotations

from dataclasses import dataclass

from onnx import NodeProto

from onnxtweak.model.graph import DEFAULT_DOMAINS, GraphIndex, attribute
from onnxtweak.model.inspect.shapes import known_shape
from onnxtweak.model.logits_format import Level

TWEAKED = "onnxtweak/"  # what names begin with that a splice makes
_MOVING = frozenset(
    {"Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Cast", "Split", "Slice"}
)
_LAYING_OUT = frozenset({"Reshape", "Flatten"})
_PARTS = frozenset({"Split", "Slice"})
_NEIGHBOURS = [0, 2, 3, 1]  # of a map's axes, channels last: anchors of a position follow each other
_MOST_STEPS = 12
_OF_BOX = 4


def level_map(graph: GraphIndex, name: str) -> Level | None:
    """The map that a level's part was laid out from; None where there is none."""
    laid_out, neighbours = False, False
    for _ in range(_MOST_STEPS):
        node = graph.producer(name)
        if node is not None and node.op_type == "Concat" and not laid_out:
            name = node.input[-1]  # of boxes and scores, laid out alike
            continue
        if node is None or node.op_type not in _MOVING:
            break
        if node.op_type in _PARTS and not laid_out:
            return None
        laid_out |= node.op_type in _LAYING_OUT
        neighbours |= _puts_channels_last(node)
        name = node.input[0]
    return Level(name, neighbours) if laid_out and _is_map(graph, name) else None


@dataclass(frozen=True)
class JoinedLevels:
    """What is joined of levels that have their own sigmoids.

    first_score : where the classes begin, behind numbers of boxes. objectness : whether the column before
    them is that of any object.
    """

    levels: tuple[Level, ...]
    class_axis: int
    first_score: int
    objectness: bool


def joined_levels(graph: GraphIndex, node: NodeProto) -> JoinedLevels | None:
    """The levels that a node joins; None where it does not join scores of levels."""
    axis = attribute(node, "axis", 1)
    if node.op_type != "Concat" or node.domain not in DEFAULT_DOMAINS or len(node.input) < 2:
        return None
    if axis not in (1, 2, -1, -2):
        return None
    found = [each for part in node.input if (each := _with_sigmoid(graph, part)) is not None]
    if len(found) < len(node.input) or len({(one.first_score, one.objectness) for one in found}) > 1:
        return None
    levels = tuple(one.level for one in found)
    return JoinedLevels(levels, 3 - axis % 3, found[0].first_score, found[0].objectness)


def as_tweaked(graph: GraphIndex, name: str) -> str:
    """The tensor that has taken the place of one, where a tweak inside the file writes it instead."""
    while name.startswith(TWEAKED):
        prefix = name[: name.rindex("/") + 1]
        written = (
            output
            for node in graph.nodes
            if node.name.startswith(prefix)
            for output in node.output
            if not output.startswith(prefix)
        )
        other = next(written, None)
        if other is None:
            return name
        name = other
    return name


@dataclass(frozen=True)
class _OneLevel:
    """A level with its own sigmoid; the rest as of `JoinedLevels`."""

    level: Level
    first_score: int
    objectness: bool


def _with_sigmoid(graph: GraphIndex, name: str) -> _OneLevel | None:
    """What a part of joined scores is, from its layout back to its map; None where it is no level."""
    laid_out = neighbours = sigmoid = whole = False
    first = behind = 0
    for _ in range(2 * _MOST_STEPS):
        node = graph.producer(name)
        if node is None:
            break
        if node.op_type == "Concat" and not sigmoid:
            if first or len(node.input) < 2:
                return None
            first, behind = _OF_BOX, len(node.input)
            name = node.input[-1]
            whole = _through_sigmoid(graph, node.input[-2])
        elif node.op_type == "ScatterND" and not sigmoid:  # boxes are written over what they are decoded from
            first, name = _OF_BOX, node.input[0]
        elif node.op_type == "Sigmoid" and not sigmoid:
            sigmoid, name = True, node.input[0]
        elif node.op_type == "Mul" and not sigmoid and not first:  # by the score of any object
            own = [one for one in node.input if _through_sigmoid(graph, one)]
            if not own:
                return None
            name = own[-1]
        elif node.op_type in _MOVING:
            if node.op_type in _PARTS and not sigmoid:
                whole = True  # one sigmoid for boxes and scores
            laid_out |= node.op_type in _LAYING_OUT
            neighbours |= _puts_channels_last(node)
            name = node.input[0]
        else:
            break
    if not (laid_out and sigmoid and _is_map(graph, name)):
        return None
    objectness = bool(first) and (whole or not behind)
    return _OneLevel(Level(name, neighbours), first + objectness, objectness)


def _through_sigmoid(graph: GraphIndex, name: str) -> bool:
    """Whether a tensor is what a sigmoid gives, as it is or moved."""
    for _ in range(_MOST_STEPS):
        node = graph.producer(name)
        if node is None or (node.op_type not in _MOVING and node.op_type != "Sigmoid"):
            return False
        if node.op_type == "Sigmoid":
            return True
        name = node.input[0]
    return False


def _puts_channels_last(node: NodeProto) -> bool:
    return node.op_type == "Transpose" and list(attribute(node, "perm", [])) == _NEIGHBOURS


def _is_map(graph: GraphIndex, name: str) -> bool:
    shape = known_shape(graph, name)
    known = _convolved(graph, name) if shape is None else len(shape) == 4
    return known and graph.producer(name) is not None


def _convolved(graph: GraphIndex, name: str) -> bool:
    """Whether a tensor is what a convolution gives, or several of them joined."""
    node = graph.producer(name)
    if node is not None and node.op_type == "Concat":
        return all(_convolved(graph, one) for one in node.input)
    return node is not None and node.op_type == "Conv"
