"""How is a table in memory read? Columns feed the inputs by name, and are put side by side batch by batch.

pandas, polars and pyarrow hand over their columns themselves; all else that speaks Arrow, or the DataFrame
interchange protocol, comes through pyarrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxtweak.data.groups import no_column
from onnxtweak.data.samples import (
    ArrayColumn,
    Column,
    GroupColumn,
    InputSpec,
    Part,
    Reading,
    no_labels,
    take_rows,
)
from onnxtweak.data.sources.memory.values import as_array
from onnxtweak.data.sources.table_columns import Bound, bind_columns, listed, named_labels
from onnxtweak.errors import DataError
from onnxtweak.in_memory import InMemory


@dataclass(frozen=True, eq=False)
class SideBySide:
    """Columns of numbers side by side, (N, columns). arrays : each (N,), the caller's own where possible."""

    where: str
    arrays: tuple[np.ndarray, ...]
    axes: str | None = None
    sized = False
    thread_safe = True
    held = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.arrays[0]), len(self.arrays)

    @property
    def dtype(self) -> np.dtype:
        return np.result_type(*self.arrays)

    def open(self) -> AbstractContextManager[Any]:
        return nullcontext(self._take)

    def _take(self, rows: np.ndarray) -> np.ndarray:
        out = np.empty((len(rows), len(self.arrays)), self.dtype)
        for place, array in enumerate(self.arrays):
            out[:, place] = take_rows(array, rows)
        return out

    def locate(self, row: int) -> str:
        return f"row {row} of {self.where}"


def read_table(source: InMemory, inputs: Sequence[InputSpec], reading: Reading) -> list[Part]:
    """The rows of a table, as one part.

    The labels are beside the table, or in the column that is named, or in the only one called like labels.
    Raises DataError for missing columns, missing values, and columns that do not hold what an input takes.
    """
    if "table" not in source.kept:  # a stream comes only once
        source.kept["table"] = _Columns.of(source)
    table: _Columns = source.kept["table"]
    for name in reading.groups:
        if name not in table.names:
            raise no_column(name, table.names, source)
    own, named = source.labels, tuple[str, ...]()
    if own is None or isinstance(own, str):
        named = named_labels(table.names, own, source, 'data=(table, "COLUMN")', reading)
    others = [name for name in table.names if name not in named]
    lists = {name for name in others if table.holds_lists(name)}
    bound = bind_columns(others, inputs, source, lists, reading.groups)
    labels = table.where(", ".join(named)) if named else f"labels of {source}"
    columns = {spec.name: table.column(spec, bound.columns[spec.name]) for spec in inputs}
    bare = not named and (own is None or isinstance(own, str))
    given = no_labels(columns) if bare else as_array(own, labels) if not named else table.array(named[0])
    if len(named) > 1:
        given = np.stack([table.array(name) for name in named], axis=1)
    return [
        Part(
            where=str(source),
            origin=f"memory {id(source)}",
            columns=columns,
            labels=given,
            label_where=labels,
            files=(),
            held=tuple((name, table.array(name)) for name in _used(bound)),
            notes=bound.notes,
            classes=named if len(named) > 1 else None,
            labelled=not bare,
            groups={name: GroupColumn(table.where(name), table.array(name)) for name in reading.groups},
        )
    ]


def _used(bound: Bound) -> list[str]:
    """The columns that feed inputs, each once."""
    return list(dict.fromkeys(name for group in bound.columns.values() for name in group))


@dataclass(frozen=True, eq=False)
class _Columns:
    """The columns of a table by name, converted when they are first wanted."""

    source: InMemory
    columns: dict[str, Any]
    converted: dict[str, np.ndarray]

    @staticmethod
    def of(source: InMemory) -> _Columns:
        """Raises DataError for a table without rows, and for two columns of one name."""
        table = source.samples
        if not (hasattr(table, "columns") and hasattr(table, "__getitem__")):
            table = _through_arrow(table, source)
        raw = getattr(table, "column_names", None) or list(table.columns)
        names = [str(name) for name in raw]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            hint = "give every column its own name"
            raise DataError(f"two columns are named `{twice}`", where=source, hint=hint)
        if not len(table):
            raise DataError("the table is empty", where=source, hint="give a table that has rows")
        return _Columns(source, {name: table[key] for name, key in zip(names, raw, strict=True)}, {})

    @property
    def names(self) -> list[str]:
        return list(self.columns)

    def where(self, name: str) -> str:
        """How a message names a column."""
        return f"column `{name}` of {self.source}"

    def array(self, name: str) -> np.ndarray:
        """A column (N,), or (N, length) where its rows are lists."""
        if name not in self.converted:
            self.converted[name] = as_array(self.columns[name], self.where(name))
        return self.converted[name]

    def holds_lists(self, name: str) -> bool:
        """Whether each row of a column is a list. Dates, say, are not readable, and need not be."""
        try:
            return self.array(name).ndim > 1
        except DataError:
            return False

    def column(self, spec: InputSpec, names: tuple[str, ...]) -> Column:
        """What feeds an input."""
        arrays = [self.array(name) for name in names]
        where = self.where(names[0]) if len(names) == 1 else f"{len(names)} columns of {self.source}"
        text = spec.dtype == "object"
        for name, array in zip(names, arrays, strict=True):
            if (array.dtype.kind in "US") != text:
                raise DataError(
                    f"column `{name}` holds {'numbers' if text else 'text'}, but the model's input "
                    f"`{spec.name}` takes {'text' if text else 'numbers'}",
                    where=self.source,
                    hint="leave the column out, or convert it as it was for the model's training",
                )
        if len(names) == 1 and arrays[0].ndim > 1:
            return ArrayColumn(where, arrays[0], borrowed=True)
        if text:
            return ArrayColumn(where, np.stack(arrays, axis=1))
        if any(array.ndim > 1 for array in arrays):
            raise DataError(
                "columns of lists and columns of numbers cannot be combined",
                where=self.source,
                hint=f"name the column of lists after the model's input, `{spec.name}`; columns: "
                f"{listed(names)}",
            )
        return SideBySide(where, tuple(arrays))


def _through_arrow(table: Any, source: InMemory) -> Any:
    try:
        from onnxtweak.data.sources.memory.arrow import as_arrow
    except ImportError as error:
        raise DataError(
            f"reading a {type(table).__name__} needs pyarrow, which is not installed",
            where=source,
            hint="pip install 'onnxtweak[parquet]', or give a mapping of arrays",
        ) from error
    return as_arrow(table)
