"""What does an array of Python objects hold? Its pickle is read with stand-ins: nothing in it is carried out.

Arrays of different shapes are put together again from what the stand-ins were given. Anything else is
refused; the message then says why rows would not stack, and what to do.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from typing import IO, Any

import numpy as np

_SHOWN = 4
_MOST_BYTES = 1 << 28  # what is read at most to explain
_NUMPY = {"_reconstruct", "ndarray", "dtype", "_frombuffer", "scalar"}


class _StandIn:
    """Takes the place of an array, or of what is called to make one; `state` is what it is given last."""

    def __init__(self, *given: Any) -> None:
        self.given = self.state = given  # type: Any

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "numpy" and name in _NUMPY:
            return _StandIn
        raise pickle.UnpicklingError(f"{module}.{name}")


def arrays_in(stream: IO[bytes], most: int) -> list[np.ndarray] | None:
    """The arrays of numbers that an array of objects holds; None where it holds anything else.

    stream : just behind its header. most : bytes to read.
    """
    try:
        rows = _Reader(io.BytesIO(stream.read(most))).load().state[4]
        found = [_array(row) for row in rows]
    except Exception:  # whatever a damaged or foreign pickle raises
        return None
    return found if found and all(one.dtype.kind in "biuf" and one.ndim for one in found) else None


def _array(row: Any) -> np.ndarray:
    """An array from its stand-in: version, shape, type, whether in Fortran order, bytes."""
    _, shape, kind, fortran, data = row.state
    (code, *_), (_, order, *_) = kind.given, kind.state
    dtype = np.dtype(code).newbyteorder(order if order in "<>" else "=")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def explain(stream: IO[bytes]) -> tuple[str, str]:
    """What an array of objects holds, and what to do. stream : just behind its header."""
    try:
        rows = _Reader(io.BytesIO(stream.read(_MOST_BYTES))).load().state[4]
        shapes = [_shape(row) for row in rows]
    except Exception:  # whatever a damaged or foreign pickle raises
        return _OTHER
    if rows and all(isinstance(row, str) for row in rows):
        return "the array holds text as Python objects", "save it as text: array.astype(str)"
    kinds = list(dict.fromkeys(shapes))
    if not kinds or None in kinds or not any(kinds):
        return _OTHER
    if len(kinds) == 1:
        return (
            f"the array holds {len(shapes)} arrays of shape {kinds[0]} as Python objects",
            "save them as one array: numpy.stack(list(array))",
        )
    return f"the rows have different lengths: {_listed(shapes, kinds)}", _remedy(kinds)


_OTHER = (
    "the array contains Python objects, which are not loaded because that could run code",
    "save numbers or text: array.astype('float32') or array.astype(str)",
)


def _shape(row: Any) -> tuple[int, ...] | None:
    """Of an array or a list; () for a number or text; None for anything else."""
    if isinstance(row, _StandIn):
        places = [part for part in row.state if isinstance(part, tuple)]
        return next((tuple(p) for p in places if all(isinstance(size, int) for size in p)), None)
    if isinstance(row, list | tuple):
        inner = {_shape(item) for item in row}
        deeper = inner.pop() if len(inner) == 1 else () if not inner else None
        return None if deeper is None else (len(row), *deeper)
    return () if isinstance(row, int | float | str) else None


def _listed(shapes: Sequence[tuple[int, ...] | None], kinds: Sequence[tuple[int, ...] | None]) -> str:
    """Each shape with the number of rows that have it, and the first of them."""
    texts = []
    for kind in kinds[:_SHOWN]:
        rows = [row for row, shape in enumerate(shapes) if shape == kind]
        text = str(kind[0]) if kind is not None and len(kind) == 1 else str(kind)
        texts.append(f"{text} in row {rows[0]}" + (f" and {len(rows) - 1} more" if len(rows) > 1 else ""))
    return "; ".join(texts) + ("; ..." if len(kinds) > _SHOWN else "")


def _remedy(kinds: Sequence[tuple[int, ...] | None]) -> str:
    known = [kind for kind in kinds if kind is not None]
    if len({len(kind) for kind in known}) > 1:
        return "store every sample in the same shape, and save one array (N, ...)"
    largest = tuple(map(max, zip(*known, strict=True)))
    return f"pad every sample to {largest} (numpy.pad) or cut them to one shape, and save one array (N, ...)"
