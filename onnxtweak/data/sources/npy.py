"""How is a .npy array read without loading it? Through a memory map that releases the pages it has read."""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tokenize import TokenError
from typing import IO, Literal

import numpy as np

from onnxtweak.data.samples import TakeRows, take_rows
from onnxtweak.data.several.object_rows import arrays_in, explain
from onnxtweak.errors import DataError
from onnxtweak.input_files import require_regular

# What NumPy raises for what is no array: it reads headers as Python would.
NO_ARRAY = (ValueError, EOFError, SyntaxError, TokenError, OverflowError, RecursionError)
# Pages of a mapped file count as the process's memory until they are released; bytes read before that.
_RELEASE_AFTER = 64 * 1024**2


@dataclass(frozen=True)
class Header:
    """The header of a .npy stream. shape, dtype : of the array. fortran : whether in Fortran order."""

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(stream: IO[bytes], where: str) -> Header:
    """Read a .npy header, leaving the stream at the first value.

    Raises DataError for anything but .npy, for Python objects (they would be unpickled, which can run code)
    and for structured dtypes.
    """
    try:
        shape, fortran, dtype = _raw_header(stream)
    except NO_ARRAY as error:
        raise DataError(f"not a .npy array: {error}", where=where, hint="write it with numpy.save") from error
    if dtype.hasobject:
        what, hint = explain(stream)
        raise DataError(what, where=where, hint=hint)
    if dtype.names is not None or dtype.kind in "cVmM":
        raise DataError(f"unsupported dtype {dtype}", where=where, hint="save plain numbers or text")
    if min(shape, default=0) < 0:
        raise DataError(f"impossible array shape {shape}", where=where, hint="copy or write the file again")
    return Header(shape, dtype, fortran)


def _raw_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether in Fortran order, and type, as they are written. Raises what NumPy raises."""
    of_first = np.lib.format.read_magic(stream) == (1, 0)
    read = np.lib.format.read_array_header_1_0 if of_first else np.lib.format.read_array_header_2_0
    return read(stream)


def arrays_of_objects(stream: IO[bytes], size: int, where: str, memory: int) -> list[np.ndarray] | None:
    """The arrays of numbers that a .npy stream of objects holds, of their own shapes; None for anything else.

    size : of the stream, in bytes. Nothing is unpickled (`several.object_rows`). Raises DataError where they
    take more than half of the memory, and what NumPy raises for what is no array.
    """
    shape, _, dtype = _raw_header(stream)
    if not dtype.hasobject or len(shape) != 1:
        return None
    if size > memory // 2:
        raise DataError(
            f"arrays of different sizes take {size / 2**20:,.0f} MiB in memory",
            where=where,
            hint="allow more --memory, or store each sample as an array of its own: numpy.savez(path,"
            " x_0=..., y_0=..., x_1=..., y_1=...)",
        )
    return arrays_in(stream, size)


@dataclass(frozen=True)
class MappedColumn:
    """A column stored uncompressed in a file, from byte `offset` on. fortran : whether in Fortran order.

    folder : what keeps the file, where it is a temporary one.
    """

    where: str
    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool = False
    axes: str | None = None
    folder: object = None
    sized = False
    thread_safe = True
    held = 0

    def as_sample(self) -> MappedColumn:
        """As of `StoredArray`."""
        return replace(self, shape=(1, *self.shape))

    @contextmanager
    def open(self) -> Iterator[TakeRows]:
        with self.path.open("rb") as file:
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        order: Literal["C", "F"] = "F" if self.fortran else "C"
        array = np.ndarray(self.shape, self.dtype, buffer=mapping, offset=self.offset, order=order)
        row_bytes = max(array.nbytes // self.shape[0], 1)
        read_bytes = 0

        def take(rows: np.ndarray) -> np.ndarray:
            nonlocal read_bytes
            chosen = np.array(take_rows(array, rows), order="C")
            read_bytes += int(rows[-1] - rows[0] + 1) * row_bytes if len(rows) else 0
            if read_bytes > _RELEASE_AFTER and hasattr(mapping, "madvise"):
                mapping.madvise(mmap.MADV_DONTNEED)
                read_bytes = 0
            return chosen

        yield take

    def locate(self, row: int) -> str:
        return f"row {row} of {self.where}"


def map_npy(path: Path, where: str | None = None, offset: int = 0, length: int | None = None) -> MappedColumn:
    """Map the .npy array that starts at byte `offset` of a file and ends before `offset + length`.

    Raises DataError when the file is truncated.
    """
    where = str(path) if where is None else where
    require_regular(path, DataError)
    try:
        with path.open("rb") as file:
            file.seek(offset)
            header = read_header(file, where)
            begin = file.tell()
            end = min(file.seek(0, 2), math.inf if length is None else offset + length)
    except OSError as error:
        raise DataError(
            f"the file cannot be read: {error.strerror}", where=where, hint="check the path"
        ) from error
    if begin + header.nbytes > end:
        raise DataError("the file is truncated", where=where, hint="copy it or write it again")
    return MappedColumn(where, path, begin, header.shape, header.dtype, header.fortran)


def read_array(column: MappedColumn) -> np.ndarray:
    """The whole array, loaded into memory; for labels and class names."""
    if not column.shape or not column.shape[0]:
        return np.empty(column.shape, column.dtype)
    with column.open() as take:
        return take(np.arange(column.shape[0]))
