"""How are samples read from a Python function? `file.py:function`, called once, its batches stored on disk.

The function yields `(inputs, labels)`: an array (n, ...) or a dict of arrays by input name, and n labels.
The batches are written to a temporary folder, so that every pass sees the same samples, in bounded memory,
and the digest covers their contents. The file is executed: give only files whose code you trust.
"""

from __future__ import annotations

import runpy
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from onnxtweak.data.samples import InputSpec, Part, Reading, by_option
from onnxtweak.data.source_spec import Source
from onnxtweak.data.sources.spool import Spool, spool_folder
from onnxtweak.errors import DataError, OnnxtweakError

_HINT = "yield (inputs, labels): an array or a dict of arrays by input name, and one label per sample"


def read_function(source: Source, inputs: Sequence[InputSpec], reading: Reading) -> list[Part]:
    """What `file.py:function` yields, as one part. Raises DataError, naming the line that failed."""
    if not source.key:
        raise DataError(
            "the name of the function is missing", where=source.path, hint=f"write {source.path}:FUNCTION"
        )
    where = f"{source.path}:{source.key}"
    batches = _batches(source.path, source.key, where)
    folder = spool_folder()
    labels: list[np.ndarray] = []
    spools: dict[str, Spool] = {}
    with ExitStack() as stack:
        for number, batch in enumerate(batches):
            here = f"batch {number} of {where}"
            arrays, batch_labels = _arrays(batch, inputs, here)
            for name, array in arrays.items():
                if name not in spools:
                    path = folder / f"{len(spools)}.values"
                    file = stack.enter_context(path.open("wb", buffering=0))
                    spools[name] = Spool(path, file, array.shape[1:], array.dtype)
                spools[name].append(array, name, here)
            labels.append(batch_labels)
    if not labels:
        raise DataError("the function yielded nothing", where=where, hint=_HINT)
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
