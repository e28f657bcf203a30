"""Which class does each anchor get as its label? Of those that overlap an object, the best has its class.

The best is the one with the highest overlap times the root of its score: that is what is left after
suppression. Others do not count for the class of the object, and are none of the others; the rest are
background (METHOD 18).
"""

from __future__ import annotations

import numpy as np

from onnxtweak.boxes.overlap import overlaps

NOTHING = np.iinfo(np.int32).max
IGNORED = -1  # for no class
_OVERLAPS, _FINDS = 0.3, 0.5  # IoU


def matched(boxes: np.ndarray, score: np.ndarray, number: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The label of each anchor of a sample, (A,) int64: a class, NOTHING, or one that does not count.

    boxes (A, 4), score (A,) : as the model has them, the highest score of any class. number (n,) int64, truth
    (n, 4) : classes and boxes of its objects. An anchor that overlaps objects of class k alone, and is not
    the best for any, has `besides(k)`; one that overlaps those of several, IGNORED. Of two objects that want
    the same anchor, the one for which it is better has it, and the other its next best.
    """
    found = np.full(len(boxes), NOTHING, np.int64)
    if not len(truth) or not len(boxes):
        return found
    each = overlaps(boxes, truth)
    for touching in np.flatnonzero(each.max(axis=1) > _OVERLAPS).tolist():
        near = np.unique(number[each[touching] > _OVERLAPS])
        found[touching] = besides(near[0]) if len(near) == 1 else IGNORED
    worth = np.where(each > _FINDS, each * np.sqrt(score)[:, None], 0.0)
    for _ in range(len(truth)):
        anchor, object_ = np.unravel_index(int(worth.argmax()), worth.shape)
        if worth[anchor, object_] <= 0:
            break
        found[anchor] = number[object_]
        worth[anchor], worth[:, object_] = -1, -1
    return found


def besides(number: int) -> int:
    """The label of an anchor that does not count for a class, and is none of the others."""
    return -2 - int(number)


def as_marks(labels: np.ndarray, classes: int) -> np.ndarray:
    """Marks (N, C) int8 of labels (N,): 1, 0, and -1 for what does not count. C stands for no object."""
    found = (labels[:, None] == np.arange(classes)).astype(np.int8)
    found[labels == IGNORED] = -1
    own = np.flatnonzero(labels < IGNORED)
    found[own, -2 - labels[own]] = -1
    return found
