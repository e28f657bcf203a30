"""What is a dataset to the later stages? Labels in memory, inputs as a stream of batches."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from hashlib import file_digest, sha256
from itertools import chain
from pathlib import Path

import numpy as np

from onnxtweak.boxes.matching import as_marks
from onnxtweak.boxes.truth import Truth
from onnxtweak.ctc.transcripts import Transcripts
from onnxtweak.data.groups import Groups
from onnxtweak.data.preprocess.parallel_rows import rows_in_parallel
from onnxtweak.data.preprocess.plan import PreprocessPlan, apply_plan, mirrored
from onnxtweak.data.samples import ArrayColumn, Part, TakeRows, Value, labelled_rows
from onnxtweak.data.several.own_sizes import SizesByPart
from onnxtweak.errors import DataError
from onnxtweak.head import classes_there
from onnxtweak.quantities import number_of

_BLOCK = 4 * 1024**2
_PLANS = 3  # ways to prepare a sample that are told, of those of many sizes
_TOGETHER = 1 << 22  # labels that are counted at a time

Batch = tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Dataset:
    """N labelled samples, streamed.

    labels (N,) int64; or (N, C) int8 marks, where a sample may have several at once; or either of N * P
    positions, sample after sample, where these have `sizes` each, and -1 for one that does not count.
    inputs : names of the model inputs that it feeds. classes : class names, if known.
    parts : where the samples are stored, one part after the other. plans : for each part, the preprocessing
    of each input by name. notes : what was decided automatically. constants : values of inputs that are the
    same for all samples, as the sources hold them. written,
    by_sorting : as in `Labels`. groups : those that were asked for, by the name of their column.
    sources : how many samples each source gave, in the order asked for. labelled : whether all have labels;
    those that do not have the label 0, or -1 at every position. lines : what stands in each sample, where
    they are lines of text; until these are aligned with positions, labels only serve to deal them out.
    objects : likewise, the boxes of each sample, until these are matched with anchors. coded : for how many
    classes labels (N * P,) stand for marks, as `boxes.matching` numbers them; 0: they are what they are.
    own : how many positions the samples of each part have, where not all have P; (): all have. pending :
    labels at positions of samples of different sizes, until it is known how many the model has.
    """

    labels: np.ndarray
    inputs: tuple[str, ...]
    classes: tuple[str, ...] | None
    parts: tuple[Part, ...]
    plans: tuple[dict[str, PreprocessPlan], ...]
    notes: tuple[str, ...] = ()
    constants: Mapping[str, Value] = field(default_factory=dict)
    written: tuple[int, ...] | None = None
    by_sorting: bool = False
    groups: Mapping[str, Groups] = field(default_factory=dict)
    sources: tuple[int, ...] = ()
    sizes: tuple[int, ...] = ()
    labelled: bool = True
    lines: Transcripts | None = None
    objects: Truth | None = None
    coded: int = 0
    own: tuple[int, ...] = ()
    pending: np.ndarray | None = None
    _starts: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        starts = np.cumsum([0, *map(len, self.parts)])
        object.__setattr__(self, "_starts", tuple(int(start) for start in starts))

    def __len__(self) -> int:
        return len(self.labels) // self.positions

    @property
    def several(self) -> bool:
        """Whether a sample, or a position, may have several labels at once."""
        return (self.labels if self.pending is None else self.pending).ndim == 2 or self.coded > 0

    def labels_of(self, rows: np.ndarray) -> np.ndarray:
        """Of some rows (n,): (n,) int64; or (n, C) int8, marks of several labels at once."""
        labels = self.labels[rows]
        if self.coded:
            return as_marks(labels, self.coded)
        return labels if self.several else labels.astype(np.int64, copy=False)

    def classes_of(self, rows: np.ndarray) -> np.ndarray:
        """The classes that occur among some rows, ascending int64; that there is no object is none."""
        found, names = classes_there(self.labels_of(rows)), self.classes if self.objects is not None else None
        return found if names is None else found[(found >= 0) & (found < len(names))]

    @cached_property
    def by_part(self) -> SizesByPart:
        """The sizes of its samples, and how many positions they have."""
        shapes = [tuple(plans[name].shape for name in self.inputs) for plans in self.plans]
        return SizesByPart(self._starts[1:], tuple(shapes), self.own, self.positions)

    @property
    def positions(self) -> int:
        """P, how many labels a sample has."""
        return math.prod(self.sizes)

    @cached_property
    def digest(self) -> str:
        """sha256 in hex over contents of files and arrays, selected rows and class numbers; not over paths.

        Computed on first use; reads every file once, in O(1) memory.
        """
        digest = sha256()
        known: dict[Path, str] = {}
        for part in self.parts:
            digest.update(f"part {part.start} {len(part)} {len(part.files)}\n".encode())
            for role, path in part.files:
                if path not in known:
                    with path.open("rb") as file:
                        known[path] = file_digest(file, "sha256").hexdigest()
                digest.update(f"{role}\n{known[path]}\n".encode())
            for role, array in part.held:
                rows = (
                    [*array] if array.dtype == object else [array]
                )  # all of one size, one by one or together
                shape = (*array.shape, *rows[0].shape) if array.dtype == object else array.shape
                digest.update(f"{role} {shape} {rows[0].dtype.str}\n".encode())
                for block in chain.from_iterable(map(_row_blocks, rows)):
                    digest.update(block)
        kind = "i1" if self.sizes and self.labels.ndim == 2 else "<i4" if self.sizes else "<i8"
        for start in range(0, len(self.labels), _TOGETHER):
            some = self.labels[start : start + _TOGETHER]
            digest.update(np.ascontiguousarray(some, kind).reshape(-1).data)
        if self.lines is not None:
            digest.update("\0".join(self.lines.texts).encode("utf-8", "surrogatepass"))
        if self.objects is not None:
            digest.update(self.objects.rows.tobytes())
        if any(plan.flipped is not None for plans in self.plans for plan in plans.values()):
            digest.update(b"mirrored")
        return digest.hexdigest()

    @property
    def known(self) -> np.ndarray:
        """Which samples have labels, (N,) bool."""
        return labelled_rows(self.parts)

    @property
    def bytes_in_memory(self) -> int:
        """Bytes of the samples that are held in memory rather than read from a file on demand."""
        columns = [column for part in self.parts for column in part.columns.values()]
        held = {id(c.array if isinstance(c, ArrayColumn) else c): c.held for c in columns}
        return sum(held.values())

    def describe(self) -> str:
        """Where the samples come from and how they are preprocessed, one line per source, plan and note."""
        places = list(dict.fromkeys(part.where for part in self.parts))
        shown = _first(places, 3)
        named: dict[str, dict[str, None]] = {}  # inputs that are prepared in the same way, in one line
        for plan in (plan for plans in self.plans for plan in plans.values()):
            named.setdefault(plan.describe(), {})[f"`{plan.spec.name}`"] = None
        plans = [f"{_first(list(names), 3)}: {how}" for how, names in [*named.items()][:_PLANS]]
        plans += [f"and {len(named) - _PLANS:,} other sizes"] if len(named) > _PLANS else []
        if self.labels.ndim == 2:
            classes = len(classes_there(self.labels))
        elif self.sizes:
            classes = int(np.count_nonzero(counted(self.labels)))
        else:
            classes = len(np.unique(self.labels[self.known & (self.labels >= 0)]))
        of = f" of {classes} {'class' if classes == 1 else 'classes'}" if classes else " without labels"
        if self.lines is not None:
            of = " of text"
        if self.objects is not None:
            many, of = "", f" with {number_of(len(self.objects.box), 'box')}"
        many = f" with labels at {number_of(self.positions, 'position')} each," if self.sizes else ""
        if self.own or self.pending is not None:
            many = " of different sizes, with labels at their positions,"
        if self.several and not self.sizes:
            many = f" with {(self.labels == 1).sum() / max(len(self), 1):.3g} labels each,"
        lines = [
            f"{number_of(len(self), 'sample')}{many}{of} from {shown}",
            *plans,
        ]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    @property
    def mirrored(self) -> Dataset | None:
        """The same samples, left and right of every image exchanged; None where no input is an image."""
        if self.sizes:  # whose labels would have to be exchanged as well
            return None
        flipped = [{name: mirrored(plan) for name, plan in plans.items()} for plans in self.plans]
        if not all(any(plans.values()) for plans in flipped):
            return None
        pairs = zip(self.plans, flipped, strict=True)
        plans = tuple({name: new[name] or plan for name, plan in old.items()} for old, new in pairs)
        return replace(self, plans=plans)

    def shared_with(self, other: Dataset) -> int:
        """How many of its samples are the other's too."""
        shared = (np.any([part.shared_with(one) for one in other.parts], axis=0) for part in self.parts)
        return sum(int(each.sum()) for each in shared)

    def locate(self, row: int, name: str | None = None) -> str:
        """How a message names one row: of its labels, or of input `name`."""
        number = bisect_right(self._starts, row) - 1
        part = self.parts[number]
        stored = row - self._starts[number] + part.start
        return f"row {stored} of {part.label_where}" if name is None else part.columns[name].locate(stored)

    def place(self, row: int) -> str:
        """Where somebody finds a sample: its own file, or its row in one. Of the first input with rows."""
        return self.locate(
            row, next((name for name, one in self.parts[0].columns.items() if one.shape), None)
        )

    def batches(
        self, rows: np.ndarray | None, size: int, every: int | None = None, threads: int = 1
    ) -> Iterator[Batch]:
        """One pass over the samples: batches of `(inputs by name, labels (n,), rows (n,))` with n <= `size`.

        rows : which samples, strictly ascending int64; None for all. every : a batch never crosses a multiple
        of this many samples of the pass; all of a batch are of one size. threads : how many read and
        preprocess the rows of a batch. Inputs are C-contiguous, in the model's shape and dtype; they may be
        read-only. Raises DataError for NaN or infinity, naming the sample; ValueError for rows that are out
        of order or out of range.
        """
        rows = np.arange(len(self)) if rows is None else np.asarray(rows, np.int64)
        if size < 1 or (len(rows) and (rows[0] < 0 or rows[-1] >= len(self) or (np.diff(rows) <= 0).any())):
            raise ValueError("rows must be ascending and within the dataset; size must be at least 1")
        with ExitStack() as stack, ThreadPoolExecutor(threads, thread_name_prefix="rows") as pool:
            opened = -1
            takes: dict[str, TakeRows] = {}
            share = partial(rows_in_parallel, pool=pool if threads > 1 else None, threads=threads)
            for first, last in _spans(len(rows), size, every or max(len(rows), 1)):
                chunk, begin = rows[first:last], first
                pieces: list[dict[str, np.ndarray]] = []
                shape: object = None
                while len(chunk):
                    part = bisect_right(self._starts, int(chunk[0])) - 1
                    if pieces and self.by_part.shapes[part] != shape:
                        yield self._batch(pieces, rows[begin : last - len(chunk)])
                        pieces, begin = [], last - len(chunk)
                    if part != opened:
                        stack.close()  # a finished part keeps no file open
                        columns = self.parts[part].columns
                        takes = {name: stack.enter_context(columns[name].open()) for name in self.inputs}
                        opened = part
                    shape = self.by_part.shapes[part]
                    end = int(np.searchsorted(chunk, self._starts[part + 1]))
                    pieces.append(self._piece(part, takes, chunk[:end], share))
                    chunk = chunk[end:]
                yield self._batch(pieces, rows[begin:last])

    def _batch(self, pieces: list[dict[str, np.ndarray]], rows: np.ndarray) -> Batch:
        labels = self.labels.reshape(len(self), -1) if self.sizes else self.labels
        return _concatenated(pieces), labels[rows], rows

    def _piece(
        self, part: int, takes: dict[str, TakeRows], rows: np.ndarray, share: Callable[..., np.ndarray]
    ) -> dict[str, np.ndarray]:
        """The rows, all of one part, as each input (len(rows), ...)."""
        stored = rows - self._starts[part] + self.parts[part].start
        arrays = {}
        for name in self.inputs:

            def make(first: int, last: int, name: str = name) -> np.ndarray:
                return apply_plan(
                    self.plans[part][name],
                    takes[name](stored[first:last]),
                    lambda i: self.locate(int(rows[first + i]), name),
                )

            column = self.parts[part].columns[name]
            row_bytes = math.prod(column.shape[1:]) * column.dtype.itemsize
            arrays[name] = share(make, len(rows), row_bytes) if column.thread_safe else make(0, len(rows))
        return arrays


def counted(labels: np.ndarray) -> np.ndarray:
    """How many labels at positions (N,) there are of each class, (classes,) int64; below 0 is of none.

    In parts: there may be half a billion of them.
    """
    found = np.zeros(int(labels.max(initial=-1)) + 1, np.int64)
    for start in range(0, len(labels), _TOGETHER):
        part = labels[start : start + _TOGETHER]
        found += np.bincount(part[part >= 0], minlength=len(found))
    return found


def check_labels(dataset: Dataset, classes: int) -> None:
    """Raises DataError for a label outside 0 ... classes - 1, and for too few or too many class names."""
    labels = dataset.labels
    if dataset.several and labels.shape[1] != classes:
        raise DataError(
            f"there are marks for {labels.shape[1]:,} labels a sample, and the model has {classes:,}",
            where=dataset.parts[0].label_where,
            hint=f"give labels of shape (N, {classes}): 1, 0, and -1 where it is not known",
        )
    if dataset.classes is not None and len(dataset.classes) != classes:
        raise DataError(
            f"{len(dataset.classes)} class names, but the model has {classes} classes",
            where=dataset.parts[0].where,
            hint="give a names file with one name per class of the model",
        )
    if dataset.several:
        return
    if labels.max(initial=-1) < classes and (dataset.sizes or labels.min(initial=0) >= 0):
        return
    bad = np.flatnonzero(((labels < 0) & (not dataset.sizes)) | (labels >= classes))
    if len(bad):
        found, label = np.unique(labels[labels >= 0] if dataset.sizes else labels), labels[bad[0]]
        shown = _first([str(each) for each in found], 8)
        hint = f"the model has {classes} classes: labels range from 0 to {classes - 1}"
        if dataset.sizes:
            hint += f"; --ignore-index {label} leaves out positions with that label"
        elif len(found) <= classes:
            hint += f"; if {shown} are their names, give all {classes} in the model's order: --names FILE"
        where = dataset.locate(int(bad[0]) // dataset.positions)
        raise DataError(f"label {label} is out of range; the labels are {shown}", where=where, hint=hint)


def _first(texts: list[str], most: int) -> str:
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


def _spans(count: int, size: int, every: int) -> Iterator[tuple[int, int]]:
    """Spans [first, last) of at most `size` samples, none of which crosses a multiple of `every`."""
    for start in range(0, count, every):
        stop = min(start + every, count)
        for first in range(start, stop, size):
            yield first, min(first + size, stop)


def _concatenated(pieces: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    if len(pieces) == 1:
        return pieces[0]
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def _row_blocks(array: np.ndarray) -> Iterator[memoryview]:
    """The bytes of an array in C order, some rows at a time, whatever its order in memory."""
    rows = np.atleast_1d(array)
    height = max(_BLOCK // max(rows[:1].nbytes, 1), 1)
    for first in range(0, len(rows), height):
        yield np.ascontiguousarray(rows[first : first + height]).reshape(-1).view(np.uint8).data
