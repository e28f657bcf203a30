"""How does anything that is an array become NumPy's? In place where that is possible, and never written to.

Tensors of other libraries are taken by `__array__` or DLPack. Python objects become numbers or text where all
of them are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxtweak.errors import DataError

_PLAIN = "biufUS"  # kinds of dtypes: booleans, whole numbers, floats, text


def as_array(value: Any, where: str) -> np.ndarray:
    """The value as a read-only array of numbers or text: a view of it, unless it has to be converted.

    Raises DataError for what is no array, rows of several shapes, missing values among Python objects, and
    objects that are neither numbers, text nor arrays.
    """
    try:
        text = isinstance(value, list | tuple) and any(isinstance(item, str) for item in value)
        # Of text and a missing value NumPy itself would make text.
        array = np.array(value, dtype=object) if text else numpys(value)
        if array.dtype.kind == "O" and not array.ndim:
            raise TypeError("it is no array")
    except Exception as error:  # rows of unequal length, tensors on a device: conversion is foreign code
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{type(value).__name__} cannot be read as an array: {reason}",
            where=where,
            hint="give an array with rows of one shape, dense and in this machine's memory",
        ) from error
    if np.ma.is_masked(value):
        row = int(np.argwhere(np.ma.getmaskarray(value))[0][0])
        raise DataError(
            "the value is masked", where=f"row {row} of {where}", hint="fill it in, or leave it out"
        )
    if array.dtype.kind == "T":  # text of any length has no fixed place in memory
        array = array.astype(str)
    if array.dtype.kind == "O":
        array = _without_objects(array, where)
    if array.dtype.kind not in _PLAIN:
        raise DataError(f"{array.dtype} is neither numbers nor text", where=where, hint=_PLAINER)
    view = array.view()
    view.flags.writeable = False
    return view


def unequal_rows(value: Any) -> list[np.ndarray] | None:
    """Arrays of numbers of different shapes, as a list of them or an array of objects; None for others."""
    if not isinstance(value, list | tuple) and getattr(value, "dtype", None) != np.dtype(object):
        return None
    try:
        rows = [numpys(item) for item in value]
    except Exception:  # what is no array is said elsewhere
        return None
    plain = all(row.dtype.kind in "biuf" and row.ndim for row in rows)
    return rows if plain and len({row.shape for row in rows}) > 1 else None


_PLAINER = "give numbers, or text: array.astype('float32'), array.astype(str)"


def numpys(value: Any) -> np.ndarray:
    """NumPy's view of an array of any library, or its copy, of whatever dtype. It raises what that raises."""
    if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
        return np.from_dlpack(value)
    return np.asarray(value.to_numpy() if hasattr(value, "to_numpy") else value)


def _without_objects(array: np.ndarray, where: str) -> np.ndarray:
    """An array of Python objects as numbers, text, or rows (N, ...) that are stacked."""
    items = array.ravel().tolist()
    lost = next((row for row, item in enumerate(items) if _is_missing(item)), None)
    if lost is not None:
        row = lost // max(array[0].size if array.ndim > 1 else 1, 1)
        raise DataError(
            "the value is missing", where=f"row {row} of {where}", hint="fill it in, or leave out the row"
        )
    if any(isinstance(item, str) for item in items):
        other = next((row for row, item in enumerate(items) if not isinstance(item, str)), None)
        if other is not None:
            kind = type(items[other]).__name__
            raise DataError(
                f"text and {kind} are mixed: {items[other]!r} in row {other}", where=where, hint=_PLAINER
            )
        return array.astype(str)
    if array.ndim == 1 and items and all(np.ndim(item) for item in items):
        return _stacked(items, where)
    found = np.array(array.tolist())
    if found.dtype.kind == "O":
        hint = _PLAINER
        raise DataError(f"{type(items[0]).__name__} is neither a number nor text", where=where, hint=hint)
    return found


def _stacked(items: Sequence[Any], where: str) -> np.ndarray:
    """Arrays or lists of one shape, one per row, as one array."""
    rows = [_of_lists(item) for item in items]
    row = next((row for row, item in enumerate(rows) if item.shape != rows[0].shape), None)
    if row is not None:
        raise DataError(
            f"row {row} has the shape {rows[row].shape}, row 0 {rows[0].shape}",
            where=where,
            hint="pad or cut the rows to one shape",
        )
    return np.stack(rows)


def _of_lists(item: Any) -> np.ndarray:
    """A row that may be lists of lists, which Arrow, and what is read with it, holds as arrays of arrays."""
    row = np.asarray(item)
    if row.dtype.kind != "O" or row.ndim != 1 or not len(row) or not all(np.ndim(one) for one in row):
        return row
    inner = [_of_lists(one) for one in row]
    return np.stack(inner) if len({one.shape for one in inner}) == 1 else row


def _is_missing(item: Any) -> bool:
    """Whether a Python object stands for no value: None, NaN, and what pandas calls NA."""
    return item is None or type(item).__name__ == "NAType" or (isinstance(item, float) and item != item)
