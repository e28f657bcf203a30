"""Which labels does a sample have, of several at once? Raw arrays in, a mark for each sample and class out.

Marks are 1 for a label that is there, 0 for one that is not, and -1 where nobody knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxtweak.data.samples import Part
from onnxtweak.errors import DataError

UNKNOWN = -1
_SURE = 10  # marks that all say that a label is there: where it is never absent, that is no chance


def are_marks(raw: np.ndarray) -> bool:
    """Whether raw labels (N, ...) are a row of marks for each sample; NaN is one that is not known."""
    if raw.ndim != 2 or raw.shape[1] < 2 or raw.dtype.kind not in "biuf":
        return False
    known = (raw == 0) | (raw == 1) | (raw == UNKNOWN)
    return bool((known | np.isnan(raw) if raw.dtype.kind == "f" else known).all())


def one_each(raw: np.ndarray) -> bool:
    """Whether every row of marks (N, C) marks one class and denies all others: a class in one-hot form."""
    return bool(((raw == 0) | (raw == 1)).all() and (raw.sum(axis=1) == 1).all())


def marks(parts: Sequence[Part], *, certain: bool = False) -> np.ndarray | None:
    """The marks (N, C) int8 of all samples; None where these have a class each.

    So they have where every row of marks is one-hot, unless it is `certain` that several labels are meant, as
    where those of other samples are. Raises DataError where parts have marks for different numbers of
    classes, and where nothing is marked.
    """
    labelled = [part for part in parts if part.labelled]
    raw = [part.labels for part in labelled]
    if not raw or not all(map(are_marks, raw)) or (not certain and all(map(one_each, raw))):
        return None
    for part in labelled:
        if part.labels.shape[1] != raw[0].shape[1]:
            raise DataError(
                f"a sample has {part.labels.shape[1]:,} labels here, and {raw[0].shape[1]:,} in "
                f"{labelled[0].label_where}",
                where=part.label_where,
                hint="give a column for each class of the model, in its order",
            )
    each = [_known(part, raw[0].shape[1]) for part in parts]
    require_absent(parts, each)
    found = np.concatenate(each)
    if len(found) and not (found == 1).any():
        hint = "mark the labels that a sample has with 1"
        raise DataError("no sample has any label", where=labelled[0].label_where, hint=hint)
    return found


def _known(part: Part, classes: int) -> np.ndarray:
    """Marks (n, classes) int8 of a part; of one without labels none is known."""
    if not part.labelled:
        return np.full((len(part), classes), UNKNOWN, np.int8)
    return np.where(np.isnan(part.labels), UNKNOWN, part.labels).astype(np.int8)


def require_absent(parts: Sequence[Part], found: Sequence[np.ndarray]) -> None:
    """Raise DataError where labels are there or not known, and nowhere known not to be there.

    found : marks (..., C) of each part. Listed samples need say no more than what has to become right.
    """
    own = [
        marks.reshape(-1, marks.shape[-1])
        for part, marks in zip(parts, found, strict=True)
        if part.labelled and not part.listed and marks.size
    ]
    if not own:
        return
    there, absent, unknown = (
        np.sum([np.count_nonzero(marks == value, axis=0) for marks in own], axis=0)
        for value in (1, 0, UNKNOWN)
    )
    doubtful = np.flatnonzero((there > 0) & (absent == 0) & (unknown > 0))
    if not len(doubtful) or (absent.any() and there[doubtful].max() < _SURE):
        return
    shown = ", ".join(map(str, doubtful[:8].tolist())) + (", ..." if len(doubtful) > 8 else "")
    labels = f"label {shown} is" if len(doubtful) == 1 else f"labels {shown} are"
    raise DataError(
        f"{labels} marked 1 or not known (-1), and nowhere 0: which samples lack a label is not told",
        where=next(part for part in parts if part.labelled and not part.listed).label_where,
        hint="write 0 where a label is not there: -1 says that nobody knows; a label that is -1 everywhere is"
        " left out",
    )


def note_on(found: np.ndarray) -> tuple[str, ...]:
    """A note on marks (N, C) that are not known."""
    unknown = int((found == UNKNOWN).sum())
    if not unknown:
        return ()
    return (f"{unknown:,} of {found.size:,} labels are not known and do not count",)


def rarest(found: np.ndarray) -> np.ndarray:
    """The rarest label that each sample has, (N,) int64; C for none. found (N, C) : marks."""
    there = found == 1
    count = np.where(there, there.sum(axis=0), len(found) + 1)
    return np.where(there.any(axis=1), count.argmin(axis=1), found.shape[1]).astype(np.int64)


def not_one_each(where: str, shape: tuple[int, ...], labels: np.ndarray) -> DataError:
    """The error for labels (N, ...) of a model that takes one for each sample."""
    hint = "give the one class of each sample, shape (N,)"
    rows = labels.reshape(len(labels), -1)
    if len(shape) == 2 and ((rows == 0) | (rows == 1)).all():
        several = int((rows.sum(axis=1) != 1).argmax())
        return DataError(
            f"labels of shape {shape} mark {int(rows[several].sum())} classes in row {several}: "
            "several labels at once, where each sample has to have one",
            where=where,
            hint=hint,
        )
    if (soft := probabilities(rows, where)) is not None:
        return soft
    whole = labels.dtype.kind == "f" and bool((rows == np.round(rows)).all())
    as_integers = "class numbers at positions are integers: labels.astype('int64')"
    if whole and len(shape) > 2:
        return DataError(f"labels of shape {shape} are {labels.dtype}", where=where, hint=as_integers)
    what = f"labels of shape {shape} are neither class numbers nor one-hot"
    hint = "store one class number per sample, shape (N,)"
    if len(shape) == 2:
        hint += "; of several labels at once, a mark for each: 1, 0, and -1 where it is not known"
        if labels.dtype.kind in "iuf":
            strange = ~((rows == 0) | (rows == 1) | (rows == -1) | (rows != rows))  # only NaN is not itself
            row, column = np.unravel_index(int(strange.argmax()), strange.shape)
            what += f": row {row} has {rows[row, column]:g}" if strange.any() else ""
        hint += f"; {as_integers}" if whole else ""
    return DataError(what, where=where, hint=hint)


def probabilities(rows: np.ndarray, where: str) -> DataError | None:
    """The error for raw labels (N, ...) that are probabilities; None for others."""
    if rows.dtype.kind != "f" or not rows.size:
        return None
    known = rows[~np.isnan(rows) & (rows != UNKNOWN)]
    between = (rows > 0) & (rows < 1)
    if not between.any() or ((known < 0) | (known > 1)).any():
        return None
    first = np.unravel_index(int(between.argmax()), rows.shape)
    return DataError(
        f"labels are probabilities, such as {rows[first]:g} in row {first[0]}",
        where=where,
        hint="nothing is learnt from probabilities: decide first, (labels >= 0.5).astype('int8') where there"
        " may be several labels at once, labels.argmax(axis) where there is one class",
    )


_IN_WORDS = {"true": "1", "false": "0", "": "nan"}


def marks_of_text(cells: np.ndarray, where: str) -> np.ndarray:
    """Raw marks (N,) float64 of one label from the text of its cells; NaN for empty ones.

    Raises DataError for anything but numbers, true and false.
    """
    try:
        return np.array([_IN_WORDS.get(cell.lower(), cell) for cell in cells.tolist()], str).astype(
            np.float64
        )
    except ValueError as error:
        hint = "write 1 where a sample has the label, 0 where not, and -1 or nothing where nobody knows"
        bad = str(error).partition(": ")[2].replace("np.str_", "").strip("()")
        raise DataError(f"the marks of a label are no numbers: {bad}", where=where, hint=hint) from error


def raw_marks(columns: Sequence[Sequence[Any]], where: str) -> np.ndarray:
    """Raw marks (N, C) float64 of a table's columns: one with a list in each row, or one for each label.

    None is a mark that is not known. Raises DataError for anything but numbers, and for lists of different
    lengths.
    """
    rows = list(columns[0]) if len(columns) == 1 else list(zip(*columns, strict=True))
    wide = len(rows[0] or ()) if rows else 0
    row = next((number for number, one in enumerate(rows) if one is None or len(one) != wide), None)
    hint = "give every sample a mark for each label: 1, 0, and -1 or nothing where it is not known"
    if row is not None:
        many = "no list" if rows[row] is None else f"{len(rows[row])} marks"
        raise DataError(f"{many} here, and {wide} in row 0", where=f"row {row} of {where}", hint=hint)
    try:
        return np.array(rows, np.float64).reshape(len(rows), wide)
    except (TypeError, ValueError) as error:
        raise DataError(f"the marks are no numbers: {error}", where=where, hint=hint) from error
