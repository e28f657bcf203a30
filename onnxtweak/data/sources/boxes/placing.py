"""Where is a box once its picture is resized, padded and cropped, as the model is fed?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxtweak.data.preprocess.sizes import Size, padded, resized, scaled
from onnxtweak.quantities import number_of
from onnxtweak.settings import Preprocess

LEFT_OUT = "left out: "  # what notes on boxes that are left out begin with


def placed(objects: np.ndarray, size: Size, preprocess: Preprocess) -> np.ndarray:
    """The objects (n, 5) of a picture, class and corners in its pixels, in those of what the model is fed.

    size : height and width of the picture as stored. Boxes are cut at the edges; those of which nothing is
    left are dropped.
    """
    made = scaled(size, preprocess)
    (above, _), (left, _) = padded(made, preprocess)
    factor = np.tile(np.array([made[1] / size[1], made[0] / size[0]]), 2)
    box = objects[:, 1:] * factor + np.tile([left, above], 2)
    height, width = resized(size, preprocess)
    if preprocess.crop is not None:
        high, wide = preprocess.crop
        box = box - np.tile([(width - wide) // 2, (height - high) // 2], 2)
        height, width = high, wide
    box = np.clip(box, 0, np.tile([width, height], 2))
    left_over = (box[:, 2:] > box[:, :2]).all(axis=1)
    found: np.ndarray = np.column_stack([objects[:, 0], box])[left_over].astype(np.float32)
    return found


def placed_in_all(
    objects: Sequence[np.ndarray], sizes: Sequence[Size], preprocess: Preprocess
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The objects of each picture as of `placed`, (N,) object; and a note on those that are dropped."""
    found = np.empty(len(objects), object)
    for place, (own, size) in enumerate(zip(objects, sizes, strict=True)):
        found[place] = placed(own, size, preprocess)
    given = sum(map(len, objects))
    gone = given - sum(map(len, found))
    where = "their pictures" if preprocess.crop is None else "what --crop leaves of their pictures"
    return found, (f"{LEFT_OUT}{gone:,} of {number_of(given, 'box')}, outside of {where}",) if gone else ()
