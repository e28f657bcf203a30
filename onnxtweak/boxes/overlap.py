"""By how much do boxes overlap? Boxes are left, top, right, bottom, (n, 4) float."""

from __future__ import annotations

import numpy as np

_LARGEST = 1e9  # of pixels: boxes of pictures prepared wrongly may have no end


def areas(boxes: np.ndarray) -> np.ndarray:
    """(n,) float; 0 for a box that is inside out."""
    wide, high = np.maximum(boxes[:, 2:] - boxes[:, :2], 0).T
    found: np.ndarray = wide * high
    return found


def overlaps(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Intersection over union (IoU) of each box of one with each of the other, (n, m) float64."""
    one, other = (np.clip(boxes.astype(np.float64), -_LARGEST, _LARGEST) for boxes in (one, other))
    shared = _common(one, other, 0) * _common(one, other, 1)
    whole = areas(one)[:, None] + areas(other) - shared
    return np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)


def _common(one: np.ndarray, other: np.ndarray, axis: int) -> np.ndarray:
    """How many pixels along an axis each box of one has in common with each of the other, (n, m)."""
    low = np.maximum(one[:, None, axis], other[:, axis])
    high = np.minimum(one[:, None, 2 + axis], other[:, 2 + axis])
    found: np.ndarray = np.maximum(high - low, 0)
    return found
