"""How are batches read that come one after the other? They are written to a temporary folder as they come.

So every pass sees the same samples, in bounded memory, and the digest covers their contents. A batch is a
pair `(inputs, labels)`, of which inputs may be a mapping of arrays by input name, or a mapping that holds the
labels too. Columns of groups stand among the inputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from onnxtweak.data.array_names import match_inputs, match_labels
from onnxtweak.data.groups import NoColumn, no_column
from onnxtweak.data.samples import GroupColumn, InputSpec, Part, Reading, by_option
from onnxtweak.data.sources.held_whole import require_small
from onnxtweak.data.sources.memory.values import numpys
from onnxtweak.data.sources.spool import Spool, SpoolFolder, require_within, room_in
from onnxtweak.errors import DataError
from onnxtweak.in_memory import InMemory
from onnxtweak.types import ticking

BATCH_HINT = "yield (inputs, labels): an array or a dict of arrays by input name, and one label per sample"
_BOUNDED = "of batches that do not end, take some: itertools.islice(batches, 100)"
_ONCE = "an iterator can be read once only: make a new one, or give a list, a DataLoader or arrays"


def read_batches(source: InMemory, inputs: Sequence[InputSpec], reading: Reading) -> list[Part]:
    """The batches of an iterable, as one part. They are asked for once, however often samples are opened.

    Raises DataError for what is no batch. What the iterable itself raises is the caller's.
    """
    key = (tuple(inputs), reading.groups)
    if key not in source.kept:
        batches = iter(source.samples)
        once = batches is source.samples
        reading.progress.start(f"read {source}", 0)
        with ticking(reading.progress):
            found = spooled(batches, str(source), inputs, reading, _BOUNDED)
        if found is None:
            raise DataError("no samples", where=source, hint=_ONCE if once else BATCH_HINT)
        reading.progress.finish()
        source.kept[key] = found
    return [source.kept[key]]


def spooled(
    batches: Iterable[Any],
    where: str,
    inputs: Sequence[InputSpec],
    reading: Reading,
    bounded: str,
    most: int | None = None,
) -> Part | None:
    """The samples of all batches, as one part that is on disk; None where there are none.

    bounded : what to do about batches that do not end. most : samples after which no more are asked for.
    """
    folder = SpoolFolder()
    room = room_in(folder.path)
    labels: list[np.ndarray] = []
    spools: dict[str, Spool] = {}
    groups: dict[str, list[np.ndarray]] = {name: [] for name in reading.groups}
    rows = 0
    with ExitStack() as stack:
        for number, batch in enumerate(batches):
            here = f"batch {number}, from sample {rows} on, of {where}"
            values, raw = _halves(batch, inputs, here, reading.groups)
            arrays, batch_labels = _arrays(values, raw, inputs, here)
            _require_room(arrays, here, reading.memory)
            if not len(batch_labels):
                continue
            labels.append(batch_labels)
            _check_labels(labels, rows, here, reading.memory, bounded)
            for name, found in groups.items():
                found.append(_group(values, name, len(batch_labels), here))
                require_small((rows + len(batch_labels),), found[-1].dtype, here, "values", reading.memory)
            for name, array in arrays.items():
                if name not in spools:
                    path = folder.path / f"{len(spools)}.values"
                    file = stack.enter_context(path.open("wb", buffering=0))
                    spools[name] = Spool(folder, path, file, array.shape[1:], array.dtype)
                spools[name].append(array, name, here)
            require_within(room, spools.values(), bounded)
            rows += len(batch_labels)
            reading.progress.advance(len(batch_labels))
            if most is not None and rows >= most:
                break
    if not labels:
        return None
    return Part(
        where=where,
        origin=where,
        columns={name: spool.column(f"`{name}` of {where}") for name, spool in spools.items()},
        labels=np.concatenate(labels),
        label_where=where,
        files=tuple(
            (f"{name} {spool.shape} {spool.dtype.str}", spool.path) for name, spool in spools.items()
        ),
        groups={
            name: GroupColumn(f"`{name}` of {where}", np.concatenate(values))
            for name, values in groups.items()
        },
    )


def _halves(batch: Any, inputs: Sequence[InputSpec], where: str, groups: Sequence[str]) -> tuple[Any, Any]:
    """The inputs of a batch and its labels, as they come. Raises DataError."""
    if isinstance(batch, Mapping):
        bound = match_inputs(batch, inputs, None, where, groups)
        labels = batch[match_labels(batch, bound, None, where, groups)]
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
        name = spec.name
        if name not in values:
            hint = f"yield it, or give all samples one value: {by_option([name])}"
            raise DataError(f"input `{name}` is missing", where=where, hint=hint)
        array = _array(values[name], f"`{name}`", where)
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


def _group(inputs: Any, name: str, samples: int, where: str) -> np.ndarray:
    """The values (n,) of a column of groups, which stands among the inputs of a batch. Raises DataError."""
    if not isinstance(inputs, Mapping) or name not in inputs:
        known = [str(key) for key in inputs] if isinstance(inputs, Mapping) else []
        found = no_column(name, known, where, f"the batch holds no column `{name}`")
        hint = found.hint if known else f"yield a dict of arrays: one per input, and `{name}`"
        raise NoColumn.of(name, found.what, where, hint)
    values = _array(inputs[name], f"`{name}`", where)
    if values.shape != (samples,) or values.dtype.kind not in "biufUS":
        raise DataError(
            f"`{name}` is {values.dtype} of shape {values.shape}, but the batch has {samples} samples",
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


def _check_labels(labels: Sequence[np.ndarray], rows: int, where: str, memory: int, bounded: str) -> None:
    """Raise DataError for labels of a batch that are unlike those before, and for too many in all.

    rows : how many samples came before.
    """
    first, last = labels[0], labels[-1]
    if first.shape[1:] != last.shape[1:] or (first.dtype.kind in "US") != (last.dtype.kind in "US"):
        raise DataError(
            f"labels are {last.dtype} {last.shape} here, but {first.dtype} {first.shape} before",
            where=where,
            hint="yield labels of the same kind in every batch",
        )
    try:
        longest = max(first.dtype, last.dtype, key=lambda dtype: dtype.itemsize)
        require_small((rows + len(last), *last.shape[1:]), longest, where, "labels", memory)
    except DataError as error:
        hint = f"{error.hint}; {bounded}"
        raise DataError(error.what, where=where, hint=hint) from None
