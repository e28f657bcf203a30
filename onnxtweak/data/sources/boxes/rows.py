"""How do rows of numbers say which objects are in which sample?

Six each: sample, class, left, top, right, bottom. A program may also give an array (n, 5) for each sample.
Corners are in pixels of the stored picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxtweak.boxes.truth import Truth
from onnxtweak.data.labels import Labels, own_names
from onnxtweak.data.preprocess.shapes import image_axes
from onnxtweak.data.samples import Column, InputSpec, Part
from onnxtweak.data.sources.boxes.placing import LEFT_OUT, placed_in_all
from onnxtweak.errors import DataError
from onnxtweak.quantities import number_of
from onnxtweak.settings import Preprocess

_HINT = "give rows of sample, class, left, top, right, bottom, with corners in pixels"
_MOST_CLASSES = 1 << 20
_FRACTIONS = 1.5  # pixels, within which no real set of boxes lies; fractions may exceed 1 a little


def rows_of(
    raw: Any, column: Column, spec: InputSpec, preprocess: Preprocess, where: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The objects of each sample, (N,) object: arrays (n, 5) of class and corners in what the model is fed.

    With notes on those that are left out.

    raw : as of `objects_in`. column : of the samples, which `spec` takes. Raises DataError where they are
    none, or make no sense.
    """
    return placed_rows(objects_in(raw, column.shape[0], where), column, spec, preprocess, where)


def placed_rows(
    objects: Sequence[np.ndarray], column: Column, spec: InputSpec, preprocess: Preprocess, where: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """As `rows_of`, of the objects (n, 5) of each sample."""
    size = _size(column, spec, preprocess)
    require_pixels(objects, where)
    return placed_in_all(objects, [size] * len(objects), preprocess)


def objects_in(raw: Any, count: int, where: str) -> list[np.ndarray]:
    """The objects (n, 5) of each of so many samples: class and corners in pixels as stored.

    raw : rows (B, 6), or an array (n, 5) for each sample. Raises DataError where they are neither.
    """
    if isinstance(raw, Sequence) and len(raw) and all(_shape(row) == (6,) for row in raw):
        raw = np.asarray(raw, np.float64)
    found = [np.empty((0, 5))] * count
    if isinstance(raw, np.ndarray) and raw.ndim == 2 and raw.shape[1] == 6 and raw.dtype.kind in "iuf":
        sample = raw[:, 0]
        outside = (sample < 0) | (sample >= count) | (sample % 1 != 0)
        if outside.any():
            row = int(outside.argmax())
            what = f"{sample[row]:g} is none of the {number_of(count, 'sample')}, which are numbered from 0"
            raise DataError(what, where=f"row {row} of {where}", hint=_HINT)
        for number in range(count):
            found[number] = raw[sample == number, 1:]
    elif isinstance(raw, Sequence | np.ndarray) and len(raw) and all(map(is_objects, raw)):
        if len(raw) != count:
            hint = "give an array (n, 5) for each sample, an empty one where there is no object"
            raise DataError(
                f"boxes of {number_of(len(raw), 'sample')}, but there are {count:,}", where=where, hint=hint
            )
        for number in range(count):
            found[number] = np.asarray(raw[number], np.float64).reshape(-1, 5)
    else:
        shape = getattr(raw, "shape", None)
        what = (
            f"labels of shape {shape}" if shape is not None else f"{type(raw).__name__} of {len(raw)} items"
        )
        raise DataError(f"{what} are no boxes, as the detector wants them", where=where, hint=_HINT)
    for number in range(count):
        checked(found[number], f"sample {number} of {where}")
    return found


def is_objects(value: Any) -> bool:
    """Whether a value may be the objects of one sample."""
    shape = _shape(value)
    return shape == (0,) or (shape is not None and len(shape) == 2 and shape[1] == 5)


def _shape(value: Any) -> tuple[int, ...] | None:
    """None for lists of different lengths, and whatever else is no array."""
    try:
        return np.shape(value)
    except Exception:  # conversion is foreign code
        return None


def checked(objects: np.ndarray, where: object, hint: str = _HINT) -> np.ndarray:
    """The objects (n, 5) of a sample. Raises DataError, with this hint, for what is no class or no box."""
    number, box = objects[:, 0], objects[:, 1:]
    wrong = ~((number >= 0) & (number < _MOST_CLASSES) & (number % 1 == 0))
    if wrong.any():
        what = f"{number[wrong][0]:g} is no class number"
        raise DataError(what, where=where, hint=f"number classes from 0 on; {hint}")
    wrong = ~(np.isfinite(box).all(axis=1) & (box[:, 2:] > box[:, :2]).all(axis=1))
    if wrong.any():
        shown = ", ".join(f"{value:g}" for value in box[wrong][0])
        raise DataError(f"{shown} are no corners of a box", where=where, hint=hint)
    return objects


def require_pixels(objects: Sequence[np.ndarray], where: object) -> None:
    """Raise DataError where corners of all objects, (n, 5) of each sample, are fractions of pictures."""
    largest = max((float(np.abs(one[:, 1:]).max(initial=0)) for one in objects), default=0.0)
    if 0 < largest <= _FRACTIONS:
        what = f"no number of any box is above {largest:.3g}: are they fractions of the picture?"
        hint = "multiply them with its width and height: corners are in pixels of the stored picture"
        raise DataError(what, where=where, hint=hint)


def _size(column: Column, spec: InputSpec, preprocess: Preprocess) -> tuple[int, int]:
    """Height and width of stored pictures."""
    sample = column.shape[1:]
    axes = column.axes or image_axes(sample, preprocess.layout, spec.sample)
    if axes is None or len(axes) != len(sample):
        raise DataError(
            f"samples of shape {sample} are no pictures, in which boxes could be", where=column.where
        )
    return sample[axes.index("H")], sample[axes.index("W")]


def objects_of(parts: Sequence[Part], names: Sequence[str] | None) -> Labels:
    """What is in the samples of some parts; nothing, in those without labels. names : of the classes.

    Raises DataError for a class that the names do not have.
    """
    nothing, rows = np.empty((0, 5), np.float32), list[np.ndarray]()
    for part in parts:
        own = part.labels if part.labelled else [nothing] * len(part)
        if part.labelled and names and part.classes:
            own = [_renumbered(one, part, names) for one in own]
        rows += list(own)
    truth = Truth.of(rows)
    classes = tuple(names) if names else own_names(parts)
    if any(part.labelled for part in parts) and not len(truth.box):
        why = "; ".join(note for part in parts for note in part.notes if note.startswith(LEFT_OUT))
        what = "no sample has any box" + (f": {why}" if why else "")
        raise DataError(what, where=parts[0].label_where, hint="give samples with boxes of objects")
    return Labels(truth.rarest, classes, None, (), objects=truth)


def _renumbered(objects: np.ndarray, part: Part, names: Sequence[str]) -> np.ndarray:
    """The classes of a part numbered as the names have them."""
    assert part.classes is not None
    found = objects.copy()
    for row, number in enumerate(objects[:, 0].astype(np.int64).tolist()):
        name = part.classes[number]
        if name not in names:
            hint = f"the names are {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}"
            raise DataError(f"class `{name}` is not among the class names", where=part.label_where, hint=hint)
        found[row, 0] = list(names).index(name)
    return found
