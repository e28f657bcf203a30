"""Where are samples kept that can only be read once? In a temporary folder, from which they are mapped."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from onnxtweak.data.sources.npy import MappedColumn
from onnxtweak.errors import DataError


def spool_folder() -> Path:
    """A new temporary folder, removed when the program ends."""
    folder = Path(tempfile.mkdtemp(prefix="onnxtweak-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@dataclass
class Spool:
    """An input's values, written to disk batch by batch. shape, dtype : of one sample."""

    path: Path
    file: BinaryIO
    shape: tuple[int, ...]
    dtype: np.dtype
    rows: int = 0

    def append(self, array: np.ndarray, name: str, where: str) -> None:
        """Write a batch (n, ...). Raises DataError where its samples differ from the earlier ones."""
        if (array.shape[1:], array.dtype) != (self.shape, self.dtype):
            raise DataError(
                f"`{name}` is {array.shape[1:]} {array.dtype} here, but {self.shape} {self.dtype} before",
                where=where,
                hint="yield the same shape and dtype in every batch",
            )
        self.file.write(array.tobytes())
        self.rows += len(array)

    def column(self, where: str) -> MappedColumn:
        """What was written, once the file is closed. where : how a message names it."""
        return MappedColumn(where, self.path, 0, (self.rows, *self.shape), self.dtype)
