"""How large may be what a reader holds whole: labels, class names, columns of text? As its header says.

Compressed, a few megabytes can stand for any size; so the size is asked before anything is loaded.
"""

from __future__ import annotations

import math

import numpy as np

from onnxtweak.errors import DataError

# Of labels: 64 million class numbers.
_MOST_BYTES = {"labels": 512 * 1024**2, "class names": 64 * 1024**2}
_ALWAYS = 1024**2  # next to what the program itself takes it does not count


def require_small(shape: tuple[int, ...], dtype: np.dtype, where: str, what: str, memory: int) -> None:
    """Raise DataError for an array that is too large to be read whole, or that no labels can be.

    what : "labels", "class names", or another word for what only `memory`, in bytes, limits.
    """
    if len(shape) > 2 and what in _MOST_BYTES and dtype.kind not in "biuf":  # not a label at every position
        raise DataError(
            f"{what} of shape {shape} are neither class numbers nor one-hot",
            where=where,
            hint="store class numbers as integers: one per sample, shape (N,), or one at every position",
        )
    size = math.prod(shape) * dtype.itemsize
    allowed = _MOST_BYTES.get(what, size)
    room = max(memory, _ALWAYS)
    if size <= min(allowed, room):
        return
    taken = f"{what} of shape {shape}, {dtype}, would take {size / 2**20:,.0f} MiB"
    if size > allowed:
        hint = "store one class number per sample, shape (N,), and short names"
        raise DataError(f"{taken}: more than the {allowed / 2**20:,.0f} MiB allowed", where=where, hint=hint)
    raise DataError(
        f"{taken}, which are held as a whole: more than the {room / 2**20:,.0f} MiB of --memory for them",
        where=where,
        hint="give more --memory, or fewer or shorter values",
    )
