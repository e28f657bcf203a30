"""How is an output file written: completely or not at all, and never in place of a file it is made from?

An output is written to a temporary file beside its target, and renamed when it is complete.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path

from onnxtweak.errors import OutputError
from onnxtweak.model.file.external_data import ExternalFile, hash_file, read_chunks
from onnxtweak.model.file.model_file import ModelFile


def check_output(path: str | Path, *, force: bool = False, protect: Iterable[str | Path] = ()) -> None:
    """Raise OutputError now if `write_atomic` with the same arguments could not succeed later.

    protect : files that must never be replaced, under whatever name, symbolic or hard link `path` gives them.
    """
    path = Path(path)
    _check_target(path, force, protect)
    probe = _beside(path)
    try:
        os.close(_create(probe))
    except OSError as error:
        raise _cannot_write(path, error) from error
    probe.unlink(missing_ok=True)


def write_atomic(
    path: str | Path, chunks: Iterable[bytes], *, force: bool = False, protect: Iterable[str | Path] = ()
) -> None:
    """Write `chunks` to `path`, completely or not at all.

    Raises OutputError when `path` is protected, exists without `force`, or cannot be written (folder,
    permission, disk full). Whatever goes wrong, including an interruption, no partial file is left.
    """
    path = Path(path)
    _check_target(path, force, protect)
    part = _beside(path)
    try:
        with open(_create(part), "wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise _cannot_write(path, error) from error
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def check_model_output(base: ModelFile, path: str | Path, *, force: bool = False) -> None:
    """`check_output` for a model derived from `base`: neither it nor its weights may be replaced.

    Also raises OutputError when the output goes to another folder in which a different file already has the
    name of one of the base's external files.
    """
    path = Path(path)
    check_output(path, force=force, protect=base.files)
    for file, copy in _to_copy(base, path):
        if os.path.lexists(copy) and not (os.path.isfile(copy) and hash_file(copy) == file.sha256):
            raise OutputError(
                "a different file has the name of the model's weights",
                where=copy,
                hint="choose an empty folder, or write beside the base model",
            )


def write_model(
    base: ModelFile, path: str | Path, chunks: Iterable[bytes], *, force: bool = False
) -> tuple[Path, ...]:
    """Write a model derived from `base`; returns every file that was created, the model first.

    A model finds its external files only in its own folder. In another folder than the base's they are
    therefore copied beside the output (never linked: runtimes reject links); equal files that exist there
    already are left alone.
    """
    path = Path(path)
    check_model_output(base, path, force=force)
    created: list[Path] = []
    folders: list[Path] = []
    try:
        for file, copy in _to_copy(base, path):
            if not os.path.lexists(copy):
                folders += _make_folders(copy.parent)
                write_atomic(copy, read_chunks(file.path))
                created.append(copy)
        write_atomic(path, chunks, force=force, protect=base.files)
    except BaseException:
        for copy in created:
            copy.unlink(missing_ok=True)
        for folder in reversed(folders):
            folder.rmdir()
        raise
    return (path, *created)


def also_written(created: Sequence[Path]) -> str:
    """What `write_model` wrote beside the model, as the end of a sentence; empty for nothing."""
    names = ", ".join(str(path) for path in created[1:])
    return f"; also wrote {names}: the base's weights, copied unchanged" if names else ""


def _to_copy(base: ModelFile, path: Path) -> list[tuple[ExternalFile, Path]]:
    """The base's external files and their copies beside `path`; empty when the folder is the base's."""
    folder = os.path.realpath(path.parent)
    pairs = [(file, path.parent / file.location) for file in base.external]
    for _, copy in pairs:
        if not Path(os.path.realpath(copy)).is_relative_to(folder):
            what = "a link leads the model's weights out of the output's folder"
            raise OutputError(what, where=copy, hint="write to a folder without such links")
    return [(file, copy) for file, copy in pairs if not _same_file(copy, file.path)]


def _make_folders(folder: Path) -> list[Path]:
    """Create `folder` and its missing parents; returns what was created, outermost first."""
    missing = [path for path in (folder, *folder.parents) if not os.path.isdir(path)][::-1]
    for path in missing:
        try:
            path.mkdir()
        except OSError as error:
            raise _cannot_write(path, error) from error
    return missing


def _check_target(path: Path, force: bool, protect: Iterable[str | Path]) -> None:
    if not path.name or os.path.isdir(path):
        raise OutputError("the output is a folder", where=path, hint="give a file inside it")
    if not os.path.isdir(path.parent):
        raise OutputError("the output's folder does not exist", where=path.parent, hint="create it first")
    if any(_same_file(path, other) for other in protect):
        what = "the output would replace a file it is made from"
        raise OutputError(what, where=path, hint="choose another output path")
    try:
        os.lstat(path)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:  # a name that is too long, a null character
        raise _cannot_write(path, error) from error
    if not force:
        raise OutputError("the output already exists", where=path, hint="use --force to replace it")
    if os.path.exists(path) and not os.path.isfile(path):
        what = "the output is not a regular file"
        raise OutputError(what, where=path, hint="choose another output path")


def _same_file(one: str | Path, other: str | Path) -> bool:
    try:
        return os.path.samefile(one, other)  # the same inode, through any link
    except (OSError, ValueError):
        return os.path.realpath(one) == os.path.realpath(other)


def _beside(path: Path) -> Path:
    return path.parent / f".onnxtweak-{secrets.token_hex(6)}.part"


def _create(path: Path) -> int:
    """A new file with the user's usual permissions; fails if it exists."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)


def _cannot_write(path: Path, error: OSError | ValueError) -> OutputError:
    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT):
        what, hint = "the disk is full; nothing was written", "free some space, or write elsewhere"
    else:
        what = f"the output cannot be written: {getattr(error, 'strerror', None) or error}"
        hint = "check the path, the folder and its permissions"
    return OutputError(what, where=path, hint=hint)
