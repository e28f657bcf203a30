"""How are samples of different sizes held? Those of one size that follow each other are a part.

Their labels at positions lie behind one another, each sample's filled up to as many as the largest has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import Protocol, runtime_checkable

import numpy as np

from onnxtweak.data.samples import Column, Part, TakeRows
from onnxtweak.data.several.marks import UNKNOWN
from onnxtweak.errors import DataError


@runtime_checkable
class UnequalColumn(Protocol):
    """A column whose samples have `shapes` (N,) of their own, () if all are alike; its own is the first's."""

    @property
    def shapes(self) -> Sequence[tuple[int, ...]]: ...

    def of_shape(self, shape: tuple[int, ...]) -> Column:
        """The column, of which only samples of one shape are asked for."""
        ...


@dataclass(frozen=True, eq=False)
class RowsColumn:
    """A column of arrays in memory, each of its own shape; the rest as of `Column`."""

    where: str
    rows: tuple[np.ndarray, ...]
    shape: tuple[int, ...]
    borrowed: bool = False
    axes: str | None = None
    sized = False
    thread_safe = True

    @classmethod
    def of(cls, where: str, rows: Sequence[np.ndarray], *, borrowed: bool = False) -> RowsColumn:
        return cls(where, tuple(rows), (len(rows), *rows[0].shape), borrowed)

    @property
    def dtype(self) -> np.dtype:
        return self.rows[0].dtype

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        return tuple(row.shape for row in self.rows)

    @property
    def held(self) -> int:
        return 0 if self.borrowed else sum(row.nbytes for row in self.rows)

    def of_shape(self, shape: tuple[int, ...]) -> RowsColumn:
        """As of `UnequalColumn`."""
        return replace(self, shape=(len(self.rows), *shape))

    @contextmanager
    def open(self) -> Iterator[TakeRows]:
        yield lambda rows: np.stack([self.rows[row] for row in rows.tolist()])

    def locate(self, row: int) -> str:
        return f"row {row} of {self.where}"


@dataclass(frozen=True, eq=False)
class SizesByPart:
    """The sizes of samples, part by part.

    ends : where each part ends, counted in samples. shapes : of a sample, input by input, as the model takes
    it. own : as of `Dataset`. positions : of the largest sample.
    """

    ends: tuple[int, ...]
    shapes: tuple[tuple[tuple[int, ...], ...], ...]
    own: tuple[int, ...]
    positions: int

    @property
    def unequal(self) -> bool:
        """Whether samples are of several sizes."""
        return len(set(self.shapes)) > 1

    def of(self, samples: np.ndarray) -> np.ndarray:
        """The part of each of some samples, (n,) int64."""
        return np.searchsorted(np.array(self.ends), samples, side="right")

    def positions_of(self, samples: np.ndarray) -> np.ndarray:
        """How many positions each of some samples has, (n,) int64; the first of those that are held of it."""
        if not self.own:
            return np.full(len(samples), self.positions)
        return np.array(self.own, np.int64)[self.of(samples)]

    def largest_of(self, samples: np.ndarray) -> np.ndarray:
        """Those of some samples, ascending, that are of the size of the largest."""
        return self._of_one_size(samples, max)

    def smallest_of(self, samples: np.ndarray) -> np.ndarray:
        """Those of some samples, ascending, that are of the size of the smallest."""
        return self._of_one_size(samples, min)

    def _of_one_size(self, samples: np.ndarray, chosen: Callable[..., int]) -> np.ndarray:
        if not self.unequal or not len(samples):
            return samples
        parts = self.of(samples)
        sizes = {part: sum(map(math.prod, self.shapes[part])) for part in np.unique(parts).tolist()}
        shape = self.shapes[chosen(sizes, key=lambda part: sizes[part])]
        return samples[[self.shapes[part] == shape for part in parts.tolist()]]


def by_size(part: Part) -> list[Part]:
    """The samples of a part as parts of one size each, in their order; the part itself, if all have one."""
    columns = {
        name: one for name, one in part.columns.items() if isinstance(one, UnequalColumn) and one.shapes
    }
    if not columns and part.labels.dtype == object:
        raise DataError(
            "labels are of different sizes, and samples are not",
            where=part.label_where,
            hint="give each sample labels at its own positions",
        )
    if not columns or not len(part):
        return [part]
    rows = range(part.start, part.start + len(part))
    each = [tuple(column.shapes[row] for column in columns.values()) for row in rows]
    if part.labels.dtype == object:
        each = [(*own, labels.shape) for own, labels in zip(each, part.labels, strict=True)]
    runs = [len(list(same)) for _, same in groupby(each)]
    found = []
    for first, end in pairwise(np.cumsum([0, *runs]).tolist()):
        own = part.rows(first, end)
        sized = dict(zip(columns, each[first], strict=False))
        made = {name: columns[name].of_shape(shape) for name, shape in sized.items()}
        held = tuple((role, array[first:end] if array.ndim else array) for role, array in part.held)
        labels = np.stack(list(own.labels)) if own.labels.dtype == object else own.labels
        found.append(replace(own, columns={**part.columns, **made}, labels=labels, held=held))
    return found


def as_objects(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays of different shapes as the elements (N,) of one of objects."""
    found = np.empty(len(rows), object)
    found[:] = list(rows)
    return found


def behind_one_another(
    arrays: Sequence[np.ndarray | int], kind: type, rest: tuple[int, ...] = ()
) -> np.ndarray:
    """Labels (N * P, ...) of all samples, P of each, of which those beyond its own are unknown.

    arrays : of each part (n, p, ...), or how many samples it has that have no labels. rest : of the axes
    behind the positions.
    """
    most = max(one.shape[1] for one in arrays if not isinstance(one, int))
    count = sum(one if isinstance(one, int) else len(one) for one in arrays)
    found = np.full((count, most, *rest), UNKNOWN, kind)
    at = 0
    for one in arrays:
        if isinstance(one, int):
            at += one
            continue
        found[at : at + len(one), : one.shape[1]] = one
        at += len(one)
    return found.reshape(count * most, *rest)


def unlike_sizes(parts: Sequence[Part]) -> DataError:
    """The error for labels of different shapes where samples have one size."""
    first, *others = (part for part in parts if part.labelled)
    part = next((one for one in others if one.labels.shape[1:] != first.labels.shape[1:]), first)
    shape, before = ("x".join(map(str, one.labels.shape[1:])) for one in (part, first))
    return DataError(
        f"labels are {shape} per sample here, and {before} in {first.label_where}; samples are of one size",
        where=part.label_where,
        hint="give each sample labels at its own positions",
    )


def sizes_together(
    sizes: Sequence[tuple[int, ...]], parts: Sequence[Part]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The sizes of the positions of all samples, axes of 1 left out, and how many those of each part have.

    sizes : of each part that has labels. Where they differ, the first are the most positions that a sample
    has, in one axis; where not, the second is empty.
    """
    wide = [tuple(size for size in one if size > 1) for one in sizes]
    if all(one == wide[0] for one in wide):
        return wide[0], ()
    counts = iter([math.prod(one) for one in wide])
    own = tuple(next(counts) if part.labelled else 0 for part in parts)
    return (max(own),), own
