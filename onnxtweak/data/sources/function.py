"""How are samples read from a Python function? `file.py:function`, called once, its batches stored on disk.

The function yields `(inputs, labels)`: an array (n, ...) or a dict of arrays by input name, and n labels.
The batches are written to a temporary folder, so that every pass sees the same samples, in bounded memory,
and the digest covers their contents. The file is executed: give only files whose code you trust.
"""

from __future__ import annotations

import atexit
import runpy
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from onnxtweak.data.samples import InputSpec, Part, by_option
from onnxtweak.data.source_spec import Source
from onnxtweak.data.sources.npy import MappedColumn
from onnxtweak.errors import DataError, OnnxtweakError
from onnxtweak.settings import Preprocess

_HINT = "yield (inputs, labels): an array or a dict of arrays by input name, and one label per sample"


@dataclass
class _Spool:
    """An input's values, written to disk batch by batch. shape, dtype : of one sample."""

    path: Path
    file: BinaryIO
    shape: tuple[int, ...]
    dtype: np.dtype
    rows: int = 0

    def append(self, array: np.ndarray, name: str, where: str) -> None:
        """Write a batch (n, ...). Raises DataError where its samples differ from the earlier ones."""
        if (array.shape[1:], array.dtype) != (self.shape, self.dtype):
            raise DataError(
                f"`{name}` is {array.shape[1:]} {array.dtype} here, but {self.shape} {self.dtype} before",
                where=where,
                hint="yield the same shape and dtype in every batch",
            )
        self.file.write(array.tobytes())
        self.rows += len(array)


def read_function(source: Source, inputs: Sequence[InputSpec], preprocess: Preprocess) -> list[Part]:
    """What `file.py:function` yields, as one part. Raises DataError, naming the line that failed."""
    if not source.key:
        raise DataError(
            "the name of the function is missing", where=source.path, hint=f"write {source.path}:FUNCTION"
        )
    where = f"{source.path}:{source.key}"
    batches = _batches(source.path, source.key, where)
    folder = Path(tempfile.mkdtemp(prefix="onnxtweak-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    labels: list[np.ndarray] = []
    spools: dict[str, _Spool] = {}
    with ExitStack() as stack:
        for number, batch in enumerate(batches):
            here = f"batch {number} of {where}"
            arrays, batch_labels = _arrays(batch, inputs, here)
            for name, array in arrays.items():
                if name not in spools:
                    path = folder / f"{len(spools)}.values"
                    file = stack.enter_context(path.open("wb"))
                    spools[name] = _Spool(path, file, array.shape[1:], array.dtype)
                spools[name].append(array, name, here)
            labels.append(batch_labels)
    if not labels:
        raise DataError("the function yielded nothing", where=where, hint=_HINT)
    return [
        Part(
            where=where,
            origin=where,
            columns={
                name: MappedColumn(
                    f"`{name}` of {where}", spool.path, 0, (spool.rows, *spool.shape), spool.dtype
                )
                for name, spool in spools.items()
            },
            labels=np.concatenate(labels),
            label_where=where,
            files=tuple(
                (f"{name} {spool.shape} {spool.dtype.str}", spool.path) for name, spool in spools.items()
            ),
        )
    ]


def _batches(path: Path, name: str, where: str) -> Iterator[Any]:
    """What the function yields. Raises DataError for any exception in it."""
    folder = str(path.resolve().parent)  # importable, as when the file is run as a script
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
        yield from result
    except OnnxtweakError:
        raise
    except (Exception, SystemExit) as error:  # user code may raise anything
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
        line = lines[-1] if lines else getattr(error, "lineno", None)
        raise DataError(
            f"the function failed: {type(error).__name__}: {error}",
            where=f"{path}, line {line}" if line else where,
            hint="run the file on its own to see the full traceback",
        ) from error
    finally:
        sys.path.remove(folder)


def _arrays(batch: Any, inputs: Sequence[InputSpec], where: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The arrays (n, ...) of a batch by input name, and its labels (n, ...). Raises DataError."""
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise DataError("the batch is not a pair of inputs and labels", where=where, hint=_HINT)
    values, labels = batch[0], np.asarray(batch[1])
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
        array = np.asarray(values[name], order="C")
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
