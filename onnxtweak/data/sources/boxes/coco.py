"""How is a COCO JSON read? Pictures by file name, boxes by picture and category."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from onnxtweak.data.preprocess.sizes import Size
from onnxtweak.data.samples import InputSpec, Part, Reading
from onnxtweak.data.source_spec import Source, listed_name
from onnxtweak.data.sources.boxes.placing import LEFT_OUT, placed_in_all
from onnxtweak.data.sources.boxes.rows import checked, require_pixels
from onnxtweak.data.sources.boxes.yolo import part_of_pictures
from onnxtweak.errors import DataError
from onnxtweak.input_files import require_regular
from onnxtweak.quantities import number_of

Identity = int | str

_HINT = "give a COCO JSON with `images`, `annotations` and `categories`"
_ANNOTATION = "give it an `image_id`, a `category_id`, and a `bbox` of left, top, width and height in pixels"


def read_coco(source: Source, inputs: Sequence[InputSpec], reading: Reading) -> list[Part]:
    """The pictures of a COCO JSON with their boxes, as one part.

    Classes are its categories, in the order of their ids. Pictures lie in the folder of the JSON or beside
    it, in `images` or in one called like the split. What is left out is noted: crowds, boxes without a size,
    outside of their picture, or of one that is not listed. Raises DataError for a file that is none, for an
    annotation that is none, and for a picture that is not there.
    """
    path = source.path
    if not reading.boxes:
        hint = "give labelled samples of the model's kind; see docs/howto/boxes.md on detectors"
        raise DataError("a COCO JSON holds boxes, and the model finds none", where=path, hint=hint)
    if source.key:
        raise DataError("a COCO JSON has no keys", where=source.text, hint=f"write {path}#[start:stop]")
    require_regular(path, DataError)
    try:
        held = json.loads(path.read_text(encoding="utf-8-sig"))
        categories = sorted(held["categories"], key=lambda one: int(one["id"]))
        images = held["images"]
        number = {int(one["id"]): place for place, one in enumerate(categories)}
        names = tuple(str(one["name"]) for one in categories)
        pictures = [(_identity(one["id"]), str(one["file_name"])) for one in images]
        annotations = list(held["annotations"])
    except KeyError as error:
        raise DataError(f"this is no COCO JSON: it has no {error}", where=path, hint=_HINT) from error
    except (ValueError, TypeError, OSError) as error:
        said = f"{type(error).__name__}: {error}"
        raise DataError(f"this is no COCO JSON ({said})", where=path, hint=_HINT) from error
    _require_once([one["id"] for one in categories], "category", path)
    _require_once([identity for identity, _ in pictures], "picture", path)
    if not pictures:
        raise DataError("the COCO JSON lists no pictures", where=path, hint=_HINT)
    if not annotations and not reading.unlabelled:
        raise DataError("the COCO JSON has no annotations", where=path, hint="give one with labelled boxes")
    boxes, notes = _by_picture(annotations, number, {identity for identity, _ in pictures}, path)
    root = _root(path, listed_name(path.parent, pictures[0][1]))
    paths = [root / listed_name(root, name) for _, name in pictures]
    missing = next((one for one in paths if not one.is_file()), None)
    if missing is not None:
        hint = f"put the pictures into {path.parent} or {path.parent / 'images'}"
        raise DataError("no such picture", where=missing, hint=hint)
    part, sizes = part_of_pictures(path, root, paths, inputs, reading)
    objects = [np.array(boxes.get(identity, []), np.float64).reshape(-1, 5) for identity, _ in pictures]
    require_pixels(objects, path)
    labels, left_out = placed_in_all(objects, sizes, reading.preprocess)
    return [
        replace(
            part,
            labels=labels,
            classes=names,
            notes=(*part.notes, *notes, *left_out, *_of_other_sizes(images, sizes)),
            files=(("boxes", path), *part.files),
        )
    ]


def _by_picture(
    annotations: Sequence[Mapping[str, Any]], number: Mapping[int, int], pictures: Set[Identity], path: Path
) -> tuple[dict[Identity, list[list[float]]], tuple[str, ...]]:
    """Rows of class and corners by picture, and notes on what is left out.

    number : of each category's class, by id. pictures : ids of those that are listed.
    """
    found: dict[Identity, list[list[float]]] = {}
    crowds = flat = strange = 0
    for place, one in enumerate(annotations):
        try:
            identity, category = _identity(one["image_id"]), int(one["category_id"])
            crowd, (left, top, width, height) = bool(one.get("iscrowd")), map(float, one["bbox"])
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            missing = isinstance(error, KeyError)
            what = f"the annotation has no {error}" if missing else f"this is no annotation ({error})"
            raise DataError(what, where=_named(place, one, path), hint=_ANNOTATION) from error
        if identity not in pictures:
            strange += 1
        elif crowd:
            crowds += 1
        elif width <= 0 or height <= 0:  # as COCO's own tools have it
            flat += 1
        elif category not in number:
            what = f"no category has the id {category}"
            raise DataError(what, where=_named(place, one, path), hint="list it in `categories`")
        else:
            row = [number[category], left, top, left + width, top + height]
            checked(np.array([row]), _named(place, one, path), _ANNOTATION)
            found.setdefault(identity, []).append(row)
    notes = (
        (crowds, "crowd", ""),
        (flat, "box", " without a width or height above 0"),
        (strange, "box", " of pictures that `images` does not list"),
    )
    return found, tuple(f"{LEFT_OUT}{number_of(n, noun)}{which}" for n, noun, which in notes if n)


def _identity(value: Any) -> Identity:
    """The id of a picture: a number however it is written, else a text."""
    try:
        return int(value)
    except ValueError:
        return str(value)


def _require_once(ids: Sequence[Any], what: str, path: Path) -> None:
    """Raise DataError for two pictures, or two categories, of one id: whose a box is would be unknown."""
    known: set[Any] = set()
    for one in ids:
        if one in known:
            hint = f"give every {what} an id of its own, and its annotations that one"
            raise DataError(f"the {what} id {one} stands twice", where=path, hint=hint)
        known.add(one)


def _named(place: int, annotation: Any, path: Path) -> str:
    """Where an annotation stands."""
    own = f" (id {annotation['id']})" if isinstance(annotation, Mapping) and "id" in annotation else ""
    return f"annotation {place}{own} of {path}"


def _of_other_sizes(images: Sequence[Mapping[str, Any]], sizes: Sequence[Size]) -> tuple[str, ...]:
    """A note where pictures are not as large as the JSON says: their boxes may be those of others."""
    said = [(one.get("height"), one.get("width")) for one in images]
    pairs = zip(said, sizes, strict=True)
    wrong = [place for place, (one, own) in enumerate(pairs) if all(one) and tuple(one) != tuple(own)]
    if not wrong:
        return ()
    (height, width), own = said[wrong[0]], sizes[wrong[0]]
    return (
        f"{len(wrong):,} of {number_of(len(sizes), 'picture')} of another size than the JSON says, such as "
        f"{images[wrong[0]]['file_name']}, {own[1]} x {own[0]} rather than {width} x {height}: boxes are "
        "taken to be in pixels of the files",
    )


def _root(path: Path, first: str) -> Path:
    """The folder from which the file names count: the one that has the first of them."""
    split = path.stem.removeprefix("instances_")
    beside = [path.parent, *(folder / name for folder in path.parents[:2] for name in ("images", split))]
    return next((folder for folder in beside if (folder / first).is_file()), path.parent)
