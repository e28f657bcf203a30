"""Which models find objects? Small ones that know one colour badly, with pictures of coloured squares.

A picture has four quarters, some of which hold a square: a small, bright one or a large, darker one, in red,
green or blue. The net has two levels, of 4 x 4 and 2 x 2 anchors, and takes green ones for blue.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from onnxtweak.boxes.average_precision import Found
from onnxtweak.boxes.suppression import Detections, suppressed
from onnxtweak.boxes.truth import Truth
from tests.support.nets import NetBuilder
from tests.support.plain_session import plain_session

KINDS = ("joined", "rows", "apart", "background", "two-anchors", "suppressed", "agnostic")
# With sigmoids of each level: as YOLOv5 has it, and YOLOX, whose boxes may be decoded outside.
LATER = ("level-sigmoids", "yolov5", "yolov5-suppressed", "yolox", "yolox-decoded", "yolox-suppressed")
CLASSES, LACKING, SIZE = 3, 2, 32
_LEVELS = ((8, 0.75, 14.0), (16, 0.375, 28.0))  # stride, cut and slope


@dataclass(frozen=True)
class Finder:
    """A model and its samples. x (N, 3, 32, 32). boxes (B, 6) : sample, class, left, top, right, bottom."""

    model: Path
    data: Path
    x: np.ndarray
    boxes: np.ndarray

    def outputs(self, path: Path | None = None) -> list[np.ndarray]:
        """Scores and boxes of the file, or of another, as ONNX Runtime gives them."""
        model = onnx.load(path or self.model)
        if self.model.stem.endswith(("suppressed", "agnostic")):
            names = ("rows",) if self.model.stem.startswith("yolo") else ("scores", "boxes")
            del model.graph.output[:]
            model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        session = plain_session(model.SerializeToString())
        return session.run(None, {"x": self.x})

    def precision(self, path: Path | None = None) -> np.ndarray:
        """AP of each class at each overlap, (T, C), of a file's own output."""
        boxes, scores = by_hand(self.model.stem, self.outputs(path))
        shown = Detections.joined(suppressed(*each) for each in zip(boxes, scores, strict=True))
        truth = Truth.of([self.boxes[self.boxes[:, 0] == k, 1:] for k in range(len(self.x))])
        return Found.of(shown, truth, range(CLASSES)).average_precision()


def by_hand(kind: str, outputs: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Corners (N, A, 4) and scores (N, A, 3) of a file's outputs."""
    if kind in ("joined", "yolov5") or kind.startswith("yolox"):
        rows = outputs[0].transpose(0, 2, 1) if kind == "joined" else outputs[0]
        centre, size, scores = rows[..., :2], rows[..., 2:4], rows[..., 4:]
        if kind != "joined":
            scores = rows[..., 5:] * rows[..., 4:5]
        if kind.startswith("yolox"):
            cell, stride = cells()
            centre, size = (centre + cell) * stride, np.exp(size) * stride
        return np.concatenate([centre - size / 2, centre + size / 2], axis=-1), scores
    scores, boxes = outputs
    if kind == "apart":
        return boxes[..., [1, 0, 3, 2]] * SIZE, scores
    return (boxes, scores) if kind == "agnostic" else (boxes, scores[..., 1:])


def finder(kind: str, folder: Path, samples: int = 160, seed: int = 0) -> Finder:
    """One of `KINDS` or `LATER`, saved in a folder with its samples."""
    x, boxes = pictures(samples, seed)
    model, data = folder / f"{kind}.onnx", folder / f"{kind}.npz"
    onnx.save(_with_sigmoids(kind) if kind in LATER else _model(kind), model)
    np.savez(data, x=x, boxes=boxes)
    return Finder(model, data, x, boxes)


def pictures(samples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x, boxes = rng.normal(0, 0.05, (samples, 3, SIZE, SIZE)), []
    for k in range(samples):
        for quarter in np.flatnonzero(rng.random(4) < 0.6):
            corner, colour, large = (
                np.array([quarter % 2, quarter // 2]) * 16,
                rng.integers(3),
                rng.random() < 0.5,
            )
            left, top = corner if large else corner + 8 * rng.integers(0, 2, 2)
            side = 16 if large else 8
            paint = rng.uniform(0, 0.6, 3)
            paint[colour] = 1.0
            x[k, :, top : top + side, left : left + side] += (paint * (0.6 if large else 1.1))[:, None, None]
            boxes.append((k, colour, left, top, left + side - rng.uniform(0, 1.5), top + side))
    return x.astype(np.float32), np.array(boxes, np.float32)


def _model(kind: str) -> onnx.ModelProto:
    net = NetBuilder()
    several = 2 if kind == "two-anchors" else 1
    columns = CLASSES + (kind in ("background", "two-anchors"))
    maps, corners = [], []
    for stride, cut, slope in _LEVELS:
        mean = np.zeros((6, 3, stride, stride))
        for channel in range(3):
            mean[channel, channel], mean[channel + 3, channel] = 1 / stride**2, -1 / stride**2
        hidden = net.op("Conv", "x", net.const(mean), kernel_shape=[stride] * 2, strides=[stride] * 2)
        hidden = net.op("Relu", hidden)
        weight = np.zeros((several, columns, 6))
        bias = np.full((several, columns), -slope * cut)
        own = np.array([[1, 0, 0], [0, 1, 0], [0, 0.8, 0.2]]) * slope
        weight[:, columns - CLASSES :, :3] = own
        if columns > CLASSES:
            bias[:, 0] = 0
        if several == 2:  # the second anchor of a position is smaller, and never right
            bias[1, 1:] -= 30
        scores = net.op(
            "Conv",
            hidden,
            net.const(weight.reshape(-1, 6, 1, 1)),
            net.const(bias.reshape(-1)),
            kernel_shape=[1, 1],
        )
        maps.append((hidden, scores))
        steps = np.arange(SIZE // stride) * stride
        top, left = (each.reshape(-1) for each in np.meshgrid(steps, steps, indexing="ij"))
        sides = np.stack([left, top, left + stride, top + stride], 1)
        smaller = np.stack([left, top, left + stride / 4, top + stride / 4], 1)
        corners.append(np.stack([sides, smaller][:several], 1).reshape(-1, 4))
    boxes = np.concatenate(corners)
    across = kind == "joined"
    parts = [_laid_out(net, scores, columns, across=across) for _, scores in maps]
    nothing = [net.op("Conv", hidden, net.const(np.zeros((4 * several, 6, 1, 1)))) for hidden, _ in maps]
    placed = [_laid_out(net, one, 4, across=across) for one in nothing]
    axis = 2 if across else 1
    if across:
        parts = [net.op("Concat", b, s, axis=1) for b, s in zip(placed, parts, strict=True)]
        whole = net.op("Concat", *parts, axis=2)
        zeros = net.op(
            "Slice", whole, net.const([0], np.int64), net.const([4], np.int64), net.const([1], np.int64)
        )
        logits = net.op(
            "Slice", whole, net.const([4], np.int64), net.const([99], np.int64), net.const([1], np.int64)
        )
    else:
        zeros, logits = net.op("Concat", *placed, axis=axis), net.op("Concat", *parts, axis=axis)
    declared = {"x": (TensorProto.FLOAT, ["N", 3, SIZE, SIZE])}
    if kind in ("joined", "rows"):
        centres = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], 1)
        shown = net.op("Add", zeros, net.const((centres.T if across else centres)[None]))
        net.op("Concat", shown, net.op("Sigmoid", logits), axis=1 if across else 2, name="found")
        return net.model(declared, {"found": (TensorProto.FLOAT, [None] * 3)})
    parts = boxes[:, [1, 0, 3, 2]] / SIZE if kind == "apart" else boxes
    net.op("Add", zeros, net.const(parts[None]), name="boxes")
    if kind == "agnostic":
        return _best_alone(net, declared, net.op("Sigmoid", logits, name="scores"))
    if kind == "suppressed":
        each = net.op("Transpose", net.op("Sigmoid", logits, name="scores"), perm=[0, 2, 1])
        most, least = net.const(20, np.int64), net.const(0.25)
        net.op("NonMaxSuppression", "boxes", each, most, net.const(0.5), least, name="found")
        return net.model(declared, {"found": (TensorProto.INT64, [None, 3])})
    if kind == "apart":
        net.op("Sigmoid", logits, name="scores")
    else:
        net.op("Softmax", logits, axis=2, name="scores")
    kinds = {
        "scores": (TensorProto.FLOAT, ["N", None, columns]),
        "boxes": (TensorProto.FLOAT, ["N", None, 4]),
    }
    return net.model(declared, kinds)


def _with_sigmoids(kind: str) -> onnx.ModelProto:
    """The same net, with sigmoids at each level; where objectness stands apart, it is what any light is."""
    net, parts = NetBuilder(), []
    for stride, cut, slope in _LEVELS:
        mean = np.zeros((6, 3, stride, stride))
        for channel in range(3):
            mean[channel, channel], mean[channel + 3, channel] = 1 / stride**2, -1 / stride**2
        hidden = net.op("Conv", "x", net.const(mean), kernel_shape=[stride] * 2, strides=[stride] * 2)
        hidden, side = net.op("Relu", hidden), SIZE // stride
        own = np.zeros((5 + CLASSES, 6))
        own[4, :3], own[5:, :3] = 2.0, np.array([[1, 0, 0], [0, 1, 0], [0, 0.8, 0.2]]) * slope
        bias = np.array([0.0] * 4 + [-1.0] + [-slope * cut] * CLASSES)
        make = _OF_LEVEL.get(kind.split("-")[0], _yolox_level)
        parts.append(make(net, hidden, own, bias, (stride, side)))
    if kind == "level-sigmoids":
        return _scores_alone(net, parts)
    declared = {"x": (TensorProto.FLOAT, ["N", 3, SIZE, SIZE])}
    whole = {"found": (TensorProto.FLOAT, ["N", None, 5 + CLASSES])}
    last = {"name": "found"} if kind in ("yolox", "yolov5") else {}
    if kind.startswith("yolov5"):
        rows = net.op("Concat", *parts, axis=1, name="rows" if kind != "yolov5" else "found")
    else:
        rows = net.op("Concat", *parts, axis=2)
        named = {"name": "rows"} if kind == "yolox-suppressed" else last
        rows = net.op("Transpose", rows, perm=[0, 2, 1], **named)
    if kind in ("yolox", "yolov5"):
        return net.model(declared, whole)

    def columns(value: str, first: int, last: int) -> str:
        return net.op("Slice", value, net.ints(first), net.ints(last), net.ints(2))

    if kind.startswith("yolox"):
        middle, stride = cells()
        centre = net.op("Mul", net.op("Add", columns(rows, 0, 2), net.const(middle)), net.const(stride))
        size = net.op("Mul", net.op("Exp", columns(rows, 2, 4)), net.const(stride))
        rest = columns(rows, 4, 99)
        rows = net.op("Concat", centre, size, rest, axis=2, name="found" if kind == "yolox-decoded" else "")
    if kind == "yolox-decoded":
        return net.model(declared, whole)
    half = net.op("Mul", columns(rows, 2, 4), net.const(0.5))
    low, high = (net.op(op, columns(rows, 0, 2), half) for op in ("Sub", "Add"))
    corners = net.op("Concat", low, high, axis=2)
    scores = net.op("Mul", columns(rows, 5, 99), columns(rows, 4, 5))
    each = net.op("Transpose", scores, perm=[0, 2, 1])
    least = net.const(20, np.int64), net.const(0.5), net.const(0.25)
    net.op("NonMaxSuppression", corners, each, *least, name="found")
    return net.model(declared, {"found": (TensorProto.INT64, [None, 3])})


def cells() -> tuple[np.ndarray, np.ndarray]:
    """Cell (A, 2) and stride (A, 1) of each anchor."""
    cells, strides = [], []
    for stride, _, _ in _LEVELS:
        steps = np.arange(SIZE // stride)
        y, x = np.meshgrid(steps, steps, indexing="ij")
        cells.append(np.stack([x, y], -1).reshape(-1, 2))
        strides.append(np.full((len(cells[-1]), 1), stride))
    return np.concatenate(cells), np.concatenate(strides)


def _yolov5_level(
    net: NetBuilder, hidden: str, own: np.ndarray, bias: np.ndarray, level: tuple[int, int]
) -> str:
    """Two anchors a position, the second of which is small and never right; one sigmoid for all numbers."""
    (stride, side), wide = level, 5 + CLASSES
    both = np.concatenate([own, own]).reshape(-1, 6, 1, 1)
    never = bias - np.where(np.arange(wide) >= 5, 30, 0)
    raw = net.op("Conv", hidden, net.const(both), net.const(np.append(bias, never)), kernel_shape=[1, 1])
    each = net.op("Reshape", raw, net.ints(0, 2, wide, side, side))
    shown = net.op("Sigmoid", net.op("Transpose", each, perm=[0, 1, 3, 4, 2]))
    names = [net.name("part") for _ in range(3)]
    net.nodes.append(onnx.helper.make_node("Split", [shown, net.ints(2, 2, 1 + CLASSES)], names, axis=4))
    y, x = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    grid = np.stack([x, y], -1) - 0.5
    centre = net.op("Add", net.op("Mul", names[0], net.const(2.0)), net.const(grid[None, None]))
    centre = net.op("Mul", centre, net.const(float(stride)))
    size = net.op("Mul", names[1], net.const(2.0))
    anchors = np.array([stride, stride / 4]).reshape(1, 2, 1, 1, 1)
    size = net.op("Mul", net.op("Mul", size, size), net.const(anchors))
    return net.op("Reshape", net.op("Concat", centre, size, names[2], axis=4), net.ints(0, -1, wide))


def _yolox_level(
    net: NetBuilder, hidden: str, own: np.ndarray, bias: np.ndarray, level: tuple[int, int]
) -> str:
    """Three convolutions; centres are those of the cells, and logarithms of sides are 0."""
    shift = np.append([0.5, 0.5], bias[2:])

    def some(first: int, last: int) -> str:
        weight = net.const(own[first:last].reshape(-1, 6, 1, 1))
        return net.op("Conv", hidden, weight, net.const(shift[first:last]), kernel_shape=[1, 1])

    numbers = some(0, 4), net.op("Sigmoid", some(4, 5)), net.op("Sigmoid", some(5, 5 + CLASSES))
    return net.op("Reshape", net.op("Concat", *numbers, axis=1), net.ints(0, 5 + CLASSES, -1))


def _class_level(
    net: NetBuilder, hidden: str, own: np.ndarray, bias: np.ndarray, level: tuple[int, int]
) -> str:
    """Class scores alone."""
    weight = net.const(own[5:].reshape(-1, 6, 1, 1))
    raw = net.op("Conv", hidden, weight, net.const(bias[5:]), kernel_shape=[1, 1])
    return _laid_out(net, net.op("Sigmoid", raw), CLASSES, across=False)


_OF_LEVEL = {"yolov5": _yolov5_level, "level": _class_level}


def _scores_alone(net: NetBuilder, parts: list[str]) -> onnx.ModelProto:
    """Boxes are corners in pixels, in an output of their own."""
    scores = net.op("Concat", *parts, axis=1, name="scores")
    corner, stride = cells()
    first = net.op("Mul", net.op("Slice", scores, net.ints(0), net.ints(1), net.ints(2)), net.const(0.0))
    net.op("Add", first, net.const(np.concatenate([corner, corner + 1], 1)[None] * stride), name="boxes")
    kinds = {
        "scores": (TensorProto.FLOAT, ["N", None, CLASSES]),
        "boxes": (TensorProto.FLOAT, ["N", None, 4]),
    }
    return net.model({"x": (TensorProto.FLOAT, ["N", 3, SIZE, SIZE])}, kinds)


def _best_alone(net: NetBuilder, declared: dict, scores: str) -> onnx.ModelProto:
    """Boxes with the best class of each anchor, suppressed among that class by shifting boxes apart."""
    best = net.op("ReduceMax", scores, axes=[2], keepdims=0)
    shift = net.op("Cast", net.op("ArgMax", scores, axis=2, keepdims=1), to=TensorProto.FLOAT)
    apart = net.op("Add", "boxes", net.op("Mul", shift, net.const(4096.0)))
    each = net.op("Unsqueeze", best, net.ints(1))
    least = net.const(20, np.int64), net.const(0.5), net.const(0.25)
    net.op("NonMaxSuppression", apart, each, *least, name="found")
    return net.model(declared, {"found": (TensorProto.INT64, [None, 3])})


def _laid_out(net: NetBuilder, value: str, width: int, *, across: bool) -> str:
    """A map as (N, width, anchors), or as (N, anchors, width)."""
    if across:
        return net.op("Reshape", value, net.const([0, width, -1], np.int64))
    last = net.op("Transpose", value, perm=[0, 2, 3, 1])
    return net.op("Reshape", last, net.const([0, -1, width], np.int64))
