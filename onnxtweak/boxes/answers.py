"""What does a model answer where labelled boxes are, whatever their classes?"""

from __future__ import annotations

import numpy as np

from onnxtweak.boxes.overlap import overlaps
from onnxtweak.boxes.suppression import suppressed

FINDS = 0.5  # IoU


def answers(boxes: np.ndarray, scores: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Class (n,) int64 and score (n,) of the best anchor that overlaps each box by enough; -1 and 0 for none.

    boxes (A, 4), scores (A, C) : of a sample's anchors. truth (n, 4) : boxes.
    """
    best = scores.max(axis=1)
    if not len(best) or not len(truth):
        return np.full(len(truth), -1), np.zeros(len(truth))
    own = np.where(overlaps(boxes, truth) >= FINDS, best[:, None], 0.0)
    anchor = own.argmax(axis=0)
    score = own.max(axis=0)
    return np.where(score > 0, scores[anchor].argmax(axis=1), -1), score


def found(boxes: np.ndarray, scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Which boxes (n,) are overlapped by one of the n best that are shown, of any class."""
    _, _, shown = suppressed(boxes, scores.max(axis=1, keepdims=True))
    each = overlaps(shown[: len(truth)], truth)
    return np.asarray((each >= FINDS).any(axis=0))
