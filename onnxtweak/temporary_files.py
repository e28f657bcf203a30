"""Where does unfinished work lie, and who clears up after a process that died?

Whatever is being made lies beside what it will become, under a hidden name `.onnxtweak-….part`. Its process
holds a lock on it (flock), which ends with the process, however that ends. What nobody holds any more is
deleted when the next file is made in the same folder; what somebody holds never is. Where several files are
given their names together, a hidden list tells the next process how to take back those that have theirs.
"""

from __future__ import annotations

import atexit
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from io import FileIO
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: leftovers stay
    fcntl = None  # type: ignore[assignment]

_PREFIX, _MARK, _LIST = ".onnxtweak-", ".part", ".undo"
_LONGEST_SUFFIX = 16
_BINARY = getattr(os, "O_BINARY", 0)


@dataclass(frozen=True)
class Change:
    """A file or folder that is about to get its name.

    target : the name. new : what gets it. earlier : a hidden name of what has had it so far, if anything.
    """

    target: Path
    new: Path | None = None
    earlier: Path | None = None


@contextmanager
def temporary_file(folder: Path, suffix: str = "") -> Iterator[tuple[Path, FileIO]]:
    """A new file in `folder`, open for writing without a buffer, with the user's usual permissions.

    It is deleted at the end, unless it was renamed. suffix : what its name should end with. Raises OSError.
    """
    collect(folder)
    while True:
        path = folder / _name(suffix)
        with _deleted(path):
            number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o666)
            with open(number, "wb", buffering=0) as file:
                if not _held(number, path):
                    continue
                yield path, file
            return


@contextmanager
def temporary_folder(folder: Path, *, private: bool = False) -> Iterator[Path]:
    """A new folder in `folder`, deleted at the end unless it was renamed. Raises OSError.

    private : only this user may look into it.
    """
    collect(folder)
    while True:
        path = folder / _name()
        with _deleted(path):
            path.mkdir(0o700 if private else 0o777)
            with _opened(path) as number:
                if not (path.is_dir() if number is None else _held(number, path)):
                    continue  # somebody collected it before it was held
                yield path
            return


@contextmanager
def second_name(path: Path) -> Iterator[Path]:
    """Another, hidden name for a file, or a copy where the file system has no links. Raises OSError."""
    while True:
        second = path.parent / _name()
        with _deleted(second):
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
                yield second
            return


@contextmanager
def together(changes: Sequence[Change]) -> Iterator[None]:
    """Until the block ends, `collect` takes all these changes back if this process dies. Raises OSError.

    Where the block ends with an error, it is its business to undo what was changed.
    """
    entries = [
        (
            os.path.abspath(change.target),
            None if change.new is None else _identity(os.lstat(change.new)),
            None if change.earlier is None else os.path.abspath(change.earlier),
        )
        for change in changes
    ]
    data = json.dumps(entries).encode()
    with ExitStack() as stack:
        for folder in dict.fromkeys(change.target.parent for change in changes):
            _, file = stack.enter_context(temporary_file(folder, _LIST))
            file.write(data)
            os.fsync(file.fileno())
        yield


def collect(folder: Path) -> None:
    """Delete what processes that are gone left in a folder. Whatever cannot be deleted stays."""
    if fcntl is None:
        return
    with suppress(OSError):
        names = [name for name in os.listdir(folder) if name.startswith(_PREFIX) and _MARK in name]
        for name in sorted(names, key=lambda name: not name.endswith(_LIST)):  # they name some of the others
            _collect_one(folder / name)


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


@contextmanager
def _deleted(path: Path) -> Iterator[None]:
    """Delete what has a name at the end of the block; or of the program, if a signal comes just then."""
    delete = partial(_delete_mine, path, os.getpid())
    atexit.register(delete)
    try:
        yield
    finally:
        delete()
        atexit.unregister(delete)


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
        if path.name.endswith(_LIST):
            _take_back(path)
        _delete(path)


def _take_back(path: Path) -> None:
    """Undo the changes of a list whose process died before it had made them all."""
    with suppress(OSError, ValueError, TypeError):  # one that was not written to its end: nothing was changed
        for target, new, earlier in json.loads(path.read_bytes()):
            with suppress(OSError):
                if new is not None and os.path.lexists(target) and _identity(os.lstat(target)) == new:
                    _delete(Path(target))
                if earlier is not None and not os.path.lexists(target):
                    os.replace(earlier, target)


def _identity(about: os.stat_result) -> list[int]:
    """Numbers that tell a file from all others, a folder from most."""
    if stat.S_ISDIR(about.st_mode):
        return [about.st_dev, about.st_ino]
    return [about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns]


def _delete_mine(path: Path, process: int) -> None:
    """Delete it, but not in a copy of this process that somebody forked."""
    if os.getpid() == process:
        _delete(path)


def _delete(path: Path) -> None:
    """Delete a file, or a folder with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        if path.exists():
            _delete_by_name(path)
    else:
        path.unlink(missing_ok=True)


def _delete_by_name(folder: Path) -> None:
    """Delete a folder with one open file at a time: `rmtree` opens more, of which there may be no more."""
    with suppress(OSError):
        for name in os.listdir(folder):
            path = folder / name
            if path.is_dir() and not path.is_symlink():
                _delete_by_name(path)
            else:
                with suppress(OSError):
                    path.unlink()
        folder.rmdir()
