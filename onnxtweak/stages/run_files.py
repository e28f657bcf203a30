"""Where do the files of a run lie, and how do they get there together?

While a run works, its files lie in a hidden folder beside theirs. A list of digests says which files a run
wrote: those the next one may replace.
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
_TOGETHER = ("metrics.json", "summary.md", "junit.xml", "provenance.json")
_MODELS = (".onnx", ".safetensors")
_EVIDENCE = (".json", ".html", ".md", ".xml")


def hand_over(staging: Path, target: Path, files: Sequence[FileRef]) -> None:
    """Files into their places; models of an earlier run that this one does not vouch for are taken away."""
    names = {file.path for file in files}
    for name, digest in listed(target).items():
        stale = target / name
        if name not in names and stale.is_file() and file_ref(stale).sha256 == digest:
            stale.unlink()
    target.mkdir(parents=True, exist_ok=True)
    for file in sorted(staging.iterdir()):
        file.replace(target / file.name)


def check_directory(target: Path, asked: Recipe, force: bool) -> None:
    """Raise OutputError where the run could not write, or would replace what no run wrote."""
    if target.exists() and not target.is_dir():
        raise OutputError("this is a file, not a folder", where=target, hint="name another with -o DIR")
    known = listed(target)
    for name in file_names(asked):
        path = target / name
        foreign = path.exists() and name not in known and name != SUMS
        if foreign and not force:
            raise OutputError(
                "the file exists, and no run wrote it", where=path, hint="use --force or -o DIR"
            )
    if Path(asked.model).resolve().parent == target.resolve() and Path(asked.model).name in file_names(asked):
        raise OutputError("the run would replace the base", where=asked.model, hint="name another -o DIR")


def listed(target: Path) -> dict[str, str]:
    """Name and sha256 of the files that the last run left here."""
    try:
        lines = (target / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return {}
    pairs = (line.partition("  ") for line in lines)
    return {name: digest for digest, _, name in pairs if name and Path(name).name == name}


def file_names(asked: Recipe) -> tuple[str, ...]:
    each = [f"{plan.name}{end}" for plan in asked.tweaks for end in (*_MODELS, ".json", ".html")]
    compared = ("compare.json", "compare.md") if asked.compare is not None else ()
    return (*each, *compared, *_TOGETHER, SUMS)


def models_in(folder: Path) -> list[Path]:
    """Everything that belongs to models: .onnx, their external data, tweak files."""
    return [
        path
        for path in sorted(folder.iterdir())
        if path.name != "result.json" and path.suffix not in (".html", ".md", ".xml", ".json")
    ]


def fresh(folder: Path) -> None:
    """An empty folder. Raises OutputError."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    except OSError as error:
        raise OutputError(
            f"the folder cannot be made: {error.strerror}", where=folder, hint="name another -o DIR"
        ) from error


def staging_for(target: Path) -> Path:
    """The hidden folder in which a run works, on the same disk."""
    target = target.absolute()
    return target.with_name(f".{target.name}.partial")
