"""What is a model, as far as its graph tells: a classifier, or something else that ends in a row of numbers?

A guess, and worded as one. `inspect` says it, and the commands that take labels compare it with them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from onnx import NodeProto

from onnxtweak.model.detector.layout import Detector
from onnxtweak.model.graph import GraphIndex, attribute, bodies
from onnxtweak.model.inspect.batch import positions_first
from onnxtweak.model.inspect.logits import Logits
from onnxtweak.model.logits_format import NO_AXIS

Kind = Literal[
    "one label",
    "several labels",
    "one number",
    "embedding",
    "positions",
    "several labels at positions",
    "boxes",
]

_CHOOSING = frozenset({"ArgMax", "TopK", "Normalizer", "Hardmax"})
_SIGMOIDS = frozenset({"Sigmoid", "QLinearSigmoid", "HardSigmoid"})
_BETWEEN = frozenset(
    {"Clip", "Max", "Add", "Expand", "Identity", "Unsqueeze", "Reshape", "Sqrt", "Pow", "Cast"}
)
_DEPTH = 8  # nodes between a norm and the division by it


@dataclass(frozen=True)
class HeadKind:
    """kind : the guess. said : a sentence about anything but a plain classifier, else empty."""

    kind: Kind
    said: str = ""


def head_kind(graph: GraphIndex, logits: Logits, detector: Detector | None = None) -> HeadKind:
    """What the model looks like. logits, detector : as they were found in its graph."""
    if detector is not None:
        inside = ". The model suppresses boxes itself: they are read before that"
        joined = " and ".join(f"`{output}`" for output in detector.outputs)
        return HeadKind(
            "boxes",
            f"a detector: class scores and boxes of anchors on {len(detector.levels)} levels, shown in "
            f"{joined}. Labels are boxes: COCO JSON, folders `images` and `labels` as YOLO has them, or "
            "arrays `x` and `boxes` (docs/howto/boxes.md)" + (inside if detector.shown.suppressed else ""),
        )
    if positions_first(graph, logits.name):
        return HeadKind(
            "positions",
            "its scores count positions first and samples second, [T, N, C], which is not supported: export "
            "it with samples first, [N, T, C]",
        )
    if logits.rule != "given" and (boxes := _boxes_beside(graph)) is not None:
        return HeadKind(
            "positions",
            f"it looks like a detector, with {boxes}, but its scores are at no positions of maps,"
            " as in DETR, or not shown as docs/howto/boxes.md lists: boxes are not supported as its labels",
        )
    shape = logits.shape
    single = logits.axis == NO_AXIS
    if logits.at_positions or single or (logits.axis is not None and shape is not None and len(shape) > 2):
        several = logits.rule == "before Sigmoid" or logits.classes == 1 or single
        return HeadKind("several labels at positions" if several else "positions")
    if logits.layout is None and shape is not None and len(shape) > 2:
        text = "x".join("?" if size is None else str(size) for size in shape)
        return HeadKind(
            "positions",
            f"this looks like scores at many positions (shape {text}), as segmentation and detection have: "
            "say which axis counts the classes with --class-axis",
        )
    if _has_unit_length(graph, logits):
        return HeadKind(
            "embedding",
            f"this looks like an embedding: `{logits.output}` is scaled to length 1. It is used as class "
            f"scores only if you name it, with --logits {logits.name}",
        )
    if logits.binary:
        if logits.rule != "the output itself":
            return HeadKind("one label")
        return HeadKind(
            "one number",
            f"`{logits.output}` is one number per sample without a sigmoid: it counts as the logit of two "
            "classes, positive for class 1. If it is a quantity (a regression), onnxtweak cannot improve it",
        )
    behind = [graph.nodes[p] for p in graph.descendants([logits.name], through_shapes=False)]
    sigmoid = any(node.op_type in _SIGMOIDS for node in graph.consumers(logits.name))
    if sigmoid and not any(node.op_type in _CHOOSING for node in behind) and not _sums(behind):
        classes = "each class" if logits.classes is None else f"each of {logits.classes} classes"
        return HeadKind(
            "several labels",
            f"this looks like several labels at once: a sigmoid for {classes}. Labels of shape "
            f"(N, {logits.classes or 'C'}), 1, 0 and -1 for unknown, are taken as that; with one class for "
            "each sample, the class with the highest score is the one answer",
        )
    return HeadKind("one label")


def _boxes_beside(graph: GraphIndex) -> str | None:
    """What shows boxes: an output called so, with four numbers of each thing of which another output has
    scores, or a suppression of boxes."""
    if _suppress(graph.nodes):
        return "a NonMaxSuppression"
    shapes = {value.name: graph.declared_shape(value.name) or () for value in graph.outputs}
    rows = {name: shape for name, shape in shapes.items() if len(shape) == 3 and shape[1] is not None}
    for boxes, shape in rows.items():
        beside = any(name != boxes and other[1] == shape[1] for name, other in rows.items())
        if beside and shape[2] == 4 and "box" in boxes.lower():
            return f"boxes in `{boxes}`"
    return None


def _suppress(nodes: Iterable[NodeProto]) -> bool:
    """Whether boxes are suppressed, by these nodes or within them."""
    return any(
        node.op_type == "NonMaxSuppression" or any(_suppress(body.node) for body in bodies(node))
        for node in nodes
    )


def _sums(behind: list[NodeProto]) -> bool:
    """Whether scores are divided by their sum, as a classifier of one class against the others does."""
    kinds = {node.op_type for node in behind}
    return "Div" in kinds and bool(kinds & {"ReduceSum", "ReduceL1", "Sum"})


def _has_unit_length(graph: GraphIndex, logits: Logits) -> bool:
    """Whether the output was divided by its Euclidean norm and nothing chooses a class from it."""
    if logits.rule != "the output itself":
        return False
    node = graph.producer(logits.output)
    while node is not None and node.op_type in ("Identity", "Cast", "Reshape", "Flatten", "Squeeze"):
        node = graph.producer(node.input[0])
    if node is None:
        return False
    if node.op_type == "LpNormalization":
        return attribute(node, "p", 2) == 2
    if node.op_type == "Mul":
        return any(_is_norm(graph, name, inverted=True) for name in node.input)
    return node.op_type == "Div" and _is_norm(graph, node.input[1])


def _is_norm(graph: GraphIndex, name: str, *, inverted: bool = False) -> bool:
    """Whether a tensor is a Euclidean norm, or one over it."""
    rooted = False
    for _ in range(_DEPTH):
        node = graph.producer(name)
        if node is None:
            return False
        if node.op_type == "ReduceL2":
            return not inverted
        if node.op_type == "Reciprocal":
            inverted = False
        elif node.op_type in ("ReduceSum", "ReduceSumSquare"):
            return rooted and not inverted
        elif node.op_type in ("Sqrt", "Pow"):
            rooted = True
        elif node.op_type not in _BETWEEN:
            return False
        varying = [item for item in node.input if item and graph.depends_on_input(item)]
        if not varying:
            return False
        name = varying[0]
    return False
