"""Which objects does the page show? Some that are found now or no longer, in their pictures."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxtweak.boxes.overlap import overlaps
from onnxtweak.boxes.suppression import Detections
from onnxtweak.boxes.truth import Truth
from onnxtweak.data.splits import View
from onnxtweak.data.thumbnails import with_boxes
from onnxtweak.goal import ResolvedGoal
from onnxtweak.stages.boxes.measure import SURE, FoundObjects
from onnxtweak.stages.report_data import few_of_each

_FOUND = 0.5  # IoU
_MOST = 24  # pictures of either kind


@dataclass(frozen=True, eq=False)
class ChangedObjects:
    """What base and tweaked file find in the samples of a view."""

    view: View
    base: FoundObjects
    tweaked: FoundObjects

    def evidence(self, goal: ResolvedGoal) -> dict[str, Any]:
        """Objects that are found now or no longer, as `stages.report_data` lists samples that changed."""
        objects = self.view.dataset.objects
        assert objects is not None  # of a detector's samples
        truth = objects.some(self.view.samples)
        was, now = (_found(each, truth) for each in (self.base, self.tweaked))
        kinds = {"fixed": ~was & now, "broken": was & ~now}
        counts = {
            name: np.bincount(truth.number[own], minlength=self.base.classes) for name, own in kinds.items()
        }
        few = {name: few_of_each(np.flatnonzero(own), truth.number, goal) for name, own in kinds.items()}
        shown = {name: [self._picture(truth, int(one)) for one in own[:_MOST]] for name, own in few.items()}
        return {"samples": {**shown, "counts": counts}}

    def _picture(self, truth: Truth, one: int) -> dict[str, Any]:
        """An object, by its place in `truth`, with all labelled and shown boxes of its picture."""
        sample, number, box = int(truth.sample[one]), int(truth.number[one]), truth.box[one]
        row, dataset = int(self.view.samples[sample]), self.view.dataset
        each = (self.base.sure, self.tweaked.sure)
        image = with_boxes(dataset, row, [truth.within(sample), *(shown.within(sample) for shown in each)])
        return {
            "row": row,
            "where": dataset.place(row),
            "label": number,
            "before": _shown_as(self.base.sure, sample, box, number),
            "after": _shown_as(self.tweaked.sure, sample, box, number),
            "picture": None if image is None else f"data:image/png;base64,{base64.b64encode(image).decode()}",
            "boxes": image is not None,
        }


def _found(made: FoundObjects, truth: Truth) -> np.ndarray:
    """Which objects are found by a box that is usually shown, (B,) bool."""
    found = np.zeros(len(truth.number), bool)
    for number, each in enumerate(made.found.found(SURE)):
        found[truth.number == number] = each
    return found


def _shown_as(shown: Detections, sample: int, box: np.ndarray, number: int) -> int | None:
    """The class of the box that is shown where an object is, its own class first; None for none."""
    numbers, boxes = shown.within(sample)
    each = overlaps(boxes, box[None])[:, 0] if len(boxes) else np.zeros(0)
    there = each >= _FOUND
    if (there & (numbers == number)).any():
        return number
    return int(numbers[np.where(there, each, -1).argmax()]) if there.any() else None
