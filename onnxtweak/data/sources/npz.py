"""How is a .npz file read? Uncompressed arrays are memory-mapped in the zip, others decompressed forward."""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import IO

import numpy as np

from onnxtweak.data.array_names import CLASSES, match_arrays, match_group
from onnxtweak.data.preprocess.one_sample import of_one_sample
from onnxtweak.data.samples import (
    ArrayColumn,
    Column,
    GroupColumn,
    InputSpec,
    NumberColumn,
    Part,
    Reading,
    TakeRows,
    no_labels,
    with_rows,
)
from onnxtweak.data.several.own_sizes import RowsColumn, as_objects
from onnxtweak.data.source_spec import Source
from onnxtweak.data.sources.boxes.rows import rows_of
from onnxtweak.data.sources.held_whole import require_small
from onnxtweak.data.sources.npy import (
    NO_ARRAY,
    Header,
    MappedColumn,
    arrays_of_objects,
    map_npy,
    read_array,
    read_header,
)
from onnxtweak.errors import DataError
from onnxtweak.input_files import require_regular

_BLOCK = 1024**2
# What zipfile, its decompressors and NumPy raise on a damaged archive.
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    OSError,
    NotImplementedError,
    RuntimeError,
    *NO_ARRAY,
)


@dataclass(frozen=True)
class CompressedColumn:
    """A column stored compressed in a zip. It can only be read forward, block by block, once per pass."""

    where: str
    path: Path
    member: str
    shape: tuple[int, ...]
    dtype: np.dtype
    axes: str | None = None
    sized = False
    thread_safe = False
    held = 0

    @property
    def nbytes(self) -> int:
        """Bytes of the array once decompressed."""
        return prod(self.shape) * self.dtype.itemsize

    def as_sample(self) -> CompressedColumn:
        """As of `StoredArray`."""
        return replace(self, shape=(1, *self.shape))

    @contextmanager
    def open(self) -> Iterator[TakeRows]:
        with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as stream:
            read_header(stream, self.where)
            sample = self.shape[1:]
            row_bytes = prod(sample) * self.dtype.itemsize
            height = max(_BLOCK // row_bytes, 1)
            first, block = 0, np.empty((0, *sample), self.dtype)

            def take(rows: np.ndarray) -> np.ndarray:
                nonlocal first, block
                chosen = np.empty((len(rows), *sample), self.dtype)
                done = 0
                while done < len(rows):
                    if rows[done] < first:
                        raise ValueError("rows of a compressed array must ascend")
                    while rows[done] >= first + len(block):
                        first += len(block)
                        block = self._next(stream, min(height, self.shape[0] - first))
                    end = int(np.searchsorted(rows, first + len(block)))
                    np.take(block, rows[done:end] - first, axis=0, out=chosen[done:end])
                    done = end
                return chosen

            yield take

    def _next(self, stream: IO[bytes], count: int) -> np.ndarray:
        wanted = count * prod(self.shape[1:]) * self.dtype.itemsize
        try:
            read = stream.read(wanted)
        except DAMAGE as error:
            raise damaged(self.where, error) from error
        if len(read) < wanted:
            raise damaged(self.where, "unexpected end of data")
        return np.frombuffer(read, self.dtype).reshape(count, *self.shape[1:])

    def locate(self, row: int) -> str:
        return f"row {row} of {self.where}"


def read_npz(source: Source, inputs: Sequence[InputSpec], reading: Reading) -> list[Part]:
    """The samples of a .npz file, as one part.

    Inputs are found under their tensor names, a single one also under `x`; labels under `y` or `labels`;
    class names under `classes`. Raises DataError for a file that is not a zip, is damaged or encrypted, or
    contains Python objects, and for missing arrays.
    """
    path = source.path
    require_regular(path, DataError)  # in a folder of them no other has been looked at
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    except DAMAGE as error:
        raise DataError(f"not a .npz file: {error}", where=path, hint="write it with numpy.savez") from error
    arrays, labels = match_arrays(members, inputs, source.key, str(path), reading)
    groups = {name: match_group(members, name, source.key, str(path)) for name in reading.groups}
    first = next(iter(arrays.values()))
    classes = next((name for name in CLASSES if name in members), None)
    names = None
    if classes is not None:
        names = names_in(_array(path, members[classes], classes, "class names", reading.memory))
    specs = {spec.name: spec for spec in inputs}
    columns = {
        name: _of_input(path, members[stored], stored, reading.memory, specs[name])
        for name, stored in arrays.items()
    }
    notes: tuple[str, ...] = ()
    stored_labels = None
    if labels:
        unequal = reading.boxes or any(isinstance(column, RowsColumn) for column in columns.values())
        stored_labels = _labels(path, members[labels], labels, reading.memory, unequal=unequal)
    if stored_labels is None:
        stored_labels = no_labels(columns)
    elif reading.boxes:
        spec = with_rows(inputs)[0]
        column, where = columns[spec.name], f"{labels} in {path}"
        stored_labels, notes = rows_of(stored_labels, column, spec, reading.preprocess, where)
    return [
        of_one_sample(
            Part(
                where=str(path) if source.key is None else f"{path}#{source.key}",
                origin=f"{path.resolve()}#{labels or first}",
                columns=columns,
                labels=stored_labels,
                label_where=f"{labels or first} in {path}",
                files=((" ".join((*arrays.values(), *((labels,) if labels else ()))), path),),
                classes=names,
                groups={
                    name: GroupColumn(
                        f"{stored} in {path}", _array(path, members[stored], stored, "values", reading.memory)
                    )
                    for name, stored in groups.items()
                },
                labelled=labels is not None,
                notes=notes,
            ),
            inputs,
        )
    ]


def load(column: CompressedColumn) -> ArrayColumn:
    """The whole column, decompressed into memory."""
    with column.open() as take:
        array = take(np.arange(column.shape[0]))
    array.flags.writeable = False
    return ArrayColumn(column.where, array)


def _labels(path: Path, info: zipfile.ZipInfo, name: str, memory: int, *, unequal: bool) -> np.ndarray:
    """Labels as they are stored. unequal : whether they may be arrays of different sizes."""
    rows = _arrays_of_objects(path, info, name, memory) if unequal else None
    return _array(path, info, name, "labels", memory) if rows is None else as_objects(rows)


def _arrays_of_objects(path: Path, info: zipfile.ZipInfo, name: str, memory: int) -> list[np.ndarray] | None:
    """Arrays of different shapes; None for anything else. Raises DataError where they take too much."""
    if info.flag_bits & 1:
        return None
    try:
        with zipfile.ZipFile(path) as archive, archive.open(info) as stream:
            return arrays_of_objects(stream, info.file_size, f"{name} in {path}", memory)
    except DAMAGE:
        return None


def _of_input(path: Path, info: zipfile.ZipInfo, name: str, memory: int, spec: InputSpec) -> Column:
    if spec.any_size and (rows := _arrays_of_objects(path, info, name, memory)) is not None:
        return RowsColumn.of(f"{name} in {path}", rows)
    column = _column(path, info, name, memory)
    if column.shape:
        return column
    with zipfile.ZipFile(path) as archive, archive.open(info) as stream:
        return NumberColumn(column.where, np.lib.format.read_array(stream, allow_pickle=False))


def _column(
    path: Path, info: zipfile.ZipInfo, name: str, memory: int
) -> MappedColumn | CompressedColumn | ArrayColumn:
    where = f"{name} in {path}"
    if info.flag_bits & 1:
        raise DataError("the array is encrypted", where=where, hint="write the file without a password")
    header = _header(path, info, where)
    if info.compress_type == zipfile.ZIP_STORED:
        _require_checksum(path, info.filename, where, path.stat().st_mtime_ns)
        return map_npy(path, where, data_offset(path, info), info.file_size)
    column = CompressedColumn(where, path, info.filename, header.shape, header.dtype)
    if not header.fortran or len(header.shape) < 2:
        return column
    # Fortran order has no rows to read forward: such an array is loaded whole, transposed.
    require_small(header.shape, header.dtype, where, "compressed values in Fortran order", memory)
    transposed = load(CompressedColumn(where, path, info.filename, header.shape[::-1], header.dtype))
    return ArrayColumn(where, transposed.array.T)


def _header(path: Path, info: zipfile.ZipInfo, where: str) -> Header:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(info) as stream:
            header = read_header(stream, where)
            begin = stream.tell()
    except DAMAGE as error:
        raise damaged(where, error) from error
    if begin + header.nbytes > info.file_size:
        raise damaged(where, "unexpected end of data")
    return header


@lru_cache(maxsize=256)
def _require_checksum(path: Path, name: str, where: str, changed: int) -> None:
    """Read a stored member once. Raises DataError where its bytes are not those of its checksum.

    changed : time of the last change to the file, so that a new one is read again.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(name) as stream:
            while stream.read(_BLOCK):
                pass
    except DAMAGE as error:
        raise damaged(where, error) from error


def data_offset(path: Path, info: zipfile.ZipInfo) -> int:
    """Where a stored member's bytes begin: its local header has extra fields of its own length."""
    with path.open("rb") as file:
        file.seek(info.header_offset + 26)
        name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
    return info.header_offset + 30 + name + extra


def _array(path: Path, info: zipfile.ZipInfo, name: str, what: str, memory: int) -> np.ndarray:
    where = f"{name} in {path}"
    header = _header(path, info, where)
    require_small(header.shape, header.dtype, where, what, memory)
    column = _column(path, info, name, memory)
    if isinstance(column, MappedColumn):
        return read_array(column)
    if isinstance(column, ArrayColumn):
        return column.array
    return load(column).array if column.shape and column.nbytes else np.empty(column.shape, column.dtype)


def names_in(array: np.ndarray) -> tuple[str, ...] | None:
    """Class names that an array holds; None where it holds something else."""
    if array.ndim != 1 or array.dtype.kind not in "US":
        return None  # numbers of the classes, say, or a mask: no names
    return tuple(array.astype(str).tolist())


def damaged(where: str, why: object) -> DataError:
    """The error for a file that cannot be read."""
    return DataError(f"the file is damaged: {why}", where=where, hint="copy it or write it again")
