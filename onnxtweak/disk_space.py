"""Is there room on the disk? Space is reserved before a file is mapped, and an error says what is missing.

A file that is mapped without its space being reserved kills the process (SIGBUS) where the disk is full.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from onnxtweak.errors import OutputError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_HEADER = 4096  # more than the header of a .npy file takes
_PIECE = 1 << 20  # bytes of zeros written at a time


def no_room(error: BaseException) -> bool:
    """Whether an error says that a disk, a quota or a limit on files has no more room."""
    return isinstance(error, OSError) and error.errno in (*_FULL, errno.EFBIG)


def cannot_write(
    path: str | Path, error: OSError | ValueError, what: str = "the output", needed: int | None = None
) -> OutputError:
    """The OutputError for an error of the system. what : was written; needed : bytes of it, if known."""
    number = getattr(error, "errno", None)
    if number in _FULL:
        text = (
            "the disk is full; nothing was written" if needed is None else f"the disk is full: {what} needs"
        )
        hint = "free some space, or write elsewhere"
        if needed is not None:
            text += f" {needed:,} bytes, of which {free_bytes(path):,} are free"
        return OutputError(text, where=path, hint=hint)
    if number == errno.EFBIG:
        hint = "raise the limit (`ulimit -f`), or write to a file system that takes large files"
        return OutputError(f"{what} is larger than a file may be here", where=path, hint=hint)
    reason = getattr(error, "strerror", None) or error
    hint = "check the path, the folder and its permissions"
    return OutputError(f"{what} cannot be written: {reason}", where=path, hint=hint)


@contextmanager
def writing(path: str | Path, what: str = "the output") -> Iterator[None]:
    """Turn errors of the system into OutputError while `what` is written to `path`."""
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error, what) from error


def write_all(file: FileIO, data: bytes | memoryview) -> None:
    """Write to an unbuffered file, which may take less at a time. Raises OSError."""
    rest = memoryview(data).cast("B")
    while rest:
        rest = rest[file.write(rest) or 0 :]


def reserve(file: FileIO, size: int) -> None:
    """Let an empty file begin with `size` bytes of zeros that the disk has room for. Raises OSError."""
    try:
        os.posix_fallocate(file.fileno(), 0, max(size, 1))
        return
    except AttributeError:  # not everywhere
        pass
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENODEV):
            raise
    for start in range(0, size, _PIECE):
        write_all(file, bytes(min(_PIECE, size - start)))


def new_mapped(path: Path, dtype: Any, shape: tuple[int, ...], where: Path) -> np.memmap:
    """A new .npy file of zeros, mapped for writing; its space is reserved.

    Raises OutputError, which names `where` as the place.
    """
    kind = np.dtype(dtype)
    size = kind.itemsize * int(np.prod(shape, dtype=np.int64))
    try:
        with path.open("wb", buffering=0) as file:
            header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
            reserve(file, _HEADER + size)
            file.seek(0)
            np.lib.format.write_array_header_1_0(file, header)
            file.truncate(file.tell() + size)
    except OSError as error:
        with suppress(OSError):
            path.unlink()  # what was reserved of it is free again
        raise cannot_write(where, error, f"a table of shape {shape}", size) from error
    return np.lib.format.open_memmap(path, "r+")


def free_bytes(path: str | Path) -> int:
    """Bytes that are free where `path` lies."""
    try:
        return shutil.disk_usage(Path(path).absolute().parent).free
    except OSError:
        return 0
