"""How is a .npz file read? Stored arrays are mapped inside the zip, compressed ones inflated forward."""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from onnxtweak.data.array_names import CLASSES, match_arrays
from onnxtweak.data.samples import Held, InputSpec, Part, Take
from onnxtweak.data.source_spec import Source
from onnxtweak.data.sources.npy import Header, Mapped, map_npy, read_header, read_whole
from onnxtweak.errors import DataError
from onnxtweak.settings import Preprocess

_BLOCK = 1024**2
# What zipfile and its decompressors raise on bytes that are not what the directory promises.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    ValueError,
)


@dataclass(frozen=True)
class Inflated:
    """A column that lies compressed in a zip. It can only be read forward, block by block, once a pass."""

    where: str
    path: Path
    member: str
    shape: tuple[int, ...]
    dtype: np.dtype
    axes: str | None = None
    apart = False

    @property
    def nbytes(self) -> int:
        """Bytes of the array once inflated."""
        return prod(self.shape) * self.dtype.itemsize

    @contextmanager
    def open(self) -> Iterator[Take]:
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

    def _next(self, stream: zipfile.ZipExtFile, count: int) -> np.ndarray:
        wanted = count * prod(self.shape[1:]) * self.dtype.itemsize
        try:
            read = stream.read(wanted)
        except _DAMAGE as error:
            raise _damaged(self.where, error) from error
        if len(read) < wanted:
            raise _damaged(self.where, "it ends too early")
        return np.frombuffer(read, self.dtype).reshape(count, *self.shape[1:])

    def locate(self, row: int) -> str:
        return f"row {row} of {self.where}"


def read_npz(source: Source, inputs: Sequence[InputSpec], preprocess: Preprocess) -> list[Part]:
    """The one part of a .npz file.

    Inputs are found under their tensor names, a single one also under `x`; labels under `y` or `labels`;
    class names under `classes`. Raises DataError for a file that is no zip, damaged, encrypted, or holds
    Python objects, and for arrays that are missing.
    """
    path = source.path
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    except _DAMAGE as error:
        raise DataError(f"not a .npz file: {error}", where=path, hint="write it with numpy.savez") from error
    arrays, labels = match_arrays(members, inputs, source.key, str(path))
    classes = next((name for name in CLASSES if name in members), None)
    return [
        Part(
            where=source.text.partition("[")[0],
            origin=f"{path.resolve()}#{labels}",
            columns={name: _column(path, members[stored], stored) for name, stored in arrays.items()},
            labels=_whole(path, members[labels], labels),
            label_where=f"{labels} in {path}",
            files=((" ".join((*arrays.values(), labels)), path),),
            classes=None if classes is None else _names(_whole(path, members[classes], classes)),
        )
    ]


def load(column: Inflated) -> Held:
    """The whole column, inflated into memory."""
    with column.open() as take:
        array = take(np.arange(column.shape[0]))
    array.flags.writeable = False
    return Held(column.where, array)


def _column(path: Path, info: zipfile.ZipInfo, name: str) -> Mapped | Inflated | Held:
    where = f"{name} in {path}"
    if info.flag_bits & 1:
        raise DataError("the array is encrypted", where=where, hint="write the file without a password")
    header = _header(path, info, where)
    if info.compress_type == zipfile.ZIP_STORED:
        return map_npy(path, where, _data_offset(path, info), info.file_size)
    column = Inflated(where, path, info.filename, header.shape, header.dtype)
    if not header.fortran or len(header.shape) < 2:
        return column
    # Column by column there is no forward order of rows: such an array is read whole, transposed.
    turned = load(Inflated(where, path, info.filename, header.shape[::-1], header.dtype))
    return Held(where, turned.array.T)


def _header(path: Path, info: zipfile.ZipInfo, where: str) -> Header:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(info) as stream:
            header = read_header(stream, where)
            begin = stream.tell()
    except _DAMAGE as error:
        raise _damaged(where, error) from error
    if begin + header.nbytes > info.file_size:
        raise _damaged(where, "it ends too early")
    return header


def _data_offset(path: Path, info: zipfile.ZipInfo) -> int:
    """Where a stored member's bytes begin. Only the local header knows the length of its own extra field."""
    with path.open("rb") as file:
        file.seek(info.header_offset + 26)
        name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
    return info.header_offset + 30 + name + extra


def _whole(path: Path, info: zipfile.ZipInfo, name: str) -> np.ndarray:
    column = _column(path, info, name)
    if isinstance(column, Mapped):
        return read_whole(column)
    if isinstance(column, Held):
        return column.array
    return load(column).array if column.shape and column.nbytes else np.empty(column.shape, column.dtype)


def _names(array: np.ndarray) -> tuple[str, ...] | None:
    if array.ndim != 1 or array.dtype.kind not in "US":
        return None
    return tuple(array.astype(str).tolist())


def _damaged(where: str, why: object) -> DataError:
    return DataError(f"the file is damaged: {why}", where=where, hint="copy or write it again")
