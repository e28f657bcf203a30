"""How do mask files become labels at positions? Decoded, and brought to the size of the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from onnxtweak.data.preprocess.sizes import pixels_allowed
from onnxtweak.data.preprocess.transforms import pillow_decoder
from onnxtweak.data.samples import Reading
from onnxtweak.data.several.own_sizes import as_objects
from onnxtweak.errors import DataError

_UNKNOWN = 255  # where a mask is padded, unless the user names another number


def read_masks(paths: Sequence[Path], where: str, reading: Reading) -> np.ndarray:
    """The class numbers of all masks, (N, h, w), sized as pictures of their size are, without blending.

    Of different sizes, (N,) objects, an array each. where : for the errors. Raises DataError for what is no
    mask, and where all together take more than half of the memory.
    """
    decode, most = pillow_decoder().decode_mask, pixels_allowed(reading.memory)
    unknown = _UNKNOWN if reading.ignored is None else reading.ignored
    first = decode(paths[0], reading.preprocess, most, unknown)
    _require_room(len(paths) * first.nbytes, len(paths), where, reading.memory)
    found, taken = np.empty((len(paths), *first.shape), first.dtype), 0
    for number, path in enumerate(paths):
        mask = decode(path, reading.preprocess, most, unknown)
        if found.dtype != object and mask.shape != first.shape:
            found = as_objects([*found[:number], *[first] * (len(paths) - number)])
        found[number] = mask
        taken += mask.nbytes
        _require_room(taken, len(paths), where, reading.memory)
    return found


def _require_room(taken: int, count: int, where: str, memory: int) -> None:
    """Raise DataError for more bytes of masks than half of the memory."""
    if taken > memory // 2:
        raise DataError(
            f"{count:,} masks of this size would take {taken / 2**20:,.0f} MiB as labels",
            where=where,
            hint="give more --memory, or smaller pictures: --resize HxW",
        )


def require_pairs(pictures: Sequence[Path], masks: Path) -> list[Path]:
    """The mask of each picture: the file of the same name, but for its ending. Raises DataError for none."""
    by_name = {path.stem: path for path in sorted(masks.iterdir()) if not path.name.startswith(".")}
    missing = next((path for path in pictures if path.stem not in by_name), None)
    if missing is not None:
        raise DataError(
            "the picture has no mask", where=missing, hint=f"put one of the same name into {masks}, as .png"
        )
    return [by_name[path.stem] for path in pictures]
