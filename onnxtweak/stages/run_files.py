"""Where are the files of a run written, kept for the next one, and delivered together?

A run works in a hidden folder beside its own. SHA256SUMS lists the files that a run wrote: the next one may
replace those, and no others. What later runs reuse lies in the cache, each folder with such a list too: where
a file is not what the list says, nothing of the folder is used.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from onnxtweak.disk_space import writing
from onnxtweak.errors import DataError, OutputError
from onnxtweak.input_files import read_text
from onnxtweak.model.file.output_file import Delivery
from onnxtweak.model.file.output_paths import check_target, same_file
from onnxtweak.recipe import Recipe
from onnxtweak.report.artefacts import sums
from onnxtweak.stages.open_job import file_ref
from onnxtweak.temporary_files import collect, locked, temporary_folder

SUMS = "SHA256SUMS"
_SHARED = ("metrics.json", "summary.md", "junit.xml", "provenance.json")
_MODELS = (".onnx", ".safetensors")


def deliver_files(
    staging: Path, target: Path, names: Sequence[str], read: Sequence[str | Path], force: bool
) -> None:
    """Move files into their folder, all or none; delete those of an earlier run that this one did not make.

    Two runs into one folder deliver one after the other. read : what must not be replaced. force : replace
    files that no run wrote. Raises OutputError.
    """
    there = target.exists()
    with writing(target):
        target.mkdir(parents=True, exist_ok=True)
    try:
        with locked(target), Delivery(force=True) as delivery:
            check_directory(target, names, read, force)
            for name in names:
                delivery.place(staging / name, target / name)
            known = listed(target)
            stale = [target / name for name in known if name not in names and (target / name).is_file()]
            delivery.commit([path for path in stale if file_ref(path).sha256 == known[_name(path, target)]])
    except BaseException:
        if not there:
            with suppress(OSError):  # not empty
                target.rmdir()
        raise


def check_directory(target: Path, names: Iterable[str], read: Sequence[str | Path], force: bool) -> None:
    """Raise OutputError where a run cannot write files of these names, or would replace what no run wrote.

    read : what the run reads, which is never replaced.
    """
    if target.exists() and not target.is_dir():
        raise OutputError("this is a file, not a folder", where=target, hint="name a folder with -o DIR")
    collect(target)  # takes back what was delivered by half
    known = listed(target)
    for name in names if target.exists() else ():
        path = target / name
        if not os.path.lexists(path):
            continue
        if any(same_file(path, other) for other in read):
            what = "the run would replace the base, or another file that it reads"
            raise OutputError(what, where=path, hint="name another -o DIR")
        if path.parent.is_dir():
            check_target(path, True, ())
        if name not in known and name != SUMS and not force:
            raise OutputError(
                "the file exists, and no run wrote it", where=path, hint="use --force, or another -o DIR"
            )


def listed(folder: Path) -> dict[str, str]:
    """Name and sha256 of the files that the last run wrote here."""
    try:
        lines = read_text(folder / SUMS, DataError).splitlines()
    except (OSError, ValueError, DataError):
        return {}
    pairs = (line.partition("  ") for line in lines)
    return {name: digest for digest, _, name in pairs if name and not _leads_out(folder, name)}


def file_names(recipe: Recipe) -> tuple[str, ...]:
    """Names of the files that a run writes."""
    each = [f"{tweak.name}{end}" for tweak in recipe.tweaks for end in (*_MODELS, ".json", ".html")]
    compared = ("compare.json", "compare.md") if recipe.compare is not None else ()
    return (*each, *compared, *_SHARED, SUMS)


def files_in(folder: Path) -> list[str]:
    """Names of all files in a folder, also of those in folders inside it, which are weights of a model."""
    return sorted(_name(path, folder) for path in folder.rglob("*") if path.is_file())


def models_in(folder: Path) -> list[str]:
    """Names of the files of models: .onnx, their external data, tweak files."""
    return [name for name in files_in(folder) if Path(name).suffix not in (".html", ".md", ".xml", ".json")]


@contextmanager
def hidden_folder(folder: Path) -> Iterator[Path]:
    """A folder for one process to work in, inside another, deleted at the end. Raises OutputError."""
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            place = stack.enter_context(temporary_folder(folder))
        except OSError as error:
            raise OutputError(
                f"cannot create the folder: {error.strerror}", where=folder, hint="name another -o DIR"
            ) from error
        yield place


def keep_for_later(made: Path, folder: Path) -> None:
    """Rename a folder to `folder` of the cache, for later runs, with the list of what is in it."""
    text = sums([(name, file_ref(made / name).sha256) for name in files_in(made)])
    (made / SUMS).write_text(f"{_seal(folder, text)}\n{text}", encoding="utf-8", newline="\n")
    with (
        suppress(OSError),
        temporary_folder(folder.parent) as aside,
    ):  # another run may be as far
        if folder.exists():
            os.replace(folder, aside / "earlier")
        os.replace(made, folder)


def kept(folder: Path) -> dict[str, str]:
    """Name and sha256 of what `keep_for_later` put there; nothing where the list was changed."""
    try:
        seal, _, text = read_text(folder / SUMS, DataError).partition("\n")
    except (OSError, ValueError, DataError):
        return {}
    pairs = (line.partition("  ") for line in text.splitlines())
    return {name: digest for digest, _, name in pairs} if seal == _seal(folder, text) else {}


def is_whole(folder: Path) -> bool:
    """Whether a folder of the cache holds what was put there."""
    try:
        digests = kept(folder)
        return bool(digests) and all(
            (folder / name).is_file() and file_ref(folder / name).sha256 == digest
            for name, digest in digests.items()
        )
    except OSError:
        return False


def fetch(folder: Path, place: Path) -> bool:
    """Copy a folder of the cache to `place`, if each file is what it was; else nothing is left there."""
    digests = kept(folder)
    for name, digest in digests.items():
        copy = place / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if (folder / name).is_file():
            shutil.copyfile(folder / name, copy)
        if not copy.is_file() or file_ref(copy).sha256 != digest:
            empty(place)
            return False
    return bool(digests)


def empty(folder: Path) -> None:
    """Delete everything inside a folder."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _seal(folder: Path, text: str) -> str:
    """Ties a list to the folder's name, which has the key of what its files depend on."""
    return hashlib.sha256(f"{folder.name}\n{text}".encode()).hexdigest()


def _leads_out(folder: Path, name: str) -> bool:
    return not Path(os.path.realpath(folder / name)).is_relative_to(os.path.realpath(folder))
