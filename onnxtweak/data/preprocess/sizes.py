"""How large is an image after resizing: exactly as asked, on its shorter side, or padded to fit?"""

from __future__ import annotations

import math

from onnxtweak.settings import Preprocess

Size = tuple[int, int]  # height, width
# As Pillow has it, a picture of 256 MiB; and what any memory has room for.
MOST_PIXELS, _FEWEST = 89_478_485, 1 << 22
_PIXEL_BYTES = 12  # while it is decoded: as stored, converted, and resized or copied


def pixels_allowed(memory: int) -> int:
    """How many pixels a picture file may have, so that two at a time are decoded within `memory` bytes."""
    return min(max(memory // (2 * _PIXEL_BYTES), _FEWEST), MOST_PIXELS)


def scaled(size: Size, preprocess: Preprocess) -> Size:
    """The size to which an image of `size` is resized, before a letterbox is padded.

    Rounded as torchvision does for a shorter side, and as most detectors do for a letterbox.
    """
    if preprocess.resize is None:
        return size
    (height, width), (high, wide) = size, preprocess.resize
    if preprocess.resize_mode == "short":
        if high * width >= wide * height:  # the height decides: the width is covered then
            return high, max(int(high * width / height), wide)
        return max(int(wide * height / width), high), wide
    if preprocess.resize_mode == "letterbox":
        factor = min(high / height, wide / width)
        return max(round(height * factor), 1), max(round(width * factor), 1)
    if preprocess.resize_mode == "line":
        return high, min(math.ceil(width * high / height), wide)
    return preprocess.resize


def padded(size: Size, preprocess: Preprocess) -> tuple[Size, Size]:
    """Rows above and below, and columns left and right, that make `size`, as scaled, the size asked for."""
    if preprocess.resize is None or preprocess.resize_mode not in ("letterbox", "line"):
        return (0, 0), (0, 0)
    lacks = [want - have for want, have in zip(preprocess.resize, size, strict=True)]
    if preprocess.resize_mode == "line":
        return (0, lacks[0]), (0, lacks[1])
    above, left = (lack // 2 for lack in lacks)
    return (above, lacks[0] - above), (left, lacks[1] - left)


def resized(size: Size, preprocess: Preprocess) -> Size:
    """The size of an image of `size` after resizing and padding."""
    made = scaled(size, preprocess)
    rows, columns = padded(made, preprocess)
    return made[0] + sum(rows), made[1] + sum(columns)


def describe(preprocess: Preprocess) -> str:
    """The resizing in words; empty for none."""
    if preprocess.resize is None:
        return ""
    high, wide = preprocess.resize
    if preprocess.resize_mode == "short":
        side = f"resized to a shorter side of {high}"
        return side if high == wide else f"resized to cover {high} x {wide}"
    if preprocess.resize_mode == "line":
        fill = f"{preprocess.pad_value or 0:g}"
        return f"resized to a height of {high}, filled with {fill} up to a width of {wide}"
    if preprocess.resize_mode == "letterbox":
        return f"resized to fit {high} x {wide}, padded with {preprocess.pad_value or 0:g}"
    return f"resized to {high} x {wide}"
