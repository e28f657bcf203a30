"""What does a reader of samples return? Columns, one per model input, in parts with their labels.

A reader turns one source into `Part`s: a part is one array per model input, read forward through a `Column`,
and one raw label per sample. `open_data` turns parts into a `Dataset`. A new file format is one new file with
a function `(Source, inputs, reading) -> list[Part]` and a line in the table `READERS` of `open_data.py`. What
a program holds in memory is read by `sources/memory/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import numpy as np

from onnxtweak.settings import GiB, HeadWord, Preprocess
from onnxtweak.types import Progress, silent

TakeRows = Callable[[np.ndarray], np.ndarray]
Value = int | float | str  # of an input that is the same for all samples


@dataclass(frozen=True)
class MarkedAt:
    """Where a model has scores that may each mark a label of a position.

    shape : of the scores as far as known, samples first. axis : that counts the labels; 0: none does, and
    each position has a single one.
    """

    shape: tuple[int | None, ...]
    axis: int

    @property
    def single(self) -> bool:
        """Whether each position has a single score."""
        return not self.axis or self.shape[self.axis] == 1

    @property
    def wanted(self) -> str:
        """The shape of labels, in words."""
        sizes = [size for size in self.shape[1:] if size != 1]
        return f"(N, {', '.join('any' if size is None else str(size) for size in sizes)})"

    def axis_of(self, raw: np.ndarray) -> int | None:
        """The axis of raw labels (N, ...) that counts labels; None where they have a number per position.

        That of the scores; or, where its size is another, the only one of the right size: many outputs have
        the labels last, behind scores that have them first, or the other way round.
        """
        if not self.axis or raw.ndim != len(self.shape):
            return None
        size = self.shape[self.axis]
        if size in (None, raw.shape[self.axis]):
            return self.axis
        others = [axis for axis, own in enumerate(raw.shape) if axis and own == size]
        return others[0] if len(others) == 1 and 1 not in raw.shape[1:] else None


@dataclass(frozen=True)
class Reading:
    """How a source is read.

    preprocess : what a reader of pictures does to their sizes. memory : bytes that what it holds whole may
    take: labels, class names, text. progress : told of samples that come one batch after the other.
    groups : names of the columns that say which group a sample is of. unlabelled : whether samples without
    labels will do. several : whether a sample may have several labels at once, a row of marks, or where its
    positions may. head : what labels are, as `DataSettings.head`. ignored :
    the label at a position that does not count, beside negative ones; None: 255, of bytes. counted : the
    column, one of `groups`, that says which positions of a sample count; None: all do. lines :
    whether labels that are text say what stands in a sample, character by character, rather than which class
    it is of. boxes : whether labels are the boxes of objects.
    """

    preprocess: Preprocess = Preprocess()
    memory: int = 4 * GiB
    progress: Progress = silent
    groups: tuple[str, ...] = ()
    unlabelled: bool = False
    several: bool | MarkedAt = False
    head: HeadWord | None = None
    ignored: int | None = None
    counted: str | None = None
    lines: bool = False
    boxes: bool = False


@dataclass(frozen=True)
class InputSpec:
    """What the model expects of one input.

    name : tensor name. dtype : NumPy name ("float32"; "object" for strings).
    shape : batch axis first, None where any size will do; () for a single number, the same for all samples;
    None as a whole when the model does not declare it. features : names of the numbers of a sample, where the
    model tells them. positions : whether there may be scores at positions of a sample.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None
    features: tuple[str, ...] | None = None
    positions: bool = False

    @property
    def number(self) -> bool:
        """Whether it takes a single number, the same for all samples."""
        return self.shape == ()

    @property
    def any_size(self) -> bool:
        """Whether samples of different sizes may be fed to it."""
        return self.dtype != "object" and (self.shape is None or None in self.shape[1:])

    @property
    def sample(self) -> tuple[int | None, ...] | None:
        """Shape of one sample, without the batch axis."""
        return None if self.shape is None else self.shape[1:]


def with_rows(inputs: Sequence[InputSpec]) -> tuple[InputSpec, ...]:
    """The inputs that every sample has values for."""
    return tuple(spec for spec in inputs if not spec.number)


def by_option(names: Sequence[str]) -> str:
    """How a value is given that is the same for all samples."""
    return " ".join(f"--input {name}=VALUE" for name in names)


class Column(Protocol):
    """One array of N rows that may be larger than memory.

    shape, dtype : of the whole array, N first. where : how a message names it. axes : axis order of a sample,
    such as "HWC", where the source knows it, else None. sized : rows are resized and cropped as asked.
    thread_safe : several threads may take rows at once, in any order. held : bytes of memory that
    reading it takes, where that is more than a few batches.
    """

    @property
    def where(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype: ...
    @property
    def axes(self) -> str | None: ...
    @property
    def sized(self) -> bool: ...
    @property
    def thread_safe(self) -> bool: ...
    @property
    def held(self) -> int: ...

    def open(self) -> AbstractContextManager[TakeRows]:
        """Begin one pass; yields `take(rows) -> (len(rows), ...)`, rows ascending from call to call."""
        ...

    def locate(self, row: int) -> str:
        """How a message names one row."""
        ...


@dataclass(frozen=True, eq=False)
class ArrayColumn:
    """A column in memory. The rows that `take` returns may be a read-only view.

    borrowed : it is the caller's own memory, which no plan has to make room for.
    """

    where: str
    array: np.ndarray
    axes: str | None = None
    borrowed: bool = False
    sized = False
    thread_safe = True

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype

    @property
    def held(self) -> int:
        return 0 if self.borrowed else self.array.nbytes

    def as_sample(self) -> ArrayColumn:
        """As of `StoredArray`."""
        return replace(self, array=self.array[None])

    def open(self) -> AbstractContextManager[TakeRows]:
        return nullcontext(lambda rows: take_rows(self.array, rows))

    def locate(self, row: int) -> str:
        return f"row {row} of {self.where}"


@dataclass(frozen=True, eq=False)
class NumberColumn:
    """A number that is stored once, for all samples: `array` is of shape ()."""

    where: str
    array: np.ndarray
    axes: str | None = None
    thread_safe = True
    sized = False
    held = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return ()

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype

    def open(self) -> AbstractContextManager[TakeRows]:
        return nullcontext(lambda rows: np.full(len(rows), self.array))

    def locate(self, row: int) -> str:
        return self.where


def no_labels(columns: Mapping[str, Column]) -> np.ndarray:
    """Zeros (N,) int64 in place of labels. columns : of the samples, by input."""
    return np.zeros(next((one.shape[0] for one in columns.values() if one.shape), 0), np.int64)


def take_rows(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rows of an array: a view where they are contiguous, a copy otherwise. rows strictly ascending int64."""
    contiguous = len(rows) and rows[-1] - rows[0] + 1 == len(rows)
    taken: np.ndarray = array[rows[0] : rows[-1] + 1] if contiguous else array[rows]
    return taken


@dataclass(frozen=True, eq=False)
class GroupColumn:
    """One value per sample, which says what group it is of.

    values (N,) : raw, as stored. where : how a message names them. file : that holds nothing else, if so.
    """

    where: str
    values: np.ndarray
    file: Path | None = None


@dataclass(frozen=True, eq=False)
class Part:
    """Consecutive samples from one place.

    where : how a message names it. origin : equal for two parts whose rows are the same samples. columns : by
    model input; row 0 of the part is row `start` of each. labels (N, ...) : raw, as stored; integers,
    strings, one-hot, or the boxes of each sample (`sources.boxes`). label_where : how a message names them.
    files : (role, path) pairs that the digest covers; held : (role, array) pairs that it covers, of arrays
    that a program holds. classes : class names, if the source has them. notes : what reading does to the
    samples. groups : the columns of groups that were asked for, by name. labelled : whether the source says
    what the labels are; where it does not, they are zeros. listed : whether samples are listed one by one.
    offered : a file's name, and class names in it, for a model that has none.
    """

    where: str
    origin: str
    columns: Mapping[str, Column]
    labels: np.ndarray
    label_where: str
    files: tuple[tuple[str, Path], ...]
    classes: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    start: int = 0
    groups: Mapping[str, GroupColumn] = field(default_factory=dict)
    held: tuple[tuple[str, np.ndarray], ...] = ()
    labelled: bool = True
    listed: bool = False
    offered: tuple[str, tuple[str, ...]] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def read(self) -> tuple[Path, ...]:
        """All files that it is read from."""
        groups = (column.file for column in self.groups.values() if column.file is not None)
        return (*(path for _, path in self.files), *groups)

    @cached_property
    def fingerprints(self) -> list[bytes]:
        """A digest of the inputs of each sample in memory; nothing for samples in files."""
        arrays = [array for _, array in self.held if array.ndim]
        rows = zip(*arrays, strict=True) if arrays else ()
        return [sha256(b"".join(one.tobytes() for one in row)).digest() for row in rows]

    def shared_with(self, other: Part) -> np.ndarray:
        """Which of its samples (N,) bool are the other's too: of one place in a file, or equal in memory."""
        if self.held and other.held:
            theirs = set(other.fingerprints)
            return np.array([mark in theirs for mark in self.fingerprints], bool)
        rows = np.arange(len(self)) + self.start
        near: np.ndarray = (rows >= other.start) & (rows < other.start + len(other))
        return near & (self.origin == other.origin)

    def without_labels(self) -> Part:
        """The same samples, whatever their labels are."""
        return replace(self, labels=no_labels(self.columns)[: len(self)], labelled=False)

    def rows(self, first: int, end: int) -> Part:
        """Some of its samples, [first, end)."""
        groups = {
            name: replace(column, values=column.values[first:end]) for name, column in self.groups.items()
        }
        return replace(self, start=self.start + first, labels=self.labels[first:end], groups=groups)


def labelled_rows(parts: Sequence[Part]) -> np.ndarray:
    """Which samples of some parts, one after the other, have labels, (N,) bool."""
    return np.repeat(np.array([part.labelled for part in parts], bool), [*map(len, parts)])


def texts_of(parts: Sequence[Part]) -> tuple[str, ...] | None:
    """The text of each sample, where labels are that, "" for those without; None where they are not.

    Blanks at its ends do not count, since no picture shows them.
    """
    labelled = [part.labels for part in parts if part.labelled]
    if not labelled or any(labels.dtype.kind not in "US" or labels.ndim != 1 for labels in labelled):
        return None
    texts = (part.labels.astype(str).tolist() if part.labelled else [""] * len(part) for part in parts)
    return tuple(text.strip() for some in texts for text in some)
