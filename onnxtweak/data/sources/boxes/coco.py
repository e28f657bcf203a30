"""How is a COCO JSON read? Pictures by file name, boxes by picture and category."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from onnxtweak.data.samples import InputSpec, Part, Reading
from onnxtweak.data.source_spec import Source, listed_name
from onnxtweak.data.sources.boxes.placing import placed
from onnxtweak.data.sources.boxes.rows import checked
from onnxtweak.data.sources.boxes.yolo import part_of_pictures
from onnxtweak.errors import DataError
from onnxtweak.input_files import require_regular
from onnxtweak.quantities import number_of

_HINT = "give a COCO JSON with `images`, `annotations` and `categories`"


def read_coco(source: Source, inputs: Sequence[InputSpec], reading: Reading) -> list[Part]:
    """The pictures of a COCO JSON with their boxes, as one part.

    Classes are its categories, in the order of their ids. Pictures lie in the folder of the JSON or beside
    it, in `images` or in one called like the split. Crowds are left out. Raises DataError for a file that is
    none, and for a picture that is not there.
    """
    path = source.path
    if not reading.boxes:
        hint = "give labelled samples of the model's kind; see docs/howto/boxes.md on detectors"
        raise DataError("a COCO JSON holds boxes, and the model finds none", where=path, hint=hint)
    require_regular(path, DataError)
    try:
        held = json.loads(path.read_text(encoding="utf-8-sig"))
        categories = sorted(held["categories"], key=lambda one: int(one["id"]))
        number = {int(one["id"]): place for place, one in enumerate(categories)}
        names = tuple(str(one["name"]) for one in categories)
        pictures = [(int(one["id"]), str(one["file_name"])) for one in held["images"]]
        boxes, crowds = _by_picture(held["annotations"], number)
    except (ValueError, KeyError, TypeError, OSError) as error:
        said = f"{type(error).__name__}: {error}"
        raise DataError(f"this is no COCO JSON ({said})", where=path, hint=_HINT) from error
    if not pictures:
        raise DataError("the COCO JSON lists no pictures", where=path, hint=_HINT)
    root = _root(path, listed_name(path.parent, pictures[0][1]))
    paths = [root / listed_name(root, name) for _, name in pictures]
    missing = next((one for one in paths if not one.is_file()), None)
    if missing is not None:
        hint = f"put the pictures into {path.parent} or {path.parent / 'images'}"
        raise DataError("no such picture", where=missing, hint=hint)
    part, sizes = part_of_pictures(path, root, paths, inputs, reading)
    labels = np.empty(len(paths), object)
    for place, (identity, name) in enumerate(pictures):
        own = checked(np.array(boxes.get(identity, []), np.float64).reshape(-1, 5), f"{name} in {path}")
        labels[place] = placed(own, sizes[place], reading.preprocess)
    notes = (f"left out: {number_of(crowds, 'crowd')}",) if crowds else ()
    return [
        replace(
            part,
            labels=labels,
            classes=names,
            notes=(*part.notes, *notes),
            files=(("boxes", path), *part.files),
        )
    ]


def _by_picture(
    annotations: Sequence[Mapping[str, Any]], number: Mapping[int, int]
) -> tuple[dict[int, list[list[float]]], int]:
    """Rows of class and corners by picture, and how many crowds there are."""
    found: dict[int, list[list[float]]] = {}
    crowds = 0
    for one in annotations:
        if one.get("iscrowd"):
            crowds += 1
            continue
        left, top, width, height = map(float, one["bbox"])
        if width > 0 and height > 0:  # as COCO's own tools have it
            row = [number[int(one["category_id"])], left, top, left + width, top + height]
            found.setdefault(int(one["image_id"]), []).append(row)
    return found, crowds


def _root(path: Path, first: str) -> Path:
    """The folder from which the file names count: the one that has the first of them."""
    split = path.stem.removeprefix("instances_")
    beside = [path.parent, *(folder / name for folder in path.parents[:2] for name in ("images", split))]
    return next((folder for folder in beside if (folder / first).is_file()), path.parent)
