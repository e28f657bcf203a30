"""Where do arrays lie that memory cannot hold, and how are they read? In mapped files, by blocks of rows.

A mapped array is an ordinary NumPy array of a file that has no name: nothing is left of it when its process
is gone, however that ended. Whatever is added up over rows is added up block by block. The blocks are the
same wherever an array lies and however much memory there is, and so are the sums, to the last bit.
"""

from __future__ import annotations

import math
import mmap
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from onnxtweak.disk_space import cannot_write, free_bytes, reserve
from onnxtweak.errors import OutputError

# Rows of a block: enough for products to take their time, and 64 MiB of 2,000 columns.
ROWS = 8192
# Numbers of a block of rows that are looked at one by one: it stays in the cache from first to last step.
LIGHT = 2**18
# A page that is read brings some around it into memory: so many bytes before what is let go are let go too.
_AROUND = 2**20
_ELSEWHERE = "name a folder on a larger disk with --work-dir, or take fewer --neurons or more --memory"


class _Mapping(mmap.mmap):
    """A mapped file. folder : where it lies. start : its address."""

    folder: Path
    start: int


def is_mapped(array: np.ndarray) -> bool:
    """Whether an array, or what it is a view of, lies in a file."""
    return _mapping(array) is not None


def new_array(shape: tuple[int, ...], dtype: Any, folder: Path | None) -> np.ndarray:
    """A new array, of any values in memory; of zeros in a file of this folder, whose space is reserved.

    Raises OutputError where the disk is full.
    """
    if folder is None or 0 in shape:
        return np.empty(shape, dtype)
    size = np.dtype(dtype).itemsize * math.prod(shape)
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            reserve(file, size)
            mapping = _Mapping(file.fileno(), size)
    except OSError as error:
        found = cannot_write(folder / "table", error, "a table that --memory cannot hold", size)
        raise OutputError(found.what, where=folder, hint=_ELSEWHERE) from error
    array: np.ndarray = np.ndarray(shape, dtype, buffer=mapping)
    mapping.folder, mapping.start = folder, array.ctypes.data
    return array


def parts(count: int) -> Iterator[slice]:
    """The blocks of so many rows."""
    return (slice(start, min(start + ROWS, count)) for start in range(0, count, ROWS))


def light_parts(*arrays: Any, numbers: int | None = None) -> Iterator[slice]:
    """Smaller blocks of the rows of arrays, for what looks at each row alone or adds them up in turn.

    numbers : in a block of the widest, about; default LIGHT.
    """
    widest = max(math.prod(array.shape[1:]) for array in arrays)
    step = max(min((LIGHT if numbers is None else numbers) // max(widest, 1), ROWS), 1)
    return (slice(start, min(start + step, len(arrays[0]))) for start in range(0, len(arrays[0]), step))


def beside(other: np.ndarray, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """A new array where another lies: in memory, or in a file of the same folder. Raises OutputError."""
    mapping = _mapping(other)
    return new_array(shape, dtype, None if mapping is None else mapping.folder)


def require_free(folder: Path, size: int) -> None:
    """Raise OutputError where tables of so many bytes in all will not find room in a folder."""
    free = free_bytes(folder / "table")
    if size > free:
        raise OutputError(
            f"tables that --memory cannot hold need {size:,} bytes of disk, of which {free:,} are free",
            where=folder,
            hint=_ELSEWHERE,
        )


def blocks(array: np.ndarray, rows: np.ndarray | None = None) -> Iterator[tuple[slice, np.ndarray]]:
    """The rows of an array block by block: where each block lies among them, and its values.

    rows (n,) int64, ascending : the rows that are wanted, default all. A block has to be done with when the
    next one is asked for: its memory is used again, or, of a mapped array, freed.
    """
    count = len(array) if rows is None else len(rows)
    held = None if rows is None else np.empty((min(ROWS, count), *array.shape[1:]), array.dtype)
    for part in parts(count):
        if rows is None or held is None:
            yield part, array[part]
            let_go_rows(part, array)
        else:
            own = rows[part]
            # Memory that is touched for the first time would cost more than the copy.
            block = np.take(array, own, axis=0, out=held[: len(own)], mode="clip")
            let_go(array[own[0] : own[-1] + 1])
            yield part, block


def light_blocks(array: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """`blocks` of all rows, of which each is looked at alone."""
    for part in light_parts(array):
        yield part, array[part]
        let_go_rows(part, array)


def let_go_rows(part: slice, *arrays: Any) -> None:
    """`let_go` of these rows of each, where it lies in a file; others, which may be CuPy's, stay."""
    for array in arrays:
        if _mapping(array) is not None:
            let_go(array[part])


def let_go(array: np.ndarray) -> None:
    """Free the memory that a mapped array takes: its values are read from the file when they are wanted."""
    mapping = _mapping(array)
    if mapping is None or not array.size or not hasattr(mapping, "madvise"):
        return
    begin = array.ctypes.data - mapping.start
    end = begin + sum((n - 1) * s for n, s in zip(array.shape, array.strides, strict=True)) + array.itemsize
    begin = max(begin - begin % mmap.PAGESIZE - _AROUND, 0)
    mapping.madvise(mmap.MADV_DONTNEED, begin, end - begin)


def by_rows(function: Callable[..., np.ndarray], *arrays: np.ndarray) -> np.ndarray:
    """What a function that looks at each row alone makes of arrays with as many rows, NumPy's or all CuPy's.

    Where one of them lies in a file, it is made block by block, and lies there too unless it is a vector.
    """
    mapped = next(filter(is_mapped, arrays), None)
    return function(*arrays) if mapped is None else in_blocks(function, *arrays, like=mapped)


def in_blocks(
    function: Callable[..., np.ndarray], *arrays: np.ndarray, like: np.ndarray | None = None
) -> np.ndarray:
    """`by_rows` block by block in memory too, where copies in passing would be several arrays as large.

    It lies where `like` does; None: in a file where one of the arrays does.
    """
    where = next(filter(is_mapped, arrays), arrays[0]) if like is None else like
    found: np.ndarray | None = None
    for part in light_parts(*arrays):
        made = function(*(array[part] for array in arrays))
        if found is None:
            shape = len(arrays[0]), *made.shape[1:]
            found = np.empty(shape, made.dtype) if made.ndim == 1 else beside(where, shape, made.dtype)
        found[part] = made
        let_go_rows(part, *arrays, found)
    return function(*arrays) if found is None else found


def entries(array: np.ndarray, column: np.ndarray) -> np.ndarray:
    """One number of each row (N,), at a column (N,) int64 of an array (N, C)."""

    def of_rows(array: np.ndarray, column: np.ndarray) -> np.ndarray:
        whole = np.ascontiguousarray(array).reshape(-1)  # laid out flat, which is looked up faster
        found: np.ndarray = whole.take(column + np.arange(0, array.size, array.shape[1]))
        return found

    return by_rows(of_rows, array, column)


def chosen_rows(array: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The rows of an array (N, C) that are chosen, (N,) bool, where it lies; the array itself if all are."""
    return array if chosen.all() else taken(array, np.flatnonzero(chosen))


def sums_by_rows(function: Callable[..., Any], *arrays: Any, kind: Any = np.float64) -> Any:
    """The sum over rows (C,), of a dtype, of what a function, as of `by_rows`, makes of arrays: (N, C).

    Rows are added one after the other, wherever the arrays lie.
    """
    if not any(map(is_mapped, arrays)):
        return function(*arrays).sum(axis=0, dtype=kind)
    return summed(function, *arrays, kind=kind)


def summed(function: Callable[..., Any], *arrays: np.ndarray, kind: Any = np.float64) -> np.ndarray:
    """`sums_by_rows` block by block in memory too."""
    total: np.ndarray | None = None
    for part in light_parts(*arrays):
        total = added(total, function(*(array[part] for array in arrays)), kind)
        let_go_rows(part, *arrays)
    found: np.ndarray = function(*arrays).sum(axis=0, dtype=kind) if total is None else total
    return found


def added(total: np.ndarray | None, rows: np.ndarray, kind: Any = np.float64) -> np.ndarray:
    """A sum (C,) of a dtype, or nothing yet, and rows (n, C), at least one, one after the other."""
    for part in light_parts(rows):
        own = rows[part] if total is None else np.concatenate([total[None], rows[part]])
        total = own.sum(axis=0, dtype=kind)
    assert total is not None
    return total


def add_rows(into: np.ndarray, rows: np.ndarray, values: np.ndarray, columns: np.ndarray) -> None:
    """Add values (n, F) to some rows (n,) int64 of an array (N, C), at columns (F,) int64."""
    for part in light_parts(values):
        into[np.ix_(rows[part], columns)] += values[part].astype(into.dtype)
        let_go(into)
        let_go(values[part])


def with_added(array: np.ndarray, values: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """A copy of an array (N, C), to some columns (k,) int64 of which values (N, k) are added."""
    found = copied(array)
    add_rows(found, np.arange(len(found)), values, columns)
    return found


def interleaved(first: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The rows of two arrays in one, where the first lies. first (N,) bool : which are of `one`, in order."""
    found = beside(one, (len(first), *one.shape[1:]), one.dtype)
    put_rows(found, np.flatnonzero(first), one)
    put_rows(found, np.flatnonzero(~first), other)
    return found


def put_rows(into: np.ndarray, rows: np.ndarray, values: np.ndarray) -> None:
    """Replace some rows (n,) int64 of an array (N, C) by values (n, C)."""
    if not is_mapped(values) and not is_mapped(into):
        into[rows] = values
        return
    for part, block in light_blocks(values):
        into[rows[part]] = block
        let_go(into)


def transposed(array: np.ndarray) -> np.ndarray:
    """The columns of an array (N, C) as rows (C, N), where it lies."""
    if not is_mapped(array):
        return np.ascontiguousarray(array.T)
    found = beside(array, array.shape[::-1], array.dtype)
    for part, block in blocks(array):
        found[:, part] = block.T
        let_go(found)
    return found


def rows_of_columns(columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Some rows (n,) int64 of an array (N, K) whose columns (K, N) are held: (n, K), in memory."""
    if not is_mapped(columns):
        return np.ascontiguousarray(columns[:, rows].T)
    found = np.empty((len(rows), len(columns)), columns.dtype)
    for k, column in enumerate(columns):
        found[:, k] = column[rows]
        let_go(column)
    return found


def copied(array: np.ndarray) -> np.ndarray:
    """A copy, where the array lies."""
    return by_rows(np.copy, array)


def taken(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Some rows (n,) int64 of an array (N, K), in the given order, where it lies."""
    if not is_mapped(array):
        found: np.ndarray = array[rows]
        return found
    taken = beside(array, (len(rows), *array.shape[1:]), array.dtype)
    for part, block in light_blocks(taken):
        block[...] = array[rows[part]]
        let_go(array)
    return taken


def of_columns(array: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Some columns (k,) int64 of an array (N, K), in the given order, where it lies; of all, the array."""
    if np.array_equal(columns, np.arange(array.shape[1])):
        return array
    if not is_mapped(array):
        return np.take(array, columns, axis=1)
    return by_rows(lambda rows: np.take(rows, columns, axis=1), array)


def column_sums(array: np.ndarray, columns: np.ndarray | None = None) -> np.ndarray:
    """The sum of each column of an array (N, K), or of some (k,) int64: float64."""
    total = np.zeros(array.shape[1] if columns is None else len(columns))
    for _, block in blocks(array):
        total += (block if columns is None else np.take(block, columns, axis=1)).sum(axis=0, dtype=np.float64)
    return total


def any_in_columns(array: np.ndarray) -> np.ndarray:
    """Which columns (K,) bool of an array (N, K) are not all zeros."""
    found = np.zeros(array.shape[1], bool)
    for _, block in blocks(array):
        found |= block.any(axis=0)
    return found


def filled(
    other: np.ndarray, parts: Iterable[tuple[slice, np.ndarray]], columns: int, dtype: Any
) -> np.ndarray:
    """An array (N, columns) with as many rows as another, where that lies, from blocks of its rows."""
    found = beside(other, (len(other), columns), dtype)
    for part, values in parts:
        found[part] = values
        let_go(found[part])
    return found


def end_to_end(arrays: list[np.ndarray]) -> np.ndarray:
    """The rows of several arrays, one array after the other, where the first lies."""
    if not any(map(is_mapped, arrays)):
        return np.concatenate(arrays)
    mapped = next(filter(is_mapped, arrays))
    found, at = beside(mapped, (sum(map(len, arrays)), *mapped.shape[1:]), mapped.dtype), 0
    for array in arrays:
        for _, block in light_blocks(array):
            found[at : at + len(block)] = block
            let_go(found[at : at + len(block)])
            at += len(block)
    return found


def _mapping(array: np.ndarray) -> _Mapping | None:
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, _Mapping) else None
