"""What may a Python program hand over as samples? A path, arrays, a table, or batches.

    "samples.npz#train"                     a path, as on the command line; or a list of them
    (x, y)                                  arrays (N, ...) and labels (N,), numbers or names of classes;
                                            or lists of arrays, where samples are of different sizes
    {"x": x, "y": y}                        arrays by name, as in an .npz file: by the model's inputs, or `x`
    ({"left": a, "right": b}, y)            inputs by name, and the labels
    table, (table, "species"), (table, y)   a table with named columns; labels in one of them, or beside it
    loader                                  batches: pairs (x, y), or mappings with the labels in them;
                                            or single samples in this form

An array is whatever NumPy takes for one: of PyTorch, TensorFlow, JAX, a column of a table. A table is a
DataFrame of pandas or polars, a table of pyarrow, or anything that speaks Arrow or the DataFrame interchange
protocol. Arrays and columns are read where they lie, are not copied whole, and never written to. Columns of
groups (`group`, `by`) stand among the arrays by name, or in the table; class names may, under `classes`.

>>> import numpy as np
>>> import onnxtweak
>>> from onnxtweak.demo_files import demo_files
>>> model, digits = demo_files().model, np.load(demo_files().data)
>>> x, y = digits["x_test"], digits["y_test"]
>>> onnxtweak.evaluate(model, data=(x, y)).metrics.overall
0.924
>>> named = {"x": x, "y": y, "writer": np.arange(500) % 10}
>>> onnxtweak.evaluate(model, data=named, by="writer").groups[0].samples
50
>>> batches = ((x[k : k + 50], y[k : k + 50]) for k in range(0, 500, 50))
>>> onnxtweak.evaluate(model, data=batches).metrics.samples
500
>>> onnxtweak.evaluate(model, data=(x, y[:-1]))
Traceback (most recent call last):
    ...
onnxtweak.errors.DataError: 500 samples but 499 labels (x in data=<arrays>; labels of data=<arrays>)

Batches come from any iterable, such as a DataLoader. They are taken once and kept on disk (in TMPDIR) until
the call ends, so an iterator that cannot begin again serves one call. Of a list of pairs, mappings or
tables each is read where it lies.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from onnxtweak.api.words import StrPath
from onnxtweak.errors import UsageError
from onnxtweak.in_memory import InMemory, SampleSource, is_array, is_table


class Interchanged(Protocol):
    """A table by the DataFrame interchange protocol."""

    def __dataframe__(self, nan_as_null: bool = ..., allow_copy: bool = ...) -> Any: ...


class ArrowStream(Protocol):
    """A table by Arrow's C stream."""

    def __arrow_c_stream__(self, requested_schema: Any = ...) -> Any: ...


class ArrayLike(Protocol):
    """An array of any library."""

    def __array__(self) -> np.ndarray: ...


# NumPy's own type of what makes an array would fill a screen wherever one of these is shown.
Array = ArrayLike | Sequence[Any]
Table = Interchanged | ArrowStream
ByName = Mapping[str, Any]
Samples = StrPath | tuple[Array | ByName | Table, Array] | ByName | Table | Iterable[Any]

_FORMS = "give a path, (x, y), a mapping of arrays, a DataFrame, or an iterable of batches"


def sources_of(value: Any, option: str) -> list[SampleSource]:
    """The sources that the value of an option such as `data` names or holds. Raises UsageError."""
    if isinstance(value, tuple | list) and not _is_pair(value):
        if len(value) == 1:
            return [_source(value[0], option)]
        return [_source(item, f"{option}[{number}]") for number, item in enumerate(value)]
    return [_source(value, option)]


def _source(value: Any, option: str) -> SampleSource:
    if isinstance(value, str | os.PathLike):
        return os.fspath(value)
    if isinstance(value, tuple | list):
        if _is_pair(value):
            samples, labels = value
            return InMemory(f"{option}=<{'table' if is_table(samples) else 'arrays'}>", samples, labels)
        what = f"{len(value)} values of {', '.join(sorted({type(item).__name__ for item in value}))}"
        raise UsageError(f"{what} are not samples with labels", where=option, hint=_FORMS)
    if is_table(value):
        return InMemory(f"{option}=<table>", value)
    if isinstance(value, Mapping):
        return InMemory(f"{option}=<arrays>", value)
    if is_array(value):
        hint = f"give both: {option}=(x, y); where no labels are needed, name it: {option}={{'x': x}}"
        raise UsageError("an array without labels", where=option, hint=hint)
    if isinstance(value, Iterable) and not isinstance(value, bytes | bytearray | memoryview):
        return InMemory(f"{option}=<batches>", value)
    hint = f"call it: {option}=batches()" if callable(value) else _FORMS
    hint = "collect it first: lazy.collect()" if hasattr(value, "collect") else hint
    raise UsageError(f"{type(value).__name__} holds no samples", where=option, hint=hint)


def _is_pair(value: Sequence[Any]) -> bool:
    """Whether two values are samples and their labels, rather than two sources."""
    if len(value) != 2:
        return False
    samples, labels = value
    if is_table(samples) and isinstance(labels, str):  # the name of a column
        return True
    if isinstance(labels, str | os.PathLike | Mapping) or is_table(labels):
        return False
    if isinstance(value, tuple) and _are_rows(samples) and _are_rows(labels):
        return len(samples) == len(labels)
    known = is_table(samples) or isinstance(samples, Mapping) or is_array(samples) or _is_nested(samples)
    return known or (not isinstance(samples, str | os.PathLike) and (is_array(labels) or _is_nested(labels)))


def _are_rows(value: Any) -> bool:
    """Whether a value lists arrays, which may be of different sizes."""
    return isinstance(value, list) and len(value) > 0 and all(is_array(row) for row in value)


def _is_nested(value: Any) -> bool:
    """Whether a value is lists of single numbers or texts, which make an array."""
    if not isinstance(value, list | tuple):
        return False
    while isinstance(value, list | tuple) and value:
        value = value[0]
    # A single number may be NumPy's, or a tensor's.
    return isinstance(value, list | tuple | str | bool | int | float) or getattr(value, "ndim", None) == 0
