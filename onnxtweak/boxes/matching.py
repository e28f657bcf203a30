"""Which class does each anchor get as its label? The anchor whose box overlaps an object most gets its class.

Others that overlap some object do not count, and the rest are background (METHOD 18).
"""

from __future__ import annotations

import numpy as np

from onnxtweak.boxes.overlap import overlaps

IGNORED, NOTHING = -1, -2
_OVERLAPS = 0.3  # IoU


def matched(boxes: np.ndarray, number: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The class of each anchor of a sample, (A,) int64; IGNORED, or NOTHING for background.

    boxes (A, 4) : as the model has them. number (n,) int64, truth (n, 4) : classes and boxes of its objects.
    An object that no anchor overlaps by more than the least gets none; of two that want the same anchor, the
    one that overlaps it more has it, and the other its next best.
    """
    found = np.full(len(boxes), NOTHING)
    if not len(truth) or not len(boxes):
        return found
    each = overlaps(boxes, truth)
    found[each.max(axis=1) > _OVERLAPS] = IGNORED
    for _ in range(len(truth)):
        anchor, object_ = np.unravel_index(int(each.argmax()), each.shape)
        if each[anchor, object_] <= _OVERLAPS:
            break
        found[anchor] = number[object_]
        each[anchor], each[:, object_] = -1, -1
    return found
