"""How does a Python function hand over samples? `file.py:function`, called once, its batches put on disk.

The function yields `(inputs, labels)`: an array (n, ...) or a dict of arrays by input name, and n labels.
What it yields is written to a temporary folder, so that every pass sees the same samples, in bounded memory,
and the digest is that of their contents. The file is run: name only files whose code you trust.
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

from onnxtweak.data.samples import InputSpec, Part
from onnxtweak.data.source_spec import Source
from onnxtweak.data.sources.npy import Mapped
from onnxtweak.errors import DataError, OnnxtweakError
from onnxtweak.settings import Preprocess

_HINT = "it yields (inputs, labels): an array or a dict of arrays by input name, and as many labels"


@dataclass
class _Spool:
    """An input's values as they come in. shape, dtype : of one sample, from the first batch on."""

    path: Path
    file: BinaryIO
    shape: tuple[int, ...] | None = None
    dtype: np.dtype | None = None
    rows: int = 0


def read_function(source: Source, inputs: Sequence[InputSpec], preprocess: Preprocess) -> list[Part]:
    """The one part of what `file.py:function` yields. Raises DataError, naming the line that failed."""
    if not source.key:
        raise DataError(
            "a Python file needs the name of a function", where=source.path, hint=f"{source.path}:FUNCTION"
        )
    where = f"{source.path}:{source.key}"
    batches = _called(source.path, source.key, where)
    folder = Path(tempfile.mkdtemp(prefix="onnxtweak-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    labels: list[np.ndarray] = []
    with ExitStack() as stack:
        spools = {}
        for number, spec in enumerate(inputs):
            path = folder / f"{number}.values"
            spools[spec.name] = _Spool(path, stack.enter_context(path.open("wb")))
        for number, batch in enumerate(batches):
            labels.append(_take(batch, spools, f"batch {number} of {where}"))
    if not labels:
        raise DataError("the function yielded nothing", where=where, hint=_HINT)
    return [
        Part(
            where=where,
            origin=where,
            columns={
                name: Mapped(f"`{name}` of {where}", spool.path, 0, (spool.rows, *spool.shape), spool.dtype)
                for name, spool in spools.items()
            },
            labels=np.concatenate(labels),
            label_where=where,
            files=tuple(
                (f"{name} {spool.shape} {spool.dtype.str}", spool.path) for name, spool in spools.items()
            ),
        )
    ]


def _called(path: Path, name: str, where: str) -> Iterator[Any]:
    """What the function yields, errors in plain words."""
    beside = str(path.resolve().parent)  # what lies beside the file can be imported, as when it is run
    sys.path.insert(0, beside)
    try:
        function = runpy.run_path(str(path), run_name="onnxtweak_data").get(name)
        if not callable(function):
            raise DataError(f"there is no function `{name}`", where=path, hint=f"def {name}(): yield x, y")
        found = function()
        if not isinstance(found, Iterable):
            raise DataError(f"the function gives {type(found).__name__}, no batches", where=where, hint=_HINT)
        yield from found
    except OnnxtweakError:
        raise
    except (Exception, SystemExit) as error:  # somebody else's code
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
        line = lines[-1] if lines else getattr(error, "lineno", None)
        raise DataError(
            f"the function failed: {type(error).__name__}: {error}",
            where=f"{path}, line {line}" if line else where,
            hint="run the file by itself to see more",
        ) from error
    finally:
        sys.path.remove(beside)


def _take(batch: Any, spools: Mapping[str, _Spool], where: str) -> np.ndarray:
    """Put one batch on disk; gives its labels."""
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise DataError("this is no pair of inputs and labels", where=where, hint=_HINT)
    values, labels = batch[0], np.asarray(batch[1])
    if not isinstance(values, Mapping):
        if len(spools) != 1:
            raise DataError(
                f"the model has {len(spools)} inputs", where=where, hint="yield a dict by input name"
            )
        values = {next(iter(spools)): values}
    for name, spool in spools.items():
        if name not in values:
            raise DataError(f"input `{name}` is missing", where=where, hint=_HINT)
        array = np.ascontiguousarray(values[name])
        if array.ndim == 0 or labels.ndim == 0 or len(array) != len(labels):
            raise DataError(
                f"`{name}` has shape {array.shape}, its labels {labels.shape}", where=where, hint=_HINT
            )
        if array.dtype.kind not in "biuf":
            raise DataError(f"`{name}` holds {array.dtype}, not numbers", where=where, hint="yield numbers")
        if spool.shape is None:
            spool.shape, spool.dtype = array.shape[1:], array.dtype
        if (array.shape[1:], array.dtype) != (spool.shape, spool.dtype):
            raise DataError(
                f"`{name}` is {array.shape[1:]} {array.dtype} here, {spool.shape} {spool.dtype} before",
                where=where,
                hint="every batch has the same shape and type",
            )
        spool.file.write(array.tobytes())
        spool.rows += len(array)
    return labels
