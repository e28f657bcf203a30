"""Is what was read a single sample, without an axis that counts samples? Then it gets one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np

from onnxtweak.data.preprocess.shapes import Shape, adapt
from onnxtweak.data.samples import Column, InputSpec, Part, with_rows


@runtime_checkable
class StoredArray(Protocol):
    """A column that is an array as somebody stored it, who may have left out the axis of samples."""

    def as_sample(self) -> Column:
        """The whole array as a sample, the only one."""
        ...


def of_one_sample(part: Part, inputs: Sequence[InputSpec]) -> Part:
    """The part, whose arrays get an axis of size 1 where they are a single sample; else as it is."""
    columns = {spec.name: part.columns[spec.name] for spec in with_rows(inputs)}
    if not all(isinstance(column, StoredArray) for column in columns.values()):
        return part
    labels = part.labels.shape if part.labelled else None
    if not is_one_sample({name: column.shape for name, column in columns.items()}, labels, inputs):
        return part
    made = {name: one.as_sample() for name, one in columns.items() if isinstance(one, StoredArray)}
    return replace(
        part,
        columns={**part.columns, **made},
        labels=part.labels[None] if part.labelled else np.zeros(1, np.int64),
        held=tuple((role, array[None] if array.ndim else array) for role, array in part.held),
        groups={name: replace(one, values=one.values[None]) for name, one in part.groups.items()},
    )


def is_one_sample(shapes: Mapping[str, Shape], labels: Shape | None, inputs: Sequence[InputSpec]) -> bool:
    """Whether arrays are one sample rather than several: they fit the model so, and not otherwise.

    shapes : by input. labels : the shape of theirs; None without.
    """
    return all(_alone(spec, shapes[spec.name], labels) for spec in with_rows(inputs))


def _alone(spec: InputSpec, shape: Shape, labels: Shape | None) -> bool:
    wanted = spec.sample
    if wanted is None or spec.dtype == "object" or len(shape) != len(wanted) or adapt(shape, wanted) is None:
        return False
    if labels is not None and labels[:1] != shape[:1]:
        return True
    if labels is not None and len(labels) == 1 and len(wanted) == 3:  # as many gray pictures as channels
        return False
    if adapt(shape[1:], wanted) is None:
        return True
    # A number or a row for each label may be a sequence, where labels are at positions.
    return spec.positions and labels is not None and len(wanted) < 3 and None in wanted
