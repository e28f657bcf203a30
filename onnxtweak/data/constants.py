"""Which inputs have one value for all samples? Single numbers, and stored values that are all the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxtweak.data.samples import Column, InputSpec, Part, Value
from onnxtweak.errors import DataError


def read_constants(parts: Sequence[Part], inputs: Sequence[InputSpec]) -> dict[str, Value]:
    """The value of each input that is stored as a single number, or that takes one.

    Raises DataError, naming two rows, where an input that takes a single number has two values.
    """
    found: dict[str, Value] = {}
    for spec in inputs:
        if not spec.number and any(part.columns[spec.name].shape for part in parts):
            continue
        values = [_value(part.columns[spec.name], part, spec) for part in parts]
        for part, value in zip(parts, values, strict=True):
            if value != values[0]:
                raise DataError(
                    f"the model takes one `{spec.name}` for all samples, but it is {values[0]} in "
                    f"{parts[0].where} and {value} here",
                    where=part.where,
                    hint="use the sources separately",
                )
        found[spec.name] = values[0]
    return found


def _value(column: Column, part: Part, spec: InputSpec) -> Value:
    rows = _rows(column, part)
    different = np.flatnonzero(rows != rows[0])
    if len(different):
        first, other = part.start, part.start + int(different[0])
        raise DataError(
            f"the model takes one `{spec.name}` for all samples, but it is {rows[0]} in row {first} and "
            f"{rows[different[0]]} in row {other}",
            where=column.where,
            hint="use samples of one value at a time",
        )
    value: Value = rows[0].item()
    return value


def _rows(column: Column, part: Part) -> np.ndarray:
    """The stored value of every sample, (n,); (1,) where it is stored once."""
    count = len(part) if column.shape else 1
    with column.open() as take:
        rows = take(np.arange(part.start, part.start + count))
    if rows[0].size != 1:
        raise DataError(
            f"the model takes a single number, but each sample has an array of shape {rows.shape[1:]}",
            where=column.where,
            hint="store one number",
        )
    return rows.reshape(-1)
