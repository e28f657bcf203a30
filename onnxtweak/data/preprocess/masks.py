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
from onnxtweak.quantities import number_of

_NAMED = 3  # files that an error or a note names
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


def require_pairs(pictures: Sequence[Path], masks: Path) -> tuple[list[Path], tuple[str, ...]]:
    """The mask of each picture, the file of the same name but for its ending, and a note on masks of none.

    Raises DataError for pictures without a mask.
    """
    by_name = {path.stem: path for path in sorted(masks.iterdir()) if not path.name.startswith(".")}
    bare = [path.name for path in pictures if path.stem not in by_name]
    if bare:
        raise DataError(
            f"{number_of(len(bare), 'picture')} of {len(pictures):,} without a mask: {_first(bare)}",
            where=pictures[0].parent,
            hint=f"put a mask of the same name into {masks}, as .png, or take the picture out",
        )
    known = {path.stem for path in pictures}
    left = [path.name for stem, path in by_name.items() if stem not in known]
    notes = (f"of no picture: {number_of(len(left), 'mask')}, {_first(left)}, in {masks}",) if left else ()
    return [by_name[path.stem] for path in pictures], notes


def _first(names: Sequence[str]) -> str:
    """The first few of them."""
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
