"""How are samples read from a Python function? `file.py:function`, called once, its batches stored on disk.

The function yields `(inputs, labels)`: an array (n, ...) or a dict of arrays by input name, and n labels. The
dict may hold columns of groups too.
The batches are written to a temporary folder, so that every pass sees the same samples, in bounded memory,
and the digest covers their contents. The function has to end, unless rows `[start:stop]` of it are chosen:
then no more are asked for. It may take its time: that it is waited for is shown. A named pipe it may not
open, which waits for whoever writes it, possibly for ever. The file is executed: give only files whose code
you trust.
"""

from __future__ import annotations

import os
import runpy
import stat
import sys
import threading
import traceback
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from onnxtweak.data.groups import no_column
from onnxtweak.data.samples import GroupColumn, InputSpec, Part, Reading, by_option
from onnxtweak.data.source_spec import Source
from onnxtweak.data.sources.held_whole import require_small
from onnxtweak.data.sources.spool import Spool, require_within, room_in, spool_folder
from onnxtweak.errors import DataError, OnnxtweakError
from onnxtweak.input_files import MOST_SOURCE, require_regular
from onnxtweak.types import ticking

_BOUNDED = "of a function that does not end, choose rows: FILE.py:FUNCTION#[0:10000]"
_AT_ONCE = getattr(os, "O_NONBLOCK", 0)
_HINT = "yield (inputs, labels): an array or a dict of arrays by input name, and one label per sample"


def read_function(source: Source, inputs: Sequence[InputSpec], reading: Reading) -> list[Part]:
    """What `file.py:function` yields, as one part. Raises DataError, naming the line that failed."""
    if not source.key:
        raise DataError(
            "the name of the function is missing", where=source.path, hint=f"write {source.path}:FUNCTION"
        )
    require_regular(source.path, DataError, MOST_SOURCE)
    where = f"{source.path}:{source.key}"
    folder = spool_folder()
    room = room_in(folder)
    labels: list[np.ndarray] = []
    spools: dict[str, Spool] = {}
    groups: dict[str, list[np.ndarray]] = {name: [] for name in reading.groups}
    reading.progress.start(f"read {source.path.name}:{source.key}", 0)
    with ExitStack() as stack:
        stack.enter_context(ticking(reading.progress))
        stack.enter_context(_without_pipes())
        batches = stack.enter_context(closing(_batches(source.path, source.key, where)))
        rows = 0
        for number, batch in enumerate(batches):
            here = f"batch {number}, from sample {rows} on, of {where}"
            arrays, batch_labels = _arrays(batch, inputs, here)
            _require_room(arrays, here, reading.memory)
            if not len(batch_labels):
                continue
            labels.append(batch_labels)
            _check_labels(labels, rows, here, reading.memory)
            for name, values in groups.items():
                values.append(_group(batch[0], name, len(batch_labels), here))
                require_small((rows + len(batch_labels),), values[-1].dtype, here, "values", reading.memory)
            for name, array in arrays.items():
                if name not in spools:
                    path = folder / f"{len(spools)}.values"
                    file = stack.enter_context(path.open("wb", buffering=0))
                    spools[name] = Spool(path, file, array.shape[1:], array.dtype)
                spools[name].append(array, name, here)
            require_within(room, spools.values(), _BOUNDED)
            rows += len(batch_labels)
            reading.progress.advance(len(batch_labels))
            if source.stop is not None and 0 <= source.stop <= rows and (source.start or 0) >= 0:
                break
    if not labels:
        raise DataError("the function yielded no samples", where=where, hint=_HINT)
    reading.progress.finish()
    return [
        Part(
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
    ]


def _batches(path: Path, name: str, where: str) -> Generator[Any, None, None]:
    """What the function yields. Raises DataError for any exception in it."""
    folder = str(path.resolve().parent)  # importable, as when the file is run as a script
    batches = 0
    sys.path.insert(0, folder)
    try:
        function = runpy.run_path(str(path), run_name="onnxtweak_data").get(name)
        if not callable(function):
            raise DataError(f"no function `{name}`", where=path, hint=f"define it: def {name}(): yield x, y")
        result = function()
        if not isinstance(result, Iterable):
            raise DataError(
                f"the function returns {type(result).__name__}, not batches", where=where, hint=_HINT
            )
        for batch in result:
            yield batch
            batches += 1
    except OnnxtweakError:
        raise
    except (Exception, SystemExit) as error:  # user code may raise anything
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
        line = lines[-1] if lines else getattr(error, "lineno", None)
        raise DataError(
            f"the function failed: {type(error).__name__}: {error}",
            where=", ".join((f"batch {batches} of {where}", *([f"line {line}"] if line else []))),
            hint="run the file on its own to see the full traceback",
        ) from error
    finally:
        sys.path.remove(folder)


@contextmanager
def _without_pipes() -> Iterator[None]:
    """In this thread, until the block ends, opening a named pipe raises DataError where it would wait."""
    readers, reader = _refused_pipes(), threading.get_ident()
    readers.add(reader)
    try:
        yield
    finally:
        readers.discard(reader)


@cache
def _refused_pipes() -> set[int]:
    """Threads that may open no named pipes. Python tells of all that is opened, and never stops telling."""
    readers: set[int] = set()

    def heard(event: str, given: tuple[Any, ...]) -> None:
        if event == "open" and threading.get_ident() in readers and _waits(*given):
            path = os.fsdecode(given[0])
            raise DataError(
                "the function opens a named pipe, which waits until somebody writes to it",
                where=path,
                hint="let it read a file on disk, or `sys.stdin`",
            )

    sys.addaudithook(heard)
    return readers


def _waits(path: Any, mode: Any, flags: Any) -> bool:
    """Whether to open a path waits for another process to open it too."""
    if not isinstance(path, str | bytes) or (isinstance(flags, int) and flags & (_AT_ONCE | os.O_RDWR)):
        return False
    try:
        # What a shell hands on, as <(command) or /dev/stdin, is open already.
        given = os.path.realpath(os.fsdecode(path)).startswith("/proc/")
        return stat.S_ISFIFO(os.stat(path).st_mode) and not given
    except (OSError, ValueError):
        return False


def _arrays(batch: Any, inputs: Sequence[InputSpec], where: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The arrays (n, ...) of a batch by input name, and its labels (n, ...). Raises DataError."""
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise DataError("the batch is not a pair of inputs and labels", where=where, hint=_HINT)
    values, labels = batch[0], _array(batch[1], "the labels", where)
    if labels.dtype.kind not in "biufUS":
        raise DataError(f"labels are {labels.dtype}, neither numbers nor text", where=where, hint=_HINT)
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
                hint=_HINT,
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
        raise DataError(found.what, where=where, hint=hint)
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
        return np.asarray(value, order="C")
    except Exception as error:  # lists of unequal length, tensors on a device: conversion is foreign code
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{what} cannot be read as an array: {reason}", where=where, hint=_HINT) from error


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


def _check_labels(labels: Sequence[np.ndarray], rows: int, where: str, memory: int) -> None:
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
        hint = f"{error.hint}; {_BOUNDED}"
        raise DataError(error.what, where=where, hint=hint) from None
