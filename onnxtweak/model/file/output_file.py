"""How are the files of a command written? Together, or not at all.

Each is written under a hidden name beside its target. When all of them are complete they are renamed; where
that fails halfway, those that have their names already are taken back.
"""

from __future__ import annotations

import errno
import filecmp
import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

from onnxtweak.disk_space import write_all, writing
from onnxtweak.errors import OutputError
from onnxtweak.model.file.external_data import read_chunks
from onnxtweak.model.file.model_file import ModelFile
from onnxtweak.model.file.output_paths import (
    check_distinct,
    check_model_output,
    check_target,
    external_copies,
)
from onnxtweak.temporary_files import Change, second_name, temporary_file, temporary_folder, together

# A file system that has no links, or none for this file.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV, errno.EACCES)


class Delivery:
    """Files that appear together when `commit` is called, and not at all where that does not happen.

    To be used in a `with` statement, whose end removes what was not delivered.
    """

    def __init__(self, *, force: bool = False, protect: Iterable[str | Path] = ()) -> None:
        """force : existing files may be replaced. protect : but never these, whatever name leads to them."""
        self._force, self._protect = force, tuple(protect)
        self._parts: list[tuple[Path, Path]] = []
        self._copies: set[Path] = set()
        self._stack = ExitStack()

    def __enter__(self) -> Delivery:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def add(self, path: str | Path, chunks: Iterable[bytes]) -> Path:
        """Write a file that will be `path`; where it lies until then. Raises OutputError."""
        path = Path(path)
        check_target(path, self._force, self._protect)
        with writing(path):
            part, file = self._stack.enter_context(temporary_file(path.parent, path.suffix))
            for chunk in chunks:
                write_all(file, chunk)
            os.fsync(file.fileno())
        self.place(part, path)
        return part

    def add_model(
        self, base: ModelFile, path: str | Path, chunks: Iterable[bytes]
    ) -> tuple[Path, list[Path]]:
        """Write a model derived from `base`: where it lies until then, loadable, and what goes beside it.

        A model finds its external files only in its own folder. In another folder than the base's they are
        therefore copied beside the output (never linked: runtimes reject links); equal files that exist there
        already are left alone. Raises OutputError.
        """
        path = Path(path)
        check_model_output(base, path, force=self._force, protect=self._protect)
        copies = external_copies(base, path)
        missing = [copy for _, copy in copies if not os.path.lexists(copy)]
        if not missing:
            return self.add(path, chunks), []
        with writing(path.parent):
            folder = self._stack.enter_context(temporary_folder(path.parent))
            for file, copy in copies:
                part = folder / file.location
                part.parent.mkdir(parents=True, exist_ok=True)
                _write(part, read_chunks(file.path))
                if copy in missing:
                    self.place(part, copy)
                    self._copies.add(copy)
            _write(folder / path.name, chunks)
        self.place(folder / path.name, path)
        return folder / path.name, missing

    def place(self, part: Path, path: Path) -> None:
        """A complete file on the same disk as its target is to be renamed when the others are."""
        for _, other in self._parts:
            check_distinct([other, path])
        self._parts.append((part, path))

    def commit(self, stale: Sequence[Path] = ()) -> None:
        """Give all files their names, and delete `stale` ones; undone where one fails. Raises OutputError."""
        with ExitStack() as kept, ExitStack() as undo:
            changes = [self._change(part, target, kept) for part, target in self._parts]
            for path in stale:
                with writing(path):
                    changes.append(Change(path, earlier=kept.enter_context(second_name(path))))
            for folder in {change.target.parent for change in changes}:
                with writing(folder):
                    _make_folders(folder, undo)
            if len(changes) > 1:
                with writing(changes[0].target):
                    kept.enter_context(together(changes))
            for change in changes:
                with writing(change.target):
                    self._rename(change, kept, undo)
            undo.pop_all()
        for folder in {target.parent for _, target in self._parts}:
            _sync_folder(folder)

    def _change(
        self, part: Path, target: Path, kept: ExitStack, why: str = "the output already exists"
    ) -> Change:
        """What is to be done to a target; what is there now gets a second name. why : else it is refused."""
        if not os.path.lexists(target):
            return Change(target, part)
        # Weights that another process has copied there meanwhile may be those of a model that it takes back.
        again = target in self._copies and target.is_file() and filecmp.cmp(part, target, shallow=False)
        if not (self._force or again):
            raise OutputError(why, where=target, hint="use --force to replace it")
        with writing(target):
            return Change(target, part, kept.enter_context(second_name(target)))

    def _rename(self, change: Change, kept: ExitStack, undo: ExitStack) -> None:
        part, target = change.new, change.target
        if part is not None and change.earlier is None:
            undo.callback(_take_back, os.lstat(part), target)
            if _named(part, target):
                return
            change = self._change(part, target, kept, "another process has just written this output")
        if change.earlier is not None:
            undo.callback(_put_back, change.earlier, target)
        if part is None:
            target.unlink()
        else:
            os.replace(part, target)


def _named(part: Path, target: Path) -> bool:
    """Give a file a name, if it is free: unlike a rename that never replaces what another has written."""
    try:
        os.link(part, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        os.replace(part, target)
    return True


def write_atomic(
    path: str | Path, chunks: Iterable[bytes], *, force: bool = False, protect: Iterable[str | Path] = ()
) -> None:
    """Write `chunks` to `path`, completely or not at all.

    Raises OutputError when `path` is protected, exists without `force`, or cannot be written (folder,
    permission, disk full). Whatever goes wrong, including an interruption, no partial file is left.
    """
    with Delivery(force=force, protect=protect) as delivery:
        delivery.add(path, chunks)
        delivery.commit()


def write_model(
    base: ModelFile, path: str | Path, chunks: Iterable[bytes], *, force: bool = False
) -> tuple[Path, ...]:
    """Write a model derived from `base` as `Delivery.add_model` does; every file created, it first."""
    with Delivery(force=force) as delivery:
        _, copies = delivery.add_model(base, path, chunks)
        delivery.commit()
    return (Path(path), *copies)


def also_written(copies: Sequence[Path]) -> str:
    """What goes beside a model, as the end of a sentence; empty for nothing."""
    names = ", ".join(map(str, copies))
    return f"; also wrote {names}: the base's weights, copied unchanged" if names else ""


def _write(path: Path, chunks: Iterable[bytes]) -> None:
    with path.open("xb", buffering=0) as file:
        for chunk in chunks:
            write_all(file, chunk)
        os.fsync(file.fileno())


def _make_folders(folder: Path, undo: ExitStack) -> None:
    """Create `folder` and its missing parents."""
    for path in [path for path in (folder, *folder.parents) if not os.path.isdir(path)][::-1]:
        path.mkdir(exist_ok=True)
        undo.callback(_remove_folder, path)


def _remove_folder(folder: Path) -> None:
    with suppress(OSError):  # another process has put something into it
        folder.rmdir()


def _put_back(old: Path, target: Path) -> None:
    """Let a target be again what it was."""
    with suppress(FileNotFoundError):
        if not (os.path.lexists(target) and os.path.samestat(os.lstat(old), os.lstat(target))):
            os.replace(old, target)


def _take_back(part: os.stat_result, target: Path) -> None:
    """Delete a target that was not there, if it is the one that was written here."""
    with suppress(FileNotFoundError):
        if os.path.samestat(part, os.lstat(target)):
            target.unlink()


def _sync_folder(folder: Path) -> None:
    """Have the new names on disk too, where the system can do that."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
