"""May an output be written there? Never over a file that it is made from, another output, or a device."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from onnxtweak.disk_space import cannot_write
from onnxtweak.errors import OutputError
from onnxtweak.model.file.external_data import ExternalFile, hash_file
from onnxtweak.model.file.model_file import ModelFile
from onnxtweak.temporary_files import collect, temporary_file

_MOST_LINKS = 40
_DEVICES = ("/dev", "/proc", "/sys")
_SHARED_MEMORY = "/dev/shm"  # a folder like any other


def check_output(path: str | Path, *, force: bool = False, protect: Iterable[str | Path] = ()) -> None:
    """Raise OutputError now if `write_atomic` with the same arguments could not succeed later.

    protect : files that must never be replaced, under whatever name, symbolic or hard link `path` gives them.
    """
    path = Path(path)
    check_target(path, force, protect)
    try:
        with temporary_file(path.parent):
            pass
    except OSError as error:
        raise cannot_write(path, error) from error


def check_model_output(
    base: ModelFile, path: str | Path, *, force: bool = False, protect: Iterable[str | Path] = ()
) -> None:
    """`check_output` for a model derived from `base`: neither it nor its weights may be replaced.

    Also raises OutputError when the output goes to another folder in which a different file already has the
    name of one of the base's external files.
    """
    path = Path(path)
    check_output(path, force=force, protect=[*base.files, *protect])
    copied = external_copies(base, path)
    check_distinct([path, *(copy for _, copy in copied)])
    for file, copy in copied:
        if os.path.lexists(copy) and not (os.path.isfile(copy) and hash_file(copy) == file.sha256):
            raise OutputError(
                "a different file has the name of the model's weights",
                where=copy,
                hint="choose an empty folder, or write beside the base model",
            )


def check_distinct(outputs: Sequence[str | Path]) -> None:
    """Raise OutputError where two outputs are the same file, under whatever names."""
    for number, path in enumerate(outputs):
        if any(same_file(path, other) for other in outputs[:number]):
            hint = "give each its own path"
            raise OutputError("two outputs would be the same file", where=path, hint=hint)


def external_copies(base: ModelFile, path: Path) -> list[tuple[ExternalFile, Path]]:
    """The base's external files and their copies beside `path`; empty when the folder is the base's."""
    folder = os.path.realpath(path.parent)
    pairs = [(file, path.parent / file.location) for file in base.external]
    for _, copy in pairs:
        if not Path(os.path.realpath(copy)).is_relative_to(folder):
            what = "a link leads the model's weights out of the output's folder"
            raise OutputError(what, where=copy, hint="write to a folder without such links")
    return [(file, copy) for file, copy in pairs if not same_file(copy, file.path)]


def check_target(path: Path, force: bool, protect: Iterable[str | Path]) -> None:
    """Raise OutputError where `path` must not become a file, or not without `force`."""
    if not path.name or os.path.isdir(path):
        raise OutputError("the output is a folder", where=path, hint="give a file inside it")
    if not os.path.isdir(path.parent):
        raise OutputError("the output's folder does not exist", where=path.parent, hint="create it first")
    collect(path.parent)  # takes back what was delivered by half
    try:
        there = os.path.lexists(path)
        os.lstat(path)
    except FileNotFoundError:
        there = False
    except (OSError, ValueError) as error:  # a name that is too long, a null character
        raise cannot_write(path, error) from error
    if any(map(_of_devices, _way(path))) or (os.path.exists(path) and not os.path.isfile(path)):
        what = "the output is not a regular file"
        raise OutputError(what, where=path, hint="choose another output path")
    if not there:
        return
    if any(same_file(path, other) for other in protect):
        what = "the output would replace a file it is made from"
        raise OutputError(what, where=path, hint="choose another output path")
    if not force:
        raise OutputError("the output already exists", where=path, hint="use --force to replace it")


def same_file(one: str | Path, other: str | Path) -> bool:
    """Whether two paths are one file, through any link, or would be."""
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):
        return os.path.realpath(one) == os.path.realpath(other)


def _way(path: Path) -> Iterator[Path]:
    """A path, and where it leads if it is a link, step by step."""
    for _ in range(_MOST_LINKS):
        yield path
        try:
            path = path.parent / os.readlink(path)
        except (OSError, ValueError):
            return


def _of_devices(path: Path) -> bool:
    """Whether a path lies where a system has its devices and processes."""
    folder = Path(os.path.realpath(path.parent))
    return not folder.is_relative_to(_SHARED_MEMORY) and any(map(folder.is_relative_to, _DEVICES))
