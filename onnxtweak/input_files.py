"""Which files may be read whole? Regular ones, of bounded size: a pipe may never end, a device never does."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from onnxtweak.errors import InputError

# Texts that people write, and tweaks: far above any sensible one, far below what a machine has.
MOST_TEXT, MOST_TWEAK = 64 * 1024**2, 2 * 1024**3
MOST_SOURCE = 1024**2  # Python takes some hundred times as much memory to compile a file

_NO_WAY_THERE = (errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG)


@contextmanager
def within_reach(kind: type[InputError]) -> Iterator[None]:
    """An error of class `kind` where the system does not let a file or folder be looked at inside."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_WAY_THERE:
            raise
        hint = "check the path, and who may read it and the folders on the way (`ls -l`)"
        where = error.filename or ""
        raise kind(f"it cannot be read: {error.strerror}", where=where, hint=hint) from error


def read_text(path: str | Path, kind: type[InputError]) -> str:
    """A whole text file, UTF-8. Raises an error of class `kind`, OSError, or ValueError for other bytes."""
    require_regular(path, kind, MOST_TEXT)
    return Path(path).read_text(encoding="utf-8")


def require_regular(path: str | Path, kind: type[InputError], most: int | None = None) -> None:
    """Raise an error of class `kind` unless `path` is a regular file that may be read.

    most : bytes that it may have. Nothing is opened: opening a pipe waits for its writer.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError as error:
        raise kind("no such file", where=path, hint="check the path") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        hint = "check the path, and who may read the folders on the way"
        raise kind(f"the file cannot be read: {reason}", where=path, hint=hint) from error
    if not stat.S_ISREG(status.st_mode):
        what = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device"
        raise kind(f"not a regular file, but {what}", where=path, hint="give the path of a file on disk")
    if most is not None and status.st_size > most:
        raise kind(
            f"the file has {status.st_size / 2**20:,.0f} MiB, over the {most / 2**20:,.0f} MiB allowed here",
            where=path,
            hint="check that it is the file that you meant",
        )
    if not os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
        hint = "check its permissions (`ls -l`)"
        raise kind("the file cannot be read: Permission denied", where=path, hint=hint)
