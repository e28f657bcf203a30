"""How are arrays by name read? As from an .npz file: inputs by their names, or `x`, labels under `y`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onnxtweak.data.array_names import BOXES, CLASSES, match_group, match_inputs, match_labels, stored_labels
from onnxtweak.data.preprocess.one_sample import is_one_sample, of_one_sample
from onnxtweak.data.samples import (
    ArrayColumn,
    Column,
    GroupColumn,
    InputSpec,
    NumberColumn,
    Part,
    Reading,
    no_labels,
    with_rows,
)
from onnxtweak.data.several.own_sizes import RowsColumn, as_objects
from onnxtweak.data.sources.boxes.rows import is_objects, rows_of
from onnxtweak.data.sources.memory.values import as_array, unequal_rows
from onnxtweak.errors import DataError
from onnxtweak.in_memory import InMemory, is_array


def read_arrays(source: InMemory, inputs: Sequence[InputSpec], reading: Reading) -> list[Part]:
    """An array with labels, or a mapping of arrays, as one part.

    A mapping may hold the labels, class names under `classes`, single numbers, and columns of groups. Raises
    DataError for missing arrays, and for what is no array.
    """
    own = source.samples
    found: dict[str, Any] = dict(own) if isinstance(own, Mapping) else {"x": own}
    _require_names(found, source)
    bound = match_inputs(found, inputs, None, str(source), reading.groups)
    labels, label_where = source.labels, f"labels of {source}"
    labelled = labels is not None or not reading.unlabelled or bool(stored_labels(found, bound, None))
    if labels is None and reading.boxes and BOXES in found:
        labels, labelled, label_where = found[BOXES], True, f"{BOXES} in {source}"
    if labels is None and labelled:
        name = match_labels(found, bound, None, str(source), reading.groups)
        labels, label_where = found[name], f"{name} in {source}"
    unlike = [spec.name for spec in inputs if spec.any_size and spec.name in bound]
    rows = {name: unequal_rows(found[bound[name]]) for name in unlike}
    arrays = {
        name: as_array(found[stored], f"{stored} in {source}")
        if (own := rows.get(name)) is None
        else as_objects(own)
        for name, stored in bound.items()
    }
    shapes = {name: array.shape for name, array in arrays.items()}
    if reading.boxes and is_objects(labels) and is_one_sample(shapes, np.shape(labels), inputs):
        arrays, labels = {name: array[None] for name, array in arrays.items()}, [labels]
    groups = {name: match_group(found, name, None, str(source)) for name in reading.groups}
    classes = next((name for name in CLASSES if name in found and name not in bound.values()), None)
    columns = {name: _column(arrays[name], f"{stored} in {source}") for name, stored in bound.items()}
    made, notes = no_labels(columns), tuple[str, ...]()
    if labelled:
        made, notes = _labels(labels, label_where, columns, inputs, reading)
    return [
        of_one_sample(
            Part(
                where=str(source),
                origin=f"memory {id(source)}",
                columns=columns,
                labels=made,
                label_where=label_where,
                files=(),
                held=tuple(arrays.items()),
                classes=None if classes is None else _names(found[classes], f"{classes} in {source}"),
                groups={
                    name: GroupColumn(
                        f"{stored} in {source}", as_array(found[stored], f"{stored} in {source}")
                    )
                    for name, stored in groups.items()
                },
                labelled=labelled,
                notes=notes,
            ),
            inputs,
        )
    ]


def _labels(
    labels: Any, where: str, columns: Mapping[str, Column], inputs: Sequence[InputSpec], reading: Reading
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels as an array, or the boxes of each sample; of samples of different sizes, an array for each.

    With notes on them.
    """
    if not reading.boxes:
        unequal = any(isinstance(column, RowsColumn) for column in columns.values())
        rows = unequal_rows(labels) if unequal else None
        return as_array(labels, where) if rows is None else as_objects(rows), ()
    spec = with_rows(inputs)[0]
    of_each = isinstance(labels, np.ndarray) and labels.dtype.hasobject and labels.ndim == 1
    raw = as_array(labels, where) if is_array(labels) and not of_each else labels
    return rows_of(raw, columns[spec.name], spec, reading.preprocess, where)


def _require_names(found: Mapping[Any, Any], source: InMemory) -> None:
    other = next((key for key in found if not isinstance(key, str)), None)
    if other is not None:
        raise DataError(
            f"{other!r} names no array", where=source, hint="name each array by the model's input it feeds"
        )


def _column(array: np.ndarray, where: str) -> Column:
    if array.dtype == object:
        return RowsColumn.of(where, list(array), borrowed=True)
    return ArrayColumn(where, array, borrowed=True) if array.ndim else NumberColumn(where, array)


def _names(value: Any, where: str) -> tuple[str, ...] | None:
    """Class names; None for what holds no text, which means something else."""
    array = as_array(value, where)
    return tuple(array.astype(str).tolist()) if array.ndim == 1 and array.dtype.kind in "US" else None
