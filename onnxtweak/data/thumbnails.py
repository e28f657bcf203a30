"""What does a sample look like? A small PNG of what the model is fed, where that is a picture.

PNG is written here, by zlib: the report must not depend on an optional package.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

from onnxtweak.data.dataset import Dataset
from onnxtweak.data.preprocess.plan import PreprocessPlan

_SIDE = 64  # pixels at most


def thumbnail(dataset: Dataset, row: int) -> bytes | None:
    """A PNG of the first input of a sample that is a picture; None where none is.

    Preprocessing is taken back, so that the colours are those of the stored picture.
    """
    feeds, _, _ = next(iter(dataset.batches(np.array([row]), 1)))
    ends = np.cumsum([len(part) for part in dataset.parts])
    part = int(np.searchsorted(ends, row, side="right"))
    for name in dataset.inputs:
        picture = _picture(feeds[name][0])
        if picture is not None:
            column = dataset.parts[part].columns[name]
            return png(_bytes(picture, feeds[name], dataset.plans[part][name], column.dtype))
    return None


def _picture(value: np.ndarray) -> str | None:
    """Where the channels of a picture are: "first", "last", "none"; None where it is no picture."""
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


def _bytes(channels: str, batch: np.ndarray, plan: PreprocessPlan, stored: np.dtype) -> np.ndarray:
    """Pixels (h, w) or (h, w, 3) uint8 of a batch (1, ...) as the model gets it."""
    how = plan.arithmetic
    value = batch.astype(np.float64)
    if how.std is not None:
        value = value * how.std
    if how.mean is not None:
        value = value + how.mean
    if how.scale is not None:
        value = value / how.scale
    picture = value[0]
    if channels == "first":
        picture = np.moveaxis(picture, 0, -1)
    if picture.ndim == 3 and picture.shape[2] == 1:
        picture = picture[:, :, 0]
    if "colour BGR" in plan.words:
        picture = picture[:, :, ::-1]
    if stored != np.uint8:
        low, high = picture.min(), picture.max()
        picture = (picture - low) * (255 / (high - low) if high > low else 0.0)
    step = -(-max(picture.shape[:2]) // _SIDE)
    return np.clip(np.rint(picture[::step, ::step]), 0, 255).astype(np.uint8)


def png(pixels: np.ndarray) -> bytes:
    """A PNG file of pixels (h, w) grey or (h, w, 3) RGB, uint8."""
    height, width = pixels.shape[:2]
    kind = 0 if pixels.ndim == 2 else 2
    rows = np.ascontiguousarray(pixels).reshape(height, -1)
    lines = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1)  # filter 0 begins each line
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))
        for tag, body in parts
    )
