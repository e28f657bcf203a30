"""Where are samples kept that can only be read once? In a temporary folder, from which they are mapped."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from weakref import finalize

import numpy as np

from onnxtweak.data.sources.npy import MappedColumn
from onnxtweak.disk_space import cannot_write, write_all
from onnxtweak.errors import DataError, OutputError
from onnxtweak.temporary_files import temporary_folder

_SHARE = 0.9  # of the room on a disk that a copy may take: the rest is for everybody else


class SpoolFolder:
    """A new temporary folder, removed when no column in it is in use any more, or when the program ends.

    Raises OutputError.
    """

    def __init__(self) -> None:
        place, stack = Path(tempfile.gettempdir()), ExitStack()
        with _spooling(place):
            self.path = stack.enter_context(temporary_folder(place, private=True))
        finalize(self, stack.close)


def room_in(folder: Path) -> int:
    """Bytes that copies of samples may take there."""
    return int(shutil.disk_usage(folder).free * _SHARE)


def require_within(room: int, spools: Iterable[Spool], hint: str) -> None:
    """Raise OutputError where samples have taken more than the bytes that `room_in` had allowed.

    hint : what to do about the samples.
    """
    spools = list(spools)
    taken = sum(spool.size for spool in spools)
    if taken > room:
        raise OutputError(
            f"a copy of the samples takes {taken / 2**20:,.0f} MiB so far: more than nine tenths of what was"
            " free on the disk",
            where=spools[0].path.parent.parent,
            hint=f"{hint}; or set TMPDIR to a folder with more room",
        )


@contextmanager
def _spooling(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        found = cannot_write(place, error, "a copy of the samples")
        hint = "make room there, or set TMPDIR to a folder elsewhere"
        raise OutputError(found.what, where=place, hint=hint) from error


@dataclass
class Spool:
    """An input's values, written to a file in a folder, batch by batch. shape, dtype : of one sample.

    rows : how many of this shape were written, from byte `offset` on.
    """

    folder: SpoolFolder
    path: Path
    file: FileIO
    shape: tuple[int, ...]
    dtype: np.dtype
    rows: int = 0
    offset: int = 0

    @property
    def size(self) -> int:
        """Bytes written."""
        return self.offset + self.rows * math.prod(self.shape) * self.dtype.itemsize

    def begin(self, shape: tuple[int, ...]) -> None:
        """Samples of another shape follow. They are a column of their own."""
        self.offset, self.rows, self.shape = self.size, 0, shape

    def append(self, array: np.ndarray, name: str, where: str) -> None:
        """Write a batch (n, ...).

        Raises DataError where its samples differ from the earlier ones, OutputError where the disk is full.
        """
        if (array.shape[1:], array.dtype) != (self.shape, self.dtype):
            raise DataError(
                f"`{name}` is {array.shape[1:]} {array.dtype} here, but {self.shape} {self.dtype} before",
                where=where,
                hint="yield the same shape and dtype in every batch",
            )
        with _spooling(self.path.parent):
            write_all(self.file, np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        self.rows += len(array)

    def column(self, where: str) -> MappedColumn:
        """What was written of this shape, once the file is closed. where : how a message names it."""
        shape = (self.rows, *self.shape)
        return MappedColumn(where, self.path, self.offset, shape, self.dtype, folder=self.folder)
