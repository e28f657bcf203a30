"""Where does unfinished work lie, and who clears up after a process that died?

Whatever is being made lies beside what it will become, under a hidden name `.onnxtweak-….part`. Its process
holds a lock on it (flock), which ends with the process, however that ends. What nobody holds any more is
deleted when the next file is made in the same folder; what somebody holds never is.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: leftovers stay
    fcntl = None  # type: ignore[assignment]

_PREFIX, _MARK = ".onnxtweak-", ".part"
_LONGEST_SUFFIX = 16
_BINARY = getattr(os, "O_BINARY", 0)


@contextmanager
def temporary_file(folder: Path, suffix: str = "") -> Iterator[tuple[Path, FileIO]]:
    """A new file in `folder`, open for writing without a buffer, with the user's usual permissions.

    It is deleted at the end, unless it was renamed. suffix : what its name should end with. Raises OSError.
    """
    collect(folder)
    while True:
        path = folder / _name(suffix)
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o666)
        with open(number, "wb", buffering=0) as file:
            if not _held(number, path):
                continue
            try:
                yield path, file
            finally:
                path.unlink(missing_ok=True)
            return


@contextmanager
def temporary_folder(folder: Path, *, private: bool = False) -> Iterator[Path]:
    """A new folder in `folder`, deleted at the end unless it was renamed. Raises OSError.

    private : only this user may look into it.
    """
    collect(folder)
    while True:
        path = folder / _name()
        path.mkdir(0o700 if private else 0o777)
        with _opened(path) as number:
            if not (path.is_dir() if number is None else _held(number, path)):
                continue  # somebody collected it before it was held
            try:
                yield path
            finally:
                shutil.rmtree(path, ignore_errors=True)
            return


@contextmanager
def second_name(path: Path) -> Iterator[Path]:
    """Another, hidden name for a file, or a copy where the file system has no links. Raises OSError."""
    while True:
        second = path.parent / _name()
        try:
            os.link(path, second, follow_symlinks=False)
        except (OSError, NotImplementedError):
            shutil.copy2(path, second, follow_symlinks=False)
        with _opened(second) as number:
            if number is not None and fcntl is not None:
                with suppress(OSError):  # somebody else holds the same file, by its other name
                    fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if not os.path.lexists(second):
                continue  # somebody collected it before it was held
            try:
                yield second
            finally:
                second.unlink(missing_ok=True)
            return


def collect(folder: Path) -> None:
    """Delete what processes that are gone left in a folder. Whatever cannot be deleted stays."""
    if fcntl is None:
        return
    with suppress(OSError):
        for entry in list(os.scandir(folder)):
            if entry.name.startswith(_PREFIX) and _MARK in entry.name:
                _collect_one(Path(entry.path))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Wait until no other process is in a block like this one for the same folder, which must exist."""
    with _opened(folder.resolve()) as number:
        if number is not None and fcntl is not None:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(number, fcntl.LOCK_EX)
        yield


def try_lock(folder: Path) -> int | None:
    """A descriptor that holds a folder until it is closed; None where another process holds it."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            if fcntl is not None:
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return number
        except BlockingIOError:
            os.close(number)
            return None
        except OSError:  # a file system without locks
            return number
    return None


def _name(suffix: str = "") -> str:
    ending = suffix if len(suffix) <= _LONGEST_SUFFIX else ""
    return f"{_PREFIX}{secrets.token_hex(6)}{_MARK}{ending}"


@contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    """A descriptor of a folder or file for locking; None where there is none."""
    number = None
    with suppress(OSError):
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        yield number
    finally:
        if number is not None:
            os.close(number)


def _held(number: int, path: Path) -> bool:
    """Hold a new file; whether it is still there, for in between it looked like one that nobody holds."""
    if fcntl is None:
        return True
    with suppress(OSError):  # a file system without locks, where nothing is collected either
        fcntl.flock(number, fcntl.LOCK_EX)
    return _is(number, path)


def _is(number: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(number), os.lstat(path))
    except OSError:
        return False


def _collect_one(path: Path) -> None:
    with _opened(path) as number, suppress(OSError):
        if number is None or os.fstat(number).st_uid != os.geteuid():
            return
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is(number, path):
            return
        if stat.S_ISDIR(os.fstat(number).st_mode):
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
