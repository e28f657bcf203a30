"""How are folders read that hold pictures and a .txt of boxes for each, as YOLO has them?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from onnxtweak.data.labels import read_names
from onnxtweak.data.preprocess.sizes import Size, pixels_allowed
from onnxtweak.data.preprocess.transforms import pillow_decoder
from onnxtweak.data.samples import InputSpec, Part, Reading, no_labels
from onnxtweak.data.source_spec import Source, natural_key
from onnxtweak.data.sources.boxes.placing import placed
from onnxtweak.data.sources.boxes.rows import checked
from onnxtweak.data.sources.image_source import SUFFIXES, pictures_part
from onnxtweak.errors import DataError
from onnxtweak.input_files import MOST_TEXT, require_regular

_HINT = "write a line `class x y width height` for each box, centre and size as fractions of the picture"


def read_labelled_folder(source: Source, inputs: Sequence[InputSpec], reading: Reading) -> list[Part]:
    """The pictures of a folder with their boxes, as one part.

    The folder holds `images` and `labels`, or is an `images` with `labels` beside it, or holds pictures and
    .txt files side by side; folders within are read too. A picture without a .txt has no objects. Class names
    may stand in `classes.txt`. Raises DataError where there is no picture, or no .txt at all.
    """
    root = source.path
    inside = root / "images" if (root / "images").is_dir() else root
    paths = sorted(
        (path for path in inside.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()),
        key=lambda path: natural_key(str(path)),
    )
    if not paths:
        raise DataError("no images", where=root, hint="give a folder with `images` and `labels`")
    part, sizes = part_of_pictures(root, root, paths, inputs, reading)
    texts = [_text_of(path, inside) for path in paths]
    if not any(text.is_file() for text in texts):
        if reading.unlabelled:
            return [replace(part, labels=no_labels(part.columns), labelled=False)]
        raise DataError("no boxes", where=root, hint=f"write labels/NAME.txt for images/NAME.*; {_HINT}")
    labels = np.empty(len(paths), object)
    for place, (text, size) in enumerate(zip(texts, sizes, strict=True)):
        labels[place] = placed(_read(text, size), size, reading.preprocess)
    files = tuple((f"boxes {text.name}", text) for text in texts if text.is_file())
    named = next((one for one in (root, inside.parent) if (one / "classes.txt").is_file()), None)
    names = None if named is None else read_names(named / "classes.txt")
    return [replace(part, labels=labels, classes=names, files=(*part.files, *files))]


def part_of_pictures(
    where: Path, root: Path, paths: Sequence[Path], inputs: Sequence[InputSpec], reading: Reading
) -> tuple[Part, list[Size]]:
    """Pictures as one part whose labels are to come, and the height and width of each as stored."""
    part = pictures_part(str(where), root, paths, inputs, reading)
    most, probe = pixels_allowed(reading.memory), pillow_decoder().probe
    return part, [probe(path, most)[0] for path in paths]


def _text_of(path: Path, images: Path) -> Path:
    """The .txt that belongs to a picture."""
    beside = path.with_suffix(".txt")
    if images.name != "images" or beside.is_file():
        return beside
    return (images.parent / "labels" / path.relative_to(images)).with_suffix(".txt")


def _read(path: Path, size: Size) -> np.ndarray:
    """The objects of a .txt, (n, 5): class and corners in pixels of the stored picture."""
    if not path.is_file():
        return np.empty((0, 5))
    require_regular(path, DataError, MOST_TEXT)
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if not line.strip():
            continue
        try:
            kind, x, y, width, height = map(float, line.split())
        except ValueError as error:
            what = f"`{line.strip()[:40]}` is no box"
            raise DataError(what, where=f"line {number} of {path}", hint=_HINT) from error
        if not (0 <= x <= 1 and 0 <= y <= 1 and 0 < width <= 1 and 0 < height <= 1):
            what = f"`{line.strip()[:40]}` are no fractions of the picture"
            raise DataError(what, where=f"line {number} of {path}", hint=_HINT)
        rows.append([kind, x - width / 2, y - height / 2, x + width / 2, y + height / 2])
    found = np.array(rows, np.float64).reshape(-1, 5)
    found[:, 1:] *= np.tile([size[1], size[0]], 2)
    return checked(found, path)
