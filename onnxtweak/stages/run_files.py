"""Where are the files of a run written, and how are they delivered together?

A run works in a hidden folder beside its own. SHA256SUMS lists the files that a run wrote: the next one may
replace those, and no others.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from onnxtweak.errors import OutputError
from onnxtweak.recipe import Recipe
from onnxtweak.stages.open_job import file_ref
from onnxtweak.types import FileRef

SUMS = "SHA256SUMS"
_SHARED = ("metrics.json", "summary.md", "junit.xml", "provenance.json")
_MODELS = (".onnx", ".safetensors")


def deliver_files(staging: Path, target: Path, files: Sequence[FileRef]) -> None:
    """Move the files into their folder; delete those of an earlier run that this one did not make."""
    names = {file.path for file in files}
    for name, digest in listed(target).items():
        stale = target / name
        if name not in names and stale.is_file() and file_ref(stale).sha256 == digest:
            stale.unlink()
    target.mkdir(parents=True, exist_ok=True)
    for file in sorted(staging.iterdir()):
        file.replace(target / file.name)


def check_directory(target: Path, recipe: Recipe, force: bool) -> None:
    """Raise OutputError where the run cannot write, or would replace files that no run wrote."""
    if target.exists() and not target.is_dir():
        raise OutputError("this is a file, not a folder", where=target, hint="name a folder with -o DIR")
    known = listed(target)
    for name in file_names(recipe):
        path = target / name
        foreign = path.exists() and name not in known and name != SUMS
        if foreign and not force:
            raise OutputError(
                "the file exists, and no run wrote it", where=path, hint="use --force, or another -o DIR"
            )
    model = Path(recipe.model)
    if model.resolve().parent == target.resolve() and model.name in file_names(recipe):
        raise OutputError("the run would replace the base", where=model, hint="name another -o DIR")


def listed(target: Path) -> dict[str, str]:
    """Name and sha256 of the files that the last run wrote here."""
    try:
        lines = (target / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return {}
    pairs = (line.partition("  ") for line in lines)
    return {name: digest for digest, _, name in pairs if name and Path(name).name == name}


def file_names(recipe: Recipe) -> tuple[str, ...]:
    """Names of the files that a run writes."""
    each = [f"{tweak.name}{end}" for tweak in recipe.tweaks for end in (*_MODELS, ".json", ".html")]
    compared = ("compare.json", "compare.md") if recipe.compare is not None else ()
    return (*each, *compared, *_SHARED, SUMS)


def models_in(folder: Path) -> list[Path]:
    """The files of models: .onnx, their external data, tweak files."""
    return [path for path in sorted(folder.iterdir()) if path.suffix not in (".html", ".md", ".xml", ".json")]


def empty_folder(folder: Path) -> None:
    """Make a folder, empty even where it was there. Raises OutputError."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    except OSError as error:
        raise OutputError(
            f"cannot create the folder: {error.strerror}", where=folder, hint="name another -o DIR"
        ) from error


def staging_for(target: Path) -> Path:
    """The hidden folder in which a run works, on the same disk."""
    target = target.absolute()
    return target.with_name(f".{target.name}.partial")
