"""How are folders read that hold pictures and a .txt of boxes for each, as YOLO has them?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from onnxtweak.data.labels import read_names
from onnxtweak.data.preprocess.sizes import Size, pixels_allowed
from onnxtweak.data.preprocess.transforms import pillow_decoder
from onnxtweak.data.samples import InputSpec, Part, Reading, no_labels
from onnxtweak.data.source_spec import Source, natural_key
from onnxtweak.data.sources.boxes.names_beside import names_beside
from onnxtweak.data.sources.boxes.placing import LEFT_OUT, placed_in_all
from onnxtweak.data.sources.boxes.rows import checked
from onnxtweak.data.sources.image_source import SUFFIXES, pictures_part
from onnxtweak.errors import DataError
from onnxtweak.input_files import MOST_TEXT, require_regular
from onnxtweak.quantities import number_of

_HINT = "write a line `class x y width height` for each box, centre and size as fractions of the picture"
_NAMES = "classes.txt"
_ROUNDING = 0.01  # of a picture's width or height, by which fractions may be beyond it
_SPLITS = ("train", "val", "valid", "test")


def read_labelled_folder(source: Source, inputs: Sequence[InputSpec], reading: Reading) -> list[Part]:
    """The pictures of a folder with their boxes, as one part.

    The folder holds `images` and `labels`, or is an `images` with `labels` beside it or a folder within that,
    or holds pictures and .txt files side by side; folders within are read too, a key names one. A picture
    without a .txt has no objects. Class names may stand in `classes.txt`; those of a `data.yaml` are offered
    to a model without any. Notes say which files have no partner. Raises DataError where there is no picture,
    or no .txt at all.
    """
    root, inside = source.path, _pictures_in(source)
    paths = sorted(
        (path for path in inside.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()),
        key=lambda path: natural_key(str(path)),
    )
    if not paths:
        raise DataError("no images", where=inside, hint="give a folder with `images` and `labels`")
    part, sizes = part_of_pictures(root, root, paths, inputs, reading)
    texts = [_text_of(path) for path in paths]
    found = [text for text in texts if text.is_file()]
    if not found:
        if reading.unlabelled:
            return [replace(part, labels=no_labels(part.columns), labelled=False)]
        raise DataError("no boxes", where=root, hint=f"write labels/NAME.txt for images/NAME.*; {_HINT}")
    above = (root, *root.parents[:2])
    named = next((one for one in above if (one / _NAMES).is_file()), None)
    names = None if named is None else read_names(named / _NAMES)
    lines = [_read(text, size, names) for text, size in zip(texts, sizes, strict=True)]
    objects = [one.objects for one in lines]
    labels, left_out = placed_in_all(objects, sizes, reading.preprocess)
    notes = (
        *part.notes,
        *_unlike_boxes(lines),
        *left_out,
        *_unpaired(texts, found),
        *_together(inside, paths),
    )
    files = (*part.files, *((f"boxes {text.name}", text) for text in found))
    offered = names_beside(above) if names is None else None
    return [replace(part, labels=labels, classes=names, notes=notes, files=files, offered=offered)]


def _pictures_in(source: Source) -> Path:
    """The folder that holds the pictures. A key is a folder within. Raises DataError without it."""
    root = source.path
    inside = root / "images" if (root / "images").is_dir() else root
    if source.key is None:
        return inside
    if not (inside / source.key).is_dir():
        hint = "write PATH, PATH#FOLDER or PATH#[start:stop]"
        raise DataError(f"no folder `{source.key}`", where=inside, hint=hint)
    return inside / source.key


def _unpaired(texts: Sequence[Path], found: Sequence[Path]) -> Iterator[str]:
    """Notes on pictures without a .txt, of which these are found, and on .txt files without a picture."""
    if bare := len(texts) - len(found):
        yield f"no .txt, and so no objects: {bare:,} of {number_of(len(texts), 'picture')}"
    folders = {text.parent for text in texts}
    beside = {one for folder in folders for one in folder.glob("*.txt") if one.name != _NAMES}
    if left := sorted(beside - set(found)):
        yield f"of no picture: {number_of(len(left), '.txt file')}, such as {left[0]}"


def _together(inside: Path, paths: Sequence[Path]) -> Iterator[str]:
    """A note where pictures of several splits are taken together."""
    folders = {path.relative_to(inside).parts[0] for path in paths}
    if len(splits := [name for name in _SPLITS if name in folders]) > 1:
        yield f"{' and '.join(splits)} are taken together; one of them is PATH#{splits[0]}"


def part_of_pictures(
    where: Path, root: Path, paths: Sequence[Path], inputs: Sequence[InputSpec], reading: Reading
) -> tuple[Part, list[Size]]:
    """Pictures as one part whose labels are to come, and the height and width of each as stored."""
    part = pictures_part(str(where), root, paths, inputs, reading)
    most, probe = pixels_allowed(reading.memory), pillow_decoder().probe
    return part, [probe(path, most)[0] for path in paths]


def _text_of(path: Path) -> Path:
    """The .txt that belongs to a picture: beside it, or in `labels` where it is in `images`."""
    beside = path.with_suffix(".txt")
    parts = beside.parts
    if beside.is_file() or "images" not in parts[:-1]:
        return beside
    last = len(parts) - 1 - parts[::-1].index("images")
    return Path(*parts[:last], "labels", *parts[last + 1 :])


@dataclass(frozen=True, eq=False)
class _Lines:
    """A .txt: its objects (n, 5), class and corners in pixels of the stored picture.

    flat : lines without a width or height, which are left out. outlines : lines of the points of a polygon.
    """

    objects: np.ndarray
    flat: int = 0
    outlines: int = 0


def _unlike_boxes(lines: Sequence[_Lines]) -> Iterator[str]:
    """Notes on lines of all files that are no box, or are left out."""
    if flat := sum(one.flat for one in lines):
        yield f"{LEFT_OUT}{number_of(flat, 'box')} without a width or height above 0"
    if outlines := sum(one.outlines for one in lines):
        yield f"{number_of(outlines, 'polygon')} read as the box around its points"


def _read(path: Path, size: Size, names: Sequence[str] | None) -> _Lines:
    """The lines of a .txt, none where it is missing. names : of the classes."""
    if not path.is_file():
        return _Lines(np.empty((0, 5)))
    require_regular(path, DataError, MOST_TEXT)
    rows, flat, outlines = [], 0, 0
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if not line.strip():
            continue
        where, shown = f"line {number} of {path}", f"`{line.strip()[:40]}`"
        try:
            kind, *numbers = map(float, line.split())
        except ValueError as error:
            raise DataError(f"{shown} is no box", where=where, hint=_HINT) from error
        outline = len(numbers) >= 6 and len(numbers) % 2 == 0
        if len(numbers) != 4 and not outline:
            raise DataError(f"{shown} is no box", where=where, hint=_HINT)
        negative = not outline and min(numbers[2:]) < 0  # a width or height
        if negative or not all(-_ROUNDING <= one <= 1 + _ROUNDING for one in numbers):
            raise DataError(f"{shown} are no fractions of the picture", where=where, hint=_HINT)
        if outline:
            row = [kind, *(edge(numbers[axis::2]) for edge in (min, max) for axis in (0, 1))]
        else:
            x, y, width, height = numbers
            row = [kind, x - width / 2, y - height / 2, x + width / 2, y + height / 2]
        if row[3] <= row[1] or row[4] <= row[2]:
            flat += 1
            continue
        outlines += outline
        checked(np.array([row]), where, _HINT)
        if names is not None and kind >= len(names):
            what = f"class {kind:g} is out of range: {_NAMES} has {number_of(len(names), 'name')}"
            raise DataError(what, where=where, hint=f"number classes from 0 to {len(names) - 1}")
        rows.append(row)
    found = np.array(rows, np.float64).reshape(-1, 5)
    found[:, 1:] *= np.tile([size[1], size[0]], 2)
    return _Lines(found, flat, outlines)
