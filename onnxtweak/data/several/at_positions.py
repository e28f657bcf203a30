"""Which labels does each position of a sample have? Raw arrays in the shape of a model's scores, marks out.

Marks are those of `onnxtweak.data.several.marks`. Where a position has a single score, so is its label.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxtweak.data.samples import MarkedAt, Part
from onnxtweak.data.several.marks import UNKNOWN, probabilities, require_absent
from onnxtweak.data.several.own_sizes import behind_one_another, sizes_together
from onnxtweak.errors import DataError

_WHITE = 255  # of a mask of bytes


@dataclass(frozen=True, eq=False)
class MarksAtPositions:
    """marks (N * P, C) int8, sample after sample. sizes : of the P positions; () where these are samples.

    notes : what was done. own : how many positions samples of each part have, 0 without labels; () where
    all have as many.
    """

    marks: np.ndarray
    sizes: tuple[int, ...]
    notes: tuple[str, ...]
    own: tuple[int, ...] = ()


def marks_at_positions(
    parts: Sequence[Part], at: MarkedAt, ignored: int | None, *, certain: bool
) -> MarksAtPositions | None:
    """The marks of all samples; None where labels are a class for each position, or for each sample.

    Samples without labels have marks that are not known. ignored : a number that means the same, beside
    negative ones. certain : whether marks are meant, so that other labels are an error. Raises DataError for
    positions of different sizes, and for numbers that are no marks.
    """
    labelled = [part for part in parts if part.labelled]
    if not labelled:
        return None
    laid_out = [_classes_last(part.labels, at) for part in labelled]
    found, notes = list[np.ndarray](), list[str]()
    for part, raw in zip(labelled, laid_out, strict=True):
        if raw is None or raw.dtype.kind not in "biuf":
            if certain:
                raise DataError(
                    f"labels of shape {part.labels.shape} ({part.labels.dtype}) are no marks at positions",
                    where=part.label_where,
                    hint=f"give 1, 0, and -1 where it is not known, shape {at.wanted}",
                )
            return None
        marks, note, strange = _marks(raw, at, ignored)
        if strange is not None:
            if not certain:
                return None
            raise probabilities(raw, part.label_where) or DataError(
                f"{strange:g} is no mark of a label at a position",
                where=part.label_where,
                hint="give 1 where it is there, 0 where it is not, and -1 where it is not known, shape "
                f"{at.wanted}; --ignore-index says which other number means that",
            )
        found.append(marks)
        notes += [note] if note else []
    require_absent(labelled, found)
    classes, whole = found[0].shape[-1], iter(found)
    every = [_flat(next(whole)) if part.labelled else len(part) for part in parts]
    marks = behind_one_another(every, np.int8, (classes,))
    if not (marks == 1).any():
        hint = "mark the positions that have a label with 1"
        raise DataError("no position has any label", where=labelled[0].label_where, hint=hint)
    unknown = sum(int((each == UNKNOWN).sum()) for each in found)
    if unknown:
        known = sum(each.size for each in found)
        notes.append(f"{unknown:,} of {known:,} labels are not known and do not count")
    sizes, own = sizes_together([marks.shape[1:-1] for marks in found], parts)
    return MarksAtPositions(marks, sizes, tuple(dict.fromkeys(notes)), own)


def one_hot_as_classes(parts: Sequence[Part], at: MarkedAt, ignored: int | None) -> list[Part]:
    """The same parts with a class number at each position, where every one has a single label of several.

    A position that has none known gets -1. ignored : as above.
    """
    found = list[Part]()
    for part in parts:
        if not part.labelled:
            found.append(part)
            continue
        raw = None if at.single or part.labels.dtype.kind not in "biuf" else _classes_last(part.labels, at)
        marks, _, strange = (None, "", None) if raw is None else _marks(raw, at, ignored)
        if marks is None or strange is not None:
            return [*parts]
        unknown = (marks == UNKNOWN).all(axis=-1)
        one = (marks >= 0).all(axis=-1) & ((marks == 1).sum(axis=-1) == 1)
        if not one.any() or not (one | unknown).all():
            return [*parts]
        numbers = np.where(unknown, UNKNOWN, marks.argmax(axis=-1)).astype(np.int32)
        note = (
            f"one-hot labels of {marks.shape[-1]} classes at each position read as class numbers "
            f"({part.label_where}); --head labels takes them as marks"
        )
        found.append(replace(part, labels=numbers, notes=(*part.notes, note)))
    return found


def _flat(marks: np.ndarray) -> np.ndarray:
    """Marks (n, positions, C), whatever axes these have."""
    return marks.reshape(len(marks), math.prod(marks.shape[1:-1]), marks.shape[-1])


def _classes_last(raw: np.ndarray, at: MarkedAt) -> np.ndarray | None:
    """Raw labels (N, positions ..., C); None where their shape is not that of the scores.

    Axes of size 1 may be left out or added, and so may be that of a single score.
    """
    if (axis := at.axis_of(raw)) is not None:
        return np.moveaxis(raw, axis, -1)
    if not at.single or raw.ndim < 2:
        return None
    wide = sum(size != 1 for number, size in enumerate(at.shape[1:], 1) if number != at.axis)
    own = raw.reshape(len(raw), *(size for size in raw.shape[1:] if size != 1))
    return own[..., None] if own.ndim - 1 == wide else None


def _marks(raw: np.ndarray, at: MarkedAt, ignored: int | None) -> tuple[np.ndarray, str, float | None]:
    """Marks int8 of raw labels, a note, and the first number that is none."""
    note = ""
    if raw.dtype == np.bool_:
        return raw.astype(np.int8), note, None
    unknown = np.isnan(raw) if raw.dtype.kind == "f" else np.zeros(raw.shape, bool)
    unknown |= raw < 0 if raw.dtype.kind != "u" else False
    if ignored is not None:
        unknown |= raw == ignored
    there = raw == 1
    if raw.dtype.kind in "iu" and ignored != _WHITE:
        white = raw == _WHITE
        if at.single and white.any() and not there.any():
            there, note = white, "labels are 0 and 255: 255 is where the label is there"
        elif raw.dtype == np.uint8:
            unknown |= white
    strange = ~(unknown | there | (raw == 0))
    if strange.any():
        return raw, note, float(raw[strange][0])
    return np.where(unknown, UNKNOWN, there).astype(np.int8), note, None
