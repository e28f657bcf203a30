"""How does a state get from one process of this machine into another? In memory that both see, past the pipe.

The memory has no name: it is gone with the last process that holds it, however that ends, and the size of
/dev/shm does not limit it where Python can do without. It is filled again once the borrower gave it back, for
new memory costs more than the copy. Where there is none, or too little, nothing is lent: a pipe has to do.
"""

from __future__ import annotations

import errno
import io
import mmap
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

# Smaller arrays cost less in the pipe.
_LEAST = 1 << 16
# Arrays begin after a page whose first byte says whether the memory is lent, each on a cache line of its own.
_FIRST, _LINE = 4096, 64
_LENT, _FREE = b"\1", b"\0"
# Bytes that come from a GPU at a time: still in the cache when they are written.
_PIECE = 1 << 22
# No system writes more in one call than this.
_MOST = 1 << 30


@dataclass(frozen=True)
class Lent:
    """A value whose large arrays lie in memory of the process that made it.

    pickled : the value, with places for these arrays. process, file, inode : which memory, by the number that
    the file has there. size : bytes of it.
    """

    pickled: bytes
    process: int
    file: int
    inode: int
    size: int


class Lender:
    """Memory of this process that another one may look into."""

    def __init__(self, buffer: Callable[[int], np.ndarray]) -> None:
        """buffer : makes memory for so many float32, which arrays on a GPU are copied through."""
        self._buffer = buffer
        self._files: list[int] = []

    def __del__(self) -> None:
        for file in self._files:
            os.close(file)

    def lend(self, borrower: int, value: Any) -> Lent | None:
        """A value's large arrays, NumPy's or CuPy's, copied to where another process sees them.

        borrower : that process. None where there is no such memory, or too little of it.
        """
        head = io.BytesIO()
        leaving = _Leaving(head)
        leaving.dump(value)
        try:
            os.listdir(f"/proc/{borrower}/fd")  # who may look there may be looked at from there
            file = self._free()
            try:
                os.pwrite(file, _LENT, 0)
                if os.fstat(file).st_size < leaving.size:
                    os.ftruncate(file, leaving.size)
                for offset, array in leaving.arrays:
                    self._fill(file, offset, array)
            except OSError:
                self._files.remove(file)
                os.close(file)
                raise
        except OSError:
            return None
        return Lent(head.getvalue(), os.getpid(), file, os.fstat(file).st_ino, leaving.size)

    def _free(self) -> int:
        """Memory that nobody looks at."""
        file = next((file for file in self._files if os.pread(file, 1, 0) == _FREE), None)
        if file is None:
            file = _nameless()
            self._files.append(file)
        return file

    def _fill(self, file: int, offset: int, array: Any) -> None:
        flat = array.ravel()
        if isinstance(flat, np.ndarray):
            _write(file, offset, flat)
            return
        piece = self._buffer(_PIECE // 4).reshape(-1).view(flat.dtype)
        for start in range(0, flat.size, piece.size):
            part = flat[start : start + piece.size]
            part.get(out=piece[: part.size])
            _write(file, offset + start * flat.dtype.itemsize, piece[: part.size])


class Borrower:
    """Memory of other processes that this one looks into."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], mmap.mmap] = {}

    def look(self, lent: Lent) -> Any:
        """The value. Its large arrays cannot be written to, and change once they are given back.

        Raises OSError, as where the process that lent them is no more.
        """
        which = lent.process, lent.inode
        if which not in self._known or len(self._known[which]) < lent.size:
            self._known[which] = _mapped(lent)
        return _Arriving(io.BytesIO(lent.pickled), self._known[which]).load()

    def give_back(self, lent: Any) -> None:
        """Nobody looks at the value any more. Anything that was not looked at is left alone."""
        if isinstance(lent, Lent) and (lent.process, lent.inode) in self._known:
            self._known[lent.process, lent.inode][:1] = _FREE


class _Leaving(pickle.Pickler):
    """Leaves large arrays out, with a place for each. size : bytes of memory that they take."""

    def __init__(self, head: BinaryIO) -> None:
        super().__init__(head, pickle.HIGHEST_PROTOCOL)
        self.arrays: list[tuple[int, Any]] = []
        self.size = _FIRST

    def persistent_id(self, value: Any) -> tuple | None:
        on_gpu = hasattr(value, "__cuda_array_interface__")
        if not on_gpu and not (isinstance(value, np.ndarray) and value.nbytes >= _LEAST):
            return None
        offset = self.size
        self.arrays.append((offset, value))
        self.size += -(-value.nbytes // _LINE) * _LINE
        return offset, value.dtype.str, value.shape


class _Arriving(pickle.Unpickler):
    """Puts views of the memory in the places."""

    def __init__(self, head: BinaryIO, memory: mmap.mmap) -> None:
        super().__init__(head)
        self._memory = memory

    def persistent_load(self, place: tuple) -> np.ndarray:
        offset, dtype, shape = place
        array = np.ndarray(shape, dtype, self._memory, offset)
        array.flags.writeable = False
        return array


def _nameless() -> int:
    """Memory without a name, as an open file."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("onnxtweak")
    return os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR, 0o600)  # a Python that was built for older systems


def _mapped(lent: Lent) -> mmap.mmap:
    """The memory, all of it at hand: touching page after page for the first time would cost more."""
    file = os.open(f"/proc/{lent.process}/fd/{lent.file}", os.O_RDWR)
    try:
        if os.fstat(file).st_ino != lent.inode:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return mmap.mmap(file, lent.size, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
    finally:
        os.close(file)


def _write(file: int, offset: int, array: np.ndarray) -> None:
    left = memoryview(array.view(np.uint8))
    while left:
        done = os.pwrite(file, left[:_MOST], offset)
        left, offset = left[done:], offset + done
