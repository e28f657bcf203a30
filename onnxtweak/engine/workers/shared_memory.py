"""How does a state get from one process of this machine to another? In shared memory, past the pipe.

The memory has no name: it is freed with the last process that holds it, however that ends, and the size of
/dev/shm does not limit it where Python has memfd_create. It is filled again once the borrower has given it
back, because new memory costs more than the copy. Where there is none, or too little, nothing is lent, and
the caller sends the state through the pipe.
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

# Bytes: smaller arrays go through the pipe faster.
_LEAST = 1 << 16
# Arrays begin after a page whose first byte says whether the memory is lent, each at the start of a cache
# line.
_FIRST, _LINE = 4096, 64
_LENT, _FREE = b"\1", b"\0"
# Bytes copied from a GPU at a time: still in the cache when they are written.
_PIECE = 1 << 22
# Bytes written per call: every system accepts as many.
_MOST = 1 << 30


@dataclass(frozen=True)
class Lent:
    """A value whose large arrays lie in shared memory of the process that made it.

    pickled : the value, with placeholders for these arrays. process, file, inode : that process, and the
    number and identity of the memory's file there. size : bytes of it.
    """

    pickled: bytes
    process: int
    file: int
    inode: int
    size: int


class Lender:
    """Memory of this process that others may map."""

    def __init__(self, buffer: Callable[[int], np.ndarray]) -> None:
        """buffer : allocates memory for so many float32, through which arrays on a GPU are copied."""
        self._buffer = buffer
        self._files: list[int] = []

    def __del__(self) -> None:
        for file in self._files:
            os.close(file)

    def lend(self, borrower: int, value: Any) -> Lent | None:
        """Copy a value's large arrays, NumPy's or CuPy's, to where another process can map them.

        borrower : id of that process. None where there is no such memory, or too little of it.
        """
        head = io.BytesIO()
        pickler = _Pickler(head)
        pickler.dump(value)
        try:
            os.listdir(
                f"/proc/{borrower}/fd"
            )  # processes that may see each other may map each other's memory
            file = self._free()
            try:
                os.pwrite(file, _LENT, 0)
                if os.fstat(file).st_size < pickler.size:
                    os.ftruncate(file, pickler.size)
                for offset, array in pickler.arrays:
                    self._fill(file, offset, array)
            except OSError:
                self._files.remove(file)
                os.close(file)
                raise
        except OSError:
            return None
        return Lent(head.getvalue(), os.getpid(), file, os.fstat(file).st_ino, pickler.size)

    def _free(self) -> int:
        """Memory that is not lent at the moment."""
        file = next((file for file in self._files if os.pread(file, 1, 0) == _FREE), None)
        if file is None:
            file = _new_memory()
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
    """Memory of other processes that this one has mapped."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], mmap.mmap] = {}

    def look(self, lent: Lent) -> Any:
        """The value. Its large arrays are read-only, and change once they are given back.

        Raises OSError when the memory cannot be mapped, for example because its process has died.
        """
        memory = lent.process, lent.inode
        if memory not in self._known or len(self._known[memory]) < lent.size:
            self._known[memory] = _mapped(lent)
        return _Unpickler(io.BytesIO(lent.pickled), self._known[memory]).load()

    def give_back(self, lent: Any) -> None:
        """Let the lender fill the memory again. Values that were not lent, or not looked at, are ignored."""
        if isinstance(lent, Lent) and (lent.process, lent.inode) in self._known:
            self._known[lent.process, lent.inode][:1] = _FREE


class _Pickler(pickle.Pickler):
    """Leaves out large arrays, with a placeholder for each. size : bytes of memory that they take."""

    def __init__(self, head: BinaryIO) -> None:
        super().__init__(head, pickle.HIGHEST_PROTOCOL)
        self.arrays: list[tuple[int, Any]] = []
        self.size = _FIRST

    def persistent_id(self, value: Any) -> tuple[int, str, tuple[int, ...]] | None:
        on_gpu = hasattr(value, "__cuda_array_interface__")
        if not on_gpu and not (isinstance(value, np.ndarray) and value.nbytes >= _LEAST):
            return None
        offset = self.size
        self.arrays.append((offset, value))
        self.size += -(-value.nbytes // _LINE) * _LINE
        return offset, value.dtype.str, value.shape


class _Unpickler(pickle.Unpickler):
    """Replaces placeholders by views of the memory."""

    def __init__(self, head: BinaryIO, memory: mmap.mmap) -> None:
        super().__init__(head)
        self._memory = memory

    def persistent_load(self, placeholder: tuple[int, str, tuple[int, ...]]) -> np.ndarray:
        offset, dtype, shape = placeholder
        array: np.ndarray = np.ndarray(shape, dtype, self._memory, offset)
        array.flags.writeable = False
        return array


def _new_memory() -> int:
    """Memory without a name, as an open file."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("onnxtweak")
    return os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR, 0o600)  # Python was built for an older system


def _mapped(lent: Lent) -> mmap.mmap:
    """The memory, mapped with all its pages: faulting them in one by one would cost more."""
    file = os.open(f"/proc/{lent.process}/fd/{lent.file}", os.O_RDWR)
    try:
        if os.fstat(file).st_ino != lent.inode:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return mmap.mmap(file, lent.size, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
    finally:
        os.close(file)


def _write(file: int, offset: int, array: np.ndarray) -> None:
    left = memoryview(array.view(np.uint8).data)
    while left:
        done = os.pwrite(file, left[:_MOST], offset)
        left, offset = left[done:], offset + done
