"""How is a batch of images (n, height, width, channels) resized, cropped and recoloured?"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from onnxtweak.data.preprocess.sizes import padded, scaled
from onnxtweak.errors import MachineError
from onnxtweak.settings import Preprocess

# ITU-R 601 luma in 16-bit fixed point: the weights with which image libraries turn colour into gray.
_LUMA = np.array([19595, 38470, 7471])


def pillow_decoder() -> ModuleType:
    """The module `decode`, the only one that needs Pillow. Raises MachineError where Pillow is missing."""
    try:
        from onnxtweak.data.preprocess import decode
    except ImportError as error:
        raise MachineError(
            "reading or resizing images needs Pillow, which is not installed",
            hint="pip install 'onnxtweak[images]'",
        ) from error
    return decode


def resize(batch: np.ndarray, preprocess: Preprocess) -> np.ndarray:
    """Bilinear, antialiased when shrinking; (n, h, w, c) to another h and w, same dtype, uint8 or float."""
    size = scaled((batch.shape[1], batch.shape[2]), preprocess)
    if batch.shape[1:3] != size:
        batch = pillow_decoder().resize_array(batch, size)
    rows, columns = padded(size, preprocess)
    if not any((*rows, *columns)):
        return batch
    return np.pad(batch, ((0, 0), rows, columns, (0, 0)), constant_values=preprocess.pad_value or 0)


def crop(batch: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The central part, (n, h, w, c) to (n, *size, c)."""
    top, left = ((have - want) // 2 for have, want in zip(batch.shape[1:3], size, strict=True))
    return batch[:, top : top + size[0], left : left + size[1]]


def recolor(batch: np.ndarray, color: str) -> np.ndarray:
    """Stored gray (1 channel) or RGB (3 channels) to `color`: "RGB", "BGR" or "GRAY"."""
    if batch.shape[3] == 1:
        return batch if color == "GRAY" else np.repeat(batch, 3, axis=3)
    if color == "BGR":
        return batch[..., ::-1]
    if color == "RGB":
        return batch
    if batch.dtype.kind == "f":
        gray: np.ndarray = batch @ (_LUMA / 65536).astype(batch.dtype)
    else:
        gray = ((batch.astype(np.int64) @ _LUMA + 32768) >> 16).astype(batch.dtype)
    return gray[..., None]
