"""How does a detector hold its class scores and boxes, anchor by anchor?

An anchor is a place that the model gives one box and a score for each class. The anchors of one map, a level,
are its positions, or several at each; the scores of all levels are joined before their sigmoid or softmax, or
behind sigmoids of the levels' own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from onnxtweak.model.logits_format import Level

BoxFormat = Literal["xyxy", "yxyx", "xywh", "cells"]
FORMATS: tuple[BoxFormat, ...] = ("xywh", "xyxy", "yxyx")
_WORDS = {
    "xyxy": "left, top, right, bottom",
    "yxyx": "top, left, bottom, right",
    "xywh": "centre, width, height",
    "cells": "centre, from that of the anchor's cell, and logarithms of width and height",
}
_LARGEST = 50.0  # of a logarithm of a side


@dataclass(frozen=True)
class BoxNumbers:
    """What the four numbers of a box mean. fractions : of the picture's sides, rather than pixels.

    strides : of each level, in pixels, where the numbers are counted in its cells; else none.
    """

    how: BoxFormat
    fractions: bool = False
    strides: tuple[int, ...] = ()

    def __str__(self) -> str:
        unit = "in cells of the level" if self.strides else "in pixels"
        return f"{_WORDS[self.how]} {'as fractions of the picture' if self.fractions else unit}"

    def corners(self, numbers: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Left, top, right, bottom in pixels, (..., A, 4) float32. size : height and width of the picture."""
        found = numbers
        if self.how == "cells":
            corner, stride = _cells(self.strides, size)
            sides = np.exp(np.minimum(numbers[..., 2:], _LARGEST))
            found = np.concatenate([numbers[..., :2] + corner, sides], axis=-1) * stride
        if self.how == "yxyx":
            found = numbers[..., [1, 0, 3, 2]]
        elif self.how in ("xywh", "cells"):
            half = found[..., 2:] / 2
            found = np.concatenate([found[..., :2] - half, found[..., :2] + half], axis=-1)
        if self.fractions:
            height, width = size
            found = found * np.array([width, height, width, height], np.float32)
        return found


def _cells(strides: tuple[int, ...], size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Column and row of the cell of each anchor, one at a position, (A, 2) float32; its stride, (A, 1)."""
    corners, sides = list[np.ndarray](), list[np.ndarray]()
    for stride in strides:
        rows, columns = (np.arange(-(-side // stride)) for side in size)
        y, x = np.meshgrid(rows, columns, indexing="ij")
        corners.append(np.stack([x, y], axis=-1).reshape(-1, 2))
        sides.append(np.full((len(corners[-1]), 1), stride))
    return np.concatenate(corners).astype(np.float32), np.concatenate(sides).astype(np.float32)


@dataclass(frozen=True)
class ShownAt:
    """Where class scores and boxes of anchors can be read.

    scores, boxes : outputs, which may be one, or tensors where the model suppresses boxes itself.
    class_axis : of the scores' tensor, 1 or 2 of 3. first_score : where the classes begin on that axis.
    suppressed : whether boxes are dropped inside the model that overlap better ones.
    """

    scores: str
    boxes: str
    class_axis: int
    first_score: int = 0
    suppressed: bool = False


@dataclass(frozen=True)
class Detector:
    """Where a detector's class scores and boxes are.

    logits : the tensor with the scores of all anchors before `rule`, a Sigmoid or a Softmax; or behind the
    sigmoids of each level, the rule being "Sigmoids". class_axis : of it, 1 or 2 of 3. levels : whose anchors
    they are, in order. shown : where they can be read. first_score : where the classes begin on the axis of
    that tensor. objectness : whether the column before them is the score of any object, which theirs are
    multiplied with. background : class of the softmax that stands for no object; None where every class has
    a sigmoid, or where it is not known yet. strides : of the levels, in pixels, where each position is one
    anchor; none: not known. numbers : what the four numbers of a box mean; None: not known yet.
    """

    logits: str
    rule: str
    class_axis: int
    levels: tuple[Level, ...]
    shown: ShownAt
    first_score: int = 0
    objectness: bool = False
    background: int | None = None
    strides: tuple[int, ...] = ()
    numbers: BoxNumbers | None = None

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs that are read, each once."""
        return tuple(dict.fromkeys((self.shown.scores, self.shown.boxes)))

    @property
    def meanings(self) -> tuple[BoxNumbers, ...]:
        """What the four numbers of a box may mean."""
        found = tuple(BoxNumbers(how, part) for how in FORMATS for part in (False, True))
        return (*found, BoxNumbers("cells", strides=self.strides)) if self.strides else found

    @property
    def record(self) -> dict[str, Any]:
        """What is not seen in the graph, as plain data."""
        means = self.numbers
        numbers = None if means is None else [means.how, means.fractions]
        anchors = [level.anchors for level in self.levels]
        found = {"anchors": anchors, "background": self.background, "numbers": numbers}
        return found if means is None or not means.strides else {**found, "strides": list(means.strides)}

    def recorded(self, record: Mapping[str, Any]) -> Detector:
        """The same with what a record says. Raises LookupError, TypeError or ValueError for a damaged one."""
        each = [int(many) for many in record["anchors"]]
        levels = tuple(
            replace(level, anchors=k, neighbours=level.neighbours or k == 1)
            for level, k in zip(self.levels, each, strict=True)
        )
        background, numbers = record["background"], record["numbers"]
        strides = tuple(int(side) for side in record.get("strides", ()))
        known = replace(self, strides=strides).meanings
        wanted = None if numbers is None else (numbers[0], bool(numbers[1]))
        meant = [one for one in known if (one.how, one.fractions) == wanted]
        if (numbers is not None and not meant) or not all(side > 0 for side in strides):
            raise ValueError("the record of what a detector's boxes mean is damaged")
        background = None if background is None else int(background)
        meaning = meant[0] if meant else None
        return replace(self, levels=levels, background=background, strides=strides, numbers=meaning)

    def read(self, values: Mapping[str, Any], classes: int) -> AnchorValues:
        """What the outputs' values show. classes : C, without a background."""
        shown, first = self.shown, self.shown.first_score
        rows = _rows(values[shown.scores], across=shown.class_axis == 1)
        scores = rows[..., first : first + classes + (self.background is not None)]
        if self.background is not None:
            scores = np.delete(scores, self.background, axis=-1)
        there = rows[..., first - 1] if self.objectness else np.ones(rows.shape[:2], np.float32)
        if shown.boxes != shown.scores:
            rows = _rows(values[shown.boxes])
        return AnchorValues(scores * there[..., None], there, rows[..., :4])


@dataclass(frozen=True, eq=False)
class AnchorValues:
    """What a detector shows of samples. scores (N, A, C), objectness (N, A), numbers (N, A, 4) float32.

    scores : of the classes of objects, as multiplied with the objectness, which is 1 where there is none.
    """

    scores: np.ndarray
    objectness: np.ndarray
    numbers: np.ndarray


def _rows(value: np.ndarray, *, across: bool | None = None) -> np.ndarray:
    """An output as float32 (N, A, numbers). across : whether anchors are its last axis; None: as of boxes."""
    found = np.asarray(value, np.float32)
    if found.ndim == 4 and 1 in found.shape[1:3]:
        found = found.reshape(len(found), -1, found.shape[-1])
    across = found.shape[1] == 4 != found.shape[2] if across is None else across
    return found.transpose(0, 2, 1) if across else found
