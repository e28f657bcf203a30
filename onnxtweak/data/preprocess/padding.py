"""Which positions only fill up a sample, and do not count? A length for each sample says so, or a mask."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onnxtweak.data.samples import GroupColumn, MarkedAt, Part, Reading
from onnxtweak.errors import DataError

_IGNORED = 255  # of labels that are bytes, unless the user names another number


def without_padding(part: Part, reading: Reading) -> Part:
    """The part with labels of -1 where positions do not count, and without the column that says so.

    `reading.counted` names that: whole numbers (N,), how many positions count from the first on, or (N,
    positions), true where one does. Raises DataError for one that does not fit the labels.
    """
    if reading.counted is None or reading.counted not in part.groups:
        return part
    groups = dict(part.groups)
    column = groups.pop(reading.counted)
    if not part.labelled:
        return replace(part, groups=groups)
    if part.labels.ndim < 2:
        raise not_at_positions("--counted", part)
    at, labels = reading.several if isinstance(reading.several, MarkedAt) else None, part.labels
    if labels.dtype.kind in "bu":
        labels = labels.astype(np.int16 if labels.dtype.itemsize == 1 else np.int64)
        white = at is not None and at.single and not (labels == 1).any()  # where a label is there
        if part.labels.dtype == np.uint8 and reading.ignored is None and not white:
            labels[labels == _IGNORED] = -1
    else:
        labels = labels.copy()
    axis = None if at is None else at.axis_of(labels)
    positions = labels if axis is None else np.moveaxis(labels, axis, -1)
    positions[~_counted(column, positions.shape, part)] = -1
    return replace(part, labels=labels, groups=groups)


def not_at_positions(option: str, part: Part) -> DataError:
    """The error of an option about positions, where samples have labels as wholes."""
    return DataError(
        f"{option} is about positions of a sample, and these labels are of whole samples",
        where=part.label_where,
        hint="leave it out, and samples without a label out of the data",
    )


def _counted(column: GroupColumn, shape: tuple[int, ...], part: Part) -> np.ndarray:
    """Which positions count, (N, positions) bool. shape : of the labels, positions after samples."""
    values = column.values
    if values.ndim == 2 and values.shape[1] == 1 and shape[1] != 1:
        values = values[:, 0]
    if values.ndim > 1:
        if values.shape != shape[: values.ndim] or values.dtype.kind not in "biuf":
            raise DataError(
                f"a mask of shape {values.shape} does not fit labels of shape {shape}",
                where=f"{column.where}; {part.label_where}",
                hint="give a mask with a number for each position, 0 where it does not count",
            )
        return np.asarray(values != 0)
    try:
        lengths = values.astype(np.float64)
    except ValueError:
        lengths = np.full(len(values), np.nan)
    most = shape[1] if len(shape) > 1 else 0
    bad = ~((lengths >= 0) & (lengths <= most) & (lengths == np.round(lengths)))
    if not most or bad.any():
        row = int(bad.argmax())
        raise DataError(
            f"{values[row]} is no number of positions, of which labels have {most:,}",
            where=f"row {row + part.start} of {column.where}",
            hint="give the length of each sample, or a mask with a number for each position",
        )
    return np.asarray(np.arange(shape[1]) < lengths[:, None])
