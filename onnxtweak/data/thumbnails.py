"""What does a sample look like? A thumbnail, as PNG, of the model's input where that is an image.

PNG is written here, with zlib: the report must not depend on an optional package.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np

from onnxtweak.data.dataset import Dataset
from onnxtweak.data.preprocess.plan import PreprocessPlan

_LONGEST_SIDE, _SIDE_OF_BOXES = 64, 96  # pixels


def thumbnail(dataset: Dataset, row: int) -> bytes | None:
    """A PNG of the sample's first input that is an image; None where there is none."""
    pixels = _of_sample(dataset, row)
    return None if pixels is None else png(pixels)


def with_masks(dataset: Dataset, row: int, masks: Sequence[np.ndarray]) -> bytes | None:
    """A PNG of four tiles: the sample, and three masks of its positions drawn over it, row by row.

    masks : three (h, w) int64, classes, -1 where it is not known. None as of `thumbnail`.
    """
    pixels = _of_sample(dataset, row)
    if pixels is None:
        return None
    plain = np.repeat(pixels[:, :, None], 3, axis=2) if pixels.ndim == 2 else pixels
    gray = plain.mean(axis=2, keepdims=True)
    tiles = [plain]
    for mask in masks:
        y, x = (np.arange(n) * size // n for n, size in zip(plain.shape, mask.shape, strict=False))
        shown = mask[y][:, x]
        colored = (gray + _colors(shown)) / 2
        tiles.append(np.where(shown[:, :, None] < 0, plain, colored).astype(np.uint8))
    return png(np.vstack([np.hstack(tiles[:2]), np.hstack(tiles[2:])]))


def with_boxes(dataset: Dataset, row: int, layers: Sequence[tuple[np.ndarray, np.ndarray]]) -> bytes | None:
    """A PNG of four tiles: the sample, and three layers of boxes drawn over it, row by row.

    layers : classes (n,) int64 and boxes (n, 4), left, top, right, bottom, in pixels of the model's input.
    None as of `thumbnail`.
    """
    step, pixels = _stepped(dataset, row, _SIDE_OF_BOXES)
    if pixels is None:
        return None
    plain = np.repeat(pixels[:, :, None], 3, axis=2) if pixels.ndim == 2 else pixels
    tiles = [plain]
    for classes, boxes in layers:
        tiles.append(np.repeat(plain.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8))
        for color, box in zip(_colors(classes).astype(np.uint8), boxes / step, strict=True):
            _outline(tiles[-1], box, color)
    return png(np.vstack([np.hstack(tiles[:2]), np.hstack(tiles[2:])]))


def _outline(pixels: np.ndarray, box: np.ndarray, color: np.ndarray) -> None:
    """Draw a box (4,) into pixels (h, w, 3), as far as it is inside."""
    height, width = pixels.shape[:2]
    finite = np.nan_to_num(box, posinf=width + height, neginf=0.0)
    left, top, right, bottom = np.clip(np.rint(finite), 0, [width, height, width, height]).astype(int)
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    pixels[top:bottom, [min(left, width - 1), right - 1 if right <= width else width - 1]] = color
    pixels[[min(top, height - 1), min(bottom, height) - 1], left:right] = color


def _colors(classes: np.ndarray) -> np.ndarray:
    """A colour for each class, (..., 3): hues a golden section apart, which no two neighbours share."""
    hue = (classes * 0.618034 % 1)[..., None] + np.array([0, 2 / 3, 1 / 3])
    found: np.ndarray = 255 * np.clip(np.abs(hue % 1 * 6 - 3) - 1, 0, 1)
    return found


def _of_sample(dataset: Dataset, row: int) -> np.ndarray | None:
    """Pixels of the sample's first input that is an image, (h, w) or (h, w, 3) uint8."""
    return _stepped(dataset, row, _LONGEST_SIDE)[1]


def _stepped(dataset: Dataset, row: int, longest: int) -> tuple[int, np.ndarray | None]:
    """Every how many pixels one is kept, and these; None as of `thumbnail`.

    Preprocessing is undone, so that the colours are those of the stored image.
    """
    feeds, _, _ = next(iter(dataset.batches(np.array([row]), 1)))
    ends = np.cumsum([len(part) for part in dataset.parts])
    part = int(np.searchsorted(ends, row, side="right"))
    for name in dataset.inputs:
        channels = _channels(feeds[name][0])
        if channels is not None:
            column = dataset.parts[part].columns[name]
            image = _image(channels, feeds[name], dataset.plans[part][name], column.dtype)
            step = -(-max(image.shape[:2]) // longest)
            return step, np.clip(np.rint(image[::step, ::step]), 0, 255).astype(np.uint8)
    return 1, None


def _channels(value: np.ndarray) -> str | None:
    """Which axis of an image counts channels: "first", "last", "none"; None for anything but an image."""
    shape = value.shape
    if value.dtype.kind not in "uif" or min(shape, default=0) < 1:
        return None
    if len(shape) == 2 and min(shape) >= 4:
        return "none"
    if len(shape) == 3 and min(np.delete(shape, 0)) >= 4 and shape[0] in (1, 3):
        return "first"
    if len(shape) == 3 and min(shape[:2]) >= 4 and shape[2] in (1, 3):
        return "last"
    return None


def _image(channels: str, batch: np.ndarray, plan: PreprocessPlan, stored: np.dtype) -> np.ndarray:
    """Pixels (h, w) or (h, w, 3) float64 of a preprocessed batch (1, ...). stored : dtype before that."""
    how = plan.arithmetic
    value = batch.astype(np.float64)
    if how.std is not None:
        value = value * how.std
    if how.mean is not None:
        value = value + how.mean
    if how.scale is not None:
        value = value / how.scale
    image = value[0]
    if channels == "first":
        image = np.moveaxis(image, 0, -1)
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if "colour BGR" in plan.words:
        image = image[:, :, ::-1]
    if stored != np.uint8:
        low, high = image.min(), image.max()
        image = (image - low) * (255 / (high - low) if high > low else 0.0)
    found: np.ndarray = image
    return found


def png(pixels: np.ndarray) -> bytes:
    """A PNG file of pixels, (h, w) grayscale or (h, w, 3) RGB, uint8."""
    height, width = pixels.shape[:2]
    color_type = 0 if pixels.ndim == 2 else 2
    rows = np.ascontiguousarray(pixels).reshape(height, -1)
    lines = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1)  # filter 0
    header = struct.pack(">IIBBBBB", width, height, 8, color_type, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))
        for tag, body in parts
    )
