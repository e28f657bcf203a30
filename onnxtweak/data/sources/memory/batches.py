"""How are batches read that come one after the other? They are written to a temporary folder as they come.

So every pass sees the same samples, in bounded memory, and the digest covers their contents. A batch is a
pair `(inputs, labels)`, of which inputs may be a mapping of arrays by input name, or a mapping that holds the
labels too. Columns of groups stand among the inputs. It may be a single sample, without an axis that counts
samples. Where the model takes samples of any size, a batch may differ in size from the one before, and list
arrays that do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from onnxtweak.data.array_names import BOXES, match_inputs, match_labels
from onnxtweak.data.groups import NoColumn, no_column
from onnxtweak.data.preprocess.one_sample import is_one_sample
from onnxtweak.data.samples import GroupColumn, InputSpec, Part, Reading, by_option, with_rows
from onnxtweak.data.sources.boxes.rows import objects_in, placed_rows
from onnxtweak.data.sources.held_whole import require_small
from onnxtweak.data.sources.memory.values import numpys, unequal_rows
from onnxtweak.data.sources.spool import Spool, SpoolFolder, require_within, room_in
from onnxtweak.errors import DataError
from onnxtweak.in_memory import InMemory
from onnxtweak.quantities import number_of
from onnxtweak.types import ticking

BATCH_HINT = "yield (inputs, labels): an array or a dict of arrays by input name, and one label per sample"
_BOUNDED = "of batches that do not end, take some: itertools.islice(batches, 100)"
_ONCE = "an iterator can be read once only: make a new one, or give a list, a DataLoader or arrays"


def read_batches(source: InMemory, inputs: Sequence[InputSpec], reading: Reading) -> list[Part]:
    """The batches of an iterable, as parts. They are asked for once, however often samples are opened.

    Raises DataError for what is no batch. What the iterable itself raises is the caller's.
    """
    key = (tuple(inputs), reading.groups)
    if key not in source.kept:
        batches = iter(source.samples)
        once = batches is source.samples
        reading.progress.start(f"read {source}", 0)
        with ticking(reading.progress):
            found = spooled(batches, str(source), inputs, reading, _BOUNDED)
        if not found:
            raise DataError("no samples", where=source, hint=_ONCE if once else BATCH_HINT)
        reading.progress.finish()
        source.kept[key] = found
    return list(source.kept[key])


def spooled(
    batches: Iterable[Any],
    where: str,
    inputs: Sequence[InputSpec],
    reading: Reading,
    bounded: str,
    most: int | None = None,
) -> list[Part]:
    """The samples of all batches, on disk; those of one size that follow each other are a part.

    bounded : what to do about batches that do not end. most : samples after which no more are asked for.
    """
    with ExitStack() as stack:
        made = _Spooled(where, inputs, reading, bounded, stack)
        for number, batch in enumerate(batches):
            here = f"batch {number}, from sample {made.rows} on, of {where}"
            halves = _halves(batch, inputs, here, reading.groups)
            for values, raw in _of_one_size(*halves, inputs, here):
                made.add(values, raw, here)
            if most is not None and made.rows >= most:
                break
        made.end_part()
    return made.parts


@dataclass
class _Spooled:
    """Batches that are written to disk as they come.

    bounded : as of `spooled`. stack : closes the files. rows, marks : how many samples there were, and single
    labels of theirs. labels, groups : of the samples that no part has yet, all of one size.
    """

    where: str
    inputs: Sequence[InputSpec]
    reading: Reading
    bounded: str
    stack: ExitStack
    folder: SpoolFolder = field(default_factory=SpoolFolder)
    spools: dict[str, Spool] = field(default_factory=dict)
    rows: int = 0
    marks: int = 0
    labels: list[np.ndarray] = field(default_factory=list)
    groups: dict[str, list[np.ndarray]] = field(default_factory=dict)
    parts: list[Part] = field(default_factory=list)

    @cached_property
    def room(self) -> int:
        """Bytes that the samples may take on the disk."""
        return room_in(self.folder.path)

    def add(self, values: Any, raw: Any, here: str) -> None:
        """The inputs and labels of a batch, as they come. Raises DataError, OutputError."""
        read = _with_objects if self.reading.boxes else _arrays
        arrays, labels = read(values, raw, self.inputs, here)
        memory = self.reading.memory
        _require_room(arrays, here, memory)
        if not len(labels):
            return
        if any(arrays[name].shape[1:] != spool.shape for name, spool in self.spools.items()):
            self._begin_part(arrays)
        self.labels.append(labels)
        self.marks += labels.size
        self._check_labels(here)
        self.rows += len(labels)
        for name in self.reading.groups:
            found = self.groups.setdefault(name, [])
            found.append(_group(values, name, len(labels), here))
            require_small((self.rows,), found[-1].dtype, here, "values", memory)
        for name, array in arrays.items():
            if name not in self.spools:
                path = self.folder.path / f"{len(self.spools)}.values"
                file = self.stack.enter_context(path.open("wb", buffering=0))
                self.spools[name] = Spool(self.folder, path, file, array.shape[1:], array.dtype)
            self.spools[name].append(array, name, here)
        require_within(self.room, self.spools.values(), self.bounded)
        self.reading.progress.advance(len(labels))

    def _begin_part(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Samples of another size follow; of inputs of one size they do not, which writing them says."""
        self.end_part()
        for spec in self.inputs:
            if spec.any_size:
                self.spools[spec.name].begin(arrays[spec.name].shape[1:])

    def end_part(self) -> None:
        """Make a part of the samples that no part has yet."""
        if not self.labels:
            return
        columns = {name: one.column(f"`{name}` of {self.where}") for name, one in self.spools.items()}
        labels, notes = np.concatenate(self.labels), tuple[str, ...]()
        if self.reading.boxes:
            spec = with_rows(self.inputs)[0]
            labels, notes = placed_rows(
                list(labels), columns[spec.name], spec, self.reading.preprocess, self.where
            )
        self.parts.append(
            Part(
                where=self.where,
                origin=f"{self.where} from {self.rows - sum(map(len, self.labels))}",
                columns=columns,
                labels=labels,
                notes=notes,
                label_where=self.where,
                files=tuple(
                    (f"{name} {one.shape} {one.dtype.str}", one.path) for name, one in self.spools.items()
                ),
                groups={
                    name: GroupColumn(f"`{name}` of {self.where}", np.concatenate(values))
                    for name, values in self.groups.items()
                },
            )
        )
        self.labels, self.groups = [], {}

    def _check_labels(self, here: str) -> None:
        """Raise DataError where the last labels are unlike those before, and for too many in all."""
        last = self.labels[-1]
        first = self.labels[0] if len(self.labels) > 1 or not self.parts else self.parts[-1].labels
        text = first.dtype.kind in "US", last.dtype.kind in "US"
        if first.ndim != last.ndim or text[0] != text[1] or self.labels[0].shape[1:] != last.shape[1:]:
            raise DataError(
                f"labels are {last.dtype} {last.shape} here, but {first.dtype} {first.shape} before",
                where=here,
                hint="yield labels of the same kind in every batch",
            )
        longest = max(first.dtype, last.dtype, key=lambda dtype: dtype.itemsize)
        shape = (self.rows + len(last), *last.shape[1:])
        try:
            require_small(
                shape if prod(shape) == self.marks else (self.marks,),
                longest,
                here,
                "labels",
                self.reading.memory,
            )
        except DataError as error:
            hint = f"{error.hint}; {self.bounded}"
            raise DataError(error.what, where=here, hint=hint) from None


def _of_one_size(values: Any, raw: Any, inputs: Sequence[InputSpec], where: str) -> Iterator[tuple[Any, Any]]:
    """The halves of a batch; where it lists arrays of different shapes, those of each sample."""
    named = values if isinstance(values, Mapping) else {inputs[0].name: values}
    unlike = [
        spec.name for spec in inputs if spec.any_size and unequal_rows(named.get(spec.name)) is not None
    ]
    if not unlike:
        yield values, raw
        return
    count = len(named[unlike[0]])
    if len(raw) != count:
        raise DataError(
            f"{number_of(count, 'sample')} but {number_of(len(raw), 'label')}", where=where, hint=BATCH_HINT
        )
    lists = {name: one for name, one in named.items() if not _is_single(one)}
    for row in range(count):
        yield {**named, **{name: one[row] for name, one in lists.items()}}, raw[row]


def _is_single(value: Any) -> bool:
    """Whether a value in a batch is of all its samples."""
    return isinstance(value, str) or not hasattr(value, "__len__") or getattr(value, "ndim", 1) == 0


def _halves(batch: Any, inputs: Sequence[InputSpec], where: str, groups: Sequence[str]) -> tuple[Any, Any]:
    """The inputs of a batch and its labels, as they come. Raises DataError."""
    if isinstance(batch, Mapping):
        bound = match_inputs(batch, inputs, None, where, groups)
        boxes = BOXES in batch and BOXES not in bound.values()
        labels = batch[BOXES if boxes else match_labels(batch, bound, None, where, groups)]
        return {**batch, **{name: batch[stored] for name, stored in bound.items()}}, labels
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise DataError("the batch is not a pair of inputs and labels", where=where, hint=BATCH_HINT)
    return batch[0], batch[1]


def _arrays(
    values: Any, raw: Any, inputs: Sequence[InputSpec], where: str
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The arrays (n, ...) of a batch by input name, and its labels (n, ...). Raises DataError."""
    labels = _array(raw, "the labels", where)
    if labels.dtype.kind not in "biufUS":
        raise DataError(f"labels are {labels.dtype}, neither numbers nor text", where=where, hint=BATCH_HINT)
    if not isinstance(values, Mapping):
        if len(inputs) != 1:
            raise DataError(
                f"one array, but the model has {len(inputs)} inputs",
                where=where,
                hint="yield a dict of arrays by input name, or give all samples one value: "
                + by_option([spec.name for spec in inputs][1:]),
            )
        values = {inputs[0].name: values}
    arrays: dict[str, np.ndarray] = {}
    for spec in inputs:
        if spec.name not in values:
            hint = f"yield it, or give all samples one value: {by_option([spec.name])}"
            raise DataError(f"input `{spec.name}` is missing", where=where, hint=hint)
        arrays[spec.name] = _array(values[spec.name], f"`{spec.name}`", where)
    if is_one_sample({name: array.shape for name, array in arrays.items()}, labels.shape, inputs):
        labels = labels[None]
        arrays |= {spec.name: arrays[spec.name][None] for spec in with_rows(inputs)}
    for spec in inputs:
        name, array = spec.name, arrays[spec.name]
        if spec.number and array.ndim == 0 and labels.ndim:
            array = np.full(len(labels), array)
        if array.ndim == 0 or labels.ndim == 0 or len(array) != len(labels):
            raise DataError(
                f"`{name}` has shape {array.shape}, but its labels have {labels.shape}",
                where=where,
                hint=BATCH_HINT,
            )
        if array.dtype.kind not in "biuf":
            raise DataError(f"`{name}` holds {array.dtype}, not numbers", where=where, hint="yield numbers")
        arrays[name] = array
    return arrays, labels


def _with_objects(
    values: Any, raw: Any, inputs: Sequence[InputSpec], where: str
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The arrays of a batch, and what is in each of its pictures: (n,) object of arrays (b, 5).

    Raises DataError.
    """
    spec = with_rows(inputs)[0]
    x = values.get(spec.name) if isinstance(values, Mapping) else values
    shape = _array(x, f"`{spec.name}`", where).shape
    alone = spec.sample is not None and len(shape) == len(spec.sample)
    arrays, _ = _arrays(values, np.zeros(() if alone else shape[:1]), inputs, where)
    count = len(arrays[spec.name])
    labels = np.empty(count, object)
    for row, own in enumerate(objects_in([raw] if alone else raw, count, where)):
        labels[row] = own
    return arrays, labels


def _group(inputs: Any, name: str, samples: int, where: str) -> np.ndarray:
    """The values (n,) of a column of groups, which stands among the inputs of a batch. Raises DataError."""
    if not isinstance(inputs, Mapping) or name not in inputs:
        known = [str(key) for key in inputs] if isinstance(inputs, Mapping) else []
        found = no_column(name, known, where, f"the batch holds no column `{name}`")
        hint = found.hint if known else f"yield a dict of arrays: one per input, and `{name}`"
        raise NoColumn.of(name, found.what, where, hint)
    values = np.atleast_1d(_array(inputs[name], f"`{name}`", where))
    if values.shape != (samples,) or values.dtype.kind not in "biufUS":
        raise DataError(
            f"`{name}` is {values.dtype} of shape {values.shape}, but the batch has "
            f"{number_of(samples, 'sample')}",
            where=where,
            hint="yield one number or text per sample",
        )
    return values


def _array(value: Any, what: str, where: str) -> np.ndarray:
    """Anything that NumPy takes for an array, in C order. Raises DataError for anything else."""
    try:
        return np.asarray(numpys(value), order="C")
    except Exception as error:  # lists of unequal length, tensors on a device: conversion is foreign code
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{what} cannot be read as an array: {reason}", where=where, hint=BATCH_HINT
        ) from error


def _require_room(arrays: Mapping[str, np.ndarray], where: str, memory: int) -> None:
    """Raise DataError for a batch that alone takes more than the memory, which it has by now."""
    size = sum(array.nbytes for array in arrays.values())
    if size > max(memory, 1 << 20):
        raise DataError(
            f"the batch takes {size / 2**20:,.0f} MiB: more than the {memory / 2**20:,.0f} MiB "
            "of --memory for it",
            where=where,
            hint="yield fewer samples at a time",
        )
