"""How does a detector hold its class scores and boxes, anchor by anchor?

An anchor is a place that the model gives one box and a score for each class. The anchors of one map, a level,
are its positions, or several at each; the scores of all levels are joined before their sigmoid or softmax.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from onnxtweak.model.logits_format import Level

BoxFormat = Literal["xyxy", "yxyx", "xywh"]
FORMATS: tuple[BoxFormat, ...] = ("xywh", "xyxy", "yxyx")
_WORDS = {
    "xyxy": "left, top, right, bottom",
    "yxyx": "top, left, bottom, right",
    "xywh": "centre, width, height",
}


@dataclass(frozen=True)
class BoxNumbers:
    """What the four numbers of a box mean. fractions : of the picture's sides, rather than pixels."""

    how: BoxFormat
    fractions: bool

    def __str__(self) -> str:
        return f"{_WORDS[self.how]} {'as fractions of the picture' if self.fractions else 'in pixels'}"

    def corners(self, numbers: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Left, top, right, bottom in pixels, (..., 4) float32. size : height and width of the picture."""
        found = numbers
        if self.how == "yxyx":
            found = numbers[..., [1, 0, 3, 2]]
        elif self.how == "xywh":
            half = numbers[..., 2:] / 2
            found = np.concatenate([numbers[..., :2] - half, numbers[..., :2] + half], axis=-1)
        if self.fractions:
            height, width = size
            found = found * np.array([width, height, width, height], np.float32)
        return found


@dataclass(frozen=True)
class Detector:
    """Where a detector's class scores and boxes are.

    logits : the scores of all anchors before `rule`, a Sigmoid or a Softmax. class_axis : of these, 1 or 2 of
    3. levels : whose anchors they are, in order. scores, boxes : outputs that show them, which may be one, or
    tensors, where boxes are suppressed.
    first_score, first_box : where they begin on the axis of the classes there. suppressed : whether boxes are
    dropped inside the model that overlap better ones. background : class of the softmax that stands for no
    object; None where every class has a sigmoid, or where it is not known yet. numbers : what the four
    numbers of a box mean; None: not known yet.
    """

    logits: str
    rule: str
    class_axis: int
    levels: tuple[Level, ...]
    scores: str
    boxes: str
    first_score: int = 0
    first_box: int = 0
    suppressed: bool = False
    background: int | None = None
    numbers: BoxNumbers | None = None

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs that are read, each once."""
        return tuple(dict.fromkeys((self.scores, self.boxes)))

    @property
    def record(self) -> dict[str, Any]:
        """What is not seen in the graph, as plain data."""
        numbers = None if self.numbers is None else [self.numbers.how, self.numbers.fractions]
        anchors = [level.anchors for level in self.levels]
        return {"anchors": anchors, "background": self.background, "numbers": numbers}

    def recorded(self, record: Mapping[str, Any]) -> Detector:
        """The same with what a record says. Raises LookupError, TypeError or ValueError for a damaged one."""
        each = [int(many) for many in record["anchors"]]
        levels = tuple(
            replace(level, anchors=k, neighbours=level.neighbours or k == 1)
            for level, k in zip(self.levels, each, strict=True)
        )
        background, numbers = record["background"], record["numbers"]
        meaning = None if numbers is None else BoxNumbers(numbers[0], bool(numbers[1]))
        if meaning is not None and meaning.how not in FORMATS:
            raise ValueError("the record of what a detector's boxes mean is damaged")
        background = None if background is None else int(background)
        return replace(self, levels=levels, background=background, numbers=meaning)

    def read(self, values: Mapping[str, Any], classes: int) -> tuple[np.ndarray, np.ndarray]:
        """Scores (N, A, C) and four numbers for each box (N, A, 4) float32, of the outputs' values.

        classes : C, without a background.
        """
        every = classes + (self.background is not None)
        scores = self._rows(values[self.scores])[..., self.first_score : self.first_score + every]
        if self.background is not None:
            scores = np.delete(scores, self.background, axis=-1)
        boxes = self._rows(values[self.boxes], of_boxes=True)[..., self.first_box : self.first_box + 4]
        return scores, boxes

    def _rows(self, value: np.ndarray, *, of_boxes: bool = False) -> np.ndarray:
        """An output as float32 (N, A, numbers)."""
        found = np.asarray(value, np.float32)
        if found.ndim == 4 and 1 in found.shape[1:3]:
            found = found.reshape(len(found), -1, found.shape[-1])
        apart = of_boxes and self.boxes != self.scores
        across = found.shape[1] == 4 != found.shape[2] if apart else self.class_axis == 1
        return found.transpose(0, 2, 1) if across else found
