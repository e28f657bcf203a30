"""By how much do boxes overlap? Boxes are left, top, right, bottom, (n, 4) float."""

from __future__ import annotations

import numpy as np

_LARGEST = 1e9  # of pixels: boxes of pictures prepared wrongly may have no end


def areas(boxes: np.ndarray) -> np.ndarray:
    """(n,) float; 0 for a box that is inside out."""
    found: np.ndarray = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1)
    return found


def overlaps(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Intersection over union (IoU) of each box of one with each of the other, (n, m) float64."""
    one, other = (np.clip(boxes.astype(np.float64), -_LARGEST, _LARGEST) for boxes in (one, other))
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    whole = areas(one)[:, None] + areas(other) - shared
    return np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)
