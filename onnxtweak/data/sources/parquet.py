"""How are tables of columns read? Parquet, a row group at a time; importing this file is asking for pyarrow.

A column that is called like a model input feeds it: numbers, or lists of one length. Where the model has one
input and no column is called like it, all other columns feed it side by side, in the order of the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from onnxtweak.data.samples import InputSpec, Part, Take
from onnxtweak.data.source_spec import Source
from onnxtweak.errors import DataError
from onnxtweak.settings import Preprocess

_LABELS = ("y", "label", "labels", "target", "class")


@dataclass(frozen=True, eq=False)
class Columns:
    """Columns side by side, (N, columns), or one column of lists, (N, length).

    ends : rows up to the end of each row group.
    """

    where: str
    path: Path
    names: tuple[str, ...]
    ends: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: np.dtype
    axes: str | None = None
    apart = False

    @contextmanager
    def open(self) -> Iterator[Take]:
        with pq.ParquetFile(self.path) as file:
            held: tuple[int, np.ndarray | None] = (-1, None)

            def group(number: int) -> np.ndarray:
                nonlocal held
                if held[0] != number:
                    rows = self._values(file.read_row_group(number, columns=list(self.names)), number)
                    held = (number, rows)
                return held[1]

            def take(rows: np.ndarray) -> np.ndarray:
                out = np.empty((len(rows), *self.shape[1:]), self.dtype)
                cuts = np.searchsorted(rows, (0, *self.ends))
                for number, (low, high) in enumerate(pairwise(cuts)):
                    if low < high:
                        start = self.ends[number - 1] if number else 0
                        out[low:high] = group(number)[rows[low:high] - start]
                return out

            yield take

    def _values(self, table: pa.Table, number: int) -> np.ndarray:
        parts = []
        for name in self.names:
            array = table.column(name).combine_chunks()
            if _is_list(array.type):
                flat = np.asarray(array.flatten())
                parts.append(self._one_length(flat, name, len(array), number))
            else:
                parts.append(np.asarray(array)[:, None])
        return np.concatenate(parts, axis=1).astype(self.dtype, copy=False)

    def _one_length(self, flat: np.ndarray, name: str, rows: int, number: int) -> np.ndarray:
        length = self.shape[1]
        if len(flat) != rows * length:
            raise DataError(
                f"the lists of `{name}` are not all {length} long",
                where=f"row group {number} of {self.path}",
                hint="a model's input has one shape; pad or cut the lists",
            )
        return flat.reshape(rows, length)

    def locate(self, row: int) -> str:
        return f"row {row} of {self.where}"


def read_parquet(source: Source, inputs: Sequence[InputSpec], preprocess: Preprocess) -> list[Part]:
    """The one part of a Parquet file. #KEY names the column of labels.

    Raises DataError for a damaged file, missing columns, and columns that hold no numbers.
    """
    where = str(source.path)
    try:
        with pq.ParquetFile(source.path) as file:
            schema = file.schema_arrow
            groups = [file.metadata.row_group(g).num_rows for g in range(file.metadata.num_row_groups)]
            label = _label(schema.names, source)
            labels = _labels(file.read(columns=[label]).column(label), f"column `{label}` of {where}")
            first = file.read_row_group(0) if groups else None
    except (OSError, pa.ArrowException) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"this is no Parquet file: {said}", where=where, hint="write it again") from error
    if first is None or not len(labels):
        raise DataError("the table is empty", where=where, hint="give a file with rows")
    ends = tuple(accumulate(groups))
    columns = {spec.name: _columns(spec, inputs, schema, label, first, source.path, ends) for spec in inputs}
    return [
        Part(
            where=where,
            origin=str(source.path.resolve()),
            columns=columns,
            labels=labels,
            label_where=f"column `{label}` of {where}",
            files=((f"table, labels {label}", source.path),),
        )
    ]


def _label(names: Sequence[str], source: Source) -> str:
    if source.key:
        if source.key in names:
            return source.key
        raise DataError(
            f"there is no column `{source.key}`", where=source.text, hint=f"columns: {_listed(names)}"
        )
    found = [name for name in names if name.lower() in _LABELS]
    if len(found) == 1:
        return found[0]
    said = "several columns could be labels" if found else "no column is called like labels"
    raise DataError(said, where=source.path, hint=f"name it: {source.path}#COLUMN; columns: {_listed(names)}")


def _labels(column: pa.ChunkedArray, where: str) -> np.ndarray:
    if column.null_count:
        raise DataError(f"{column.null_count} labels are missing", where=where, hint="give every row one")
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return np.array(column.to_pylist(), dtype=str)
    return np.asarray(column.to_numpy())


def _columns(
    spec: InputSpec,
    inputs: Sequence[InputSpec],
    schema: pa.Schema,
    label: str,
    first: pa.Table,
    path: Path,
    ends: tuple[int, ...],
) -> Columns:
    others = [name for name in schema.names if name != label]
    if spec.name in others:
        names = (spec.name,)
    elif len(inputs) == 1:
        names = tuple(others)
    else:
        raise DataError(
            f"no column is called `{spec.name}`, an input of the model",
            where=path,
            hint=f"call the columns like the model's inputs; columns: {_listed(others)}",
        )
    kinds = [_number_type(schema.field(name).type, name, path) for name in names]
    if len(names) == 1 and _is_list(schema.field(names[0]).type):
        width = len(first.column(names[0])[0].as_py() or ())
    else:
        width = len(names)
        if any(_is_list(schema.field(name).type) for name in names):
            raise DataError(
                "columns of lists and of numbers cannot stand side by side",
                where=path,
                hint=f"call the column of lists `{spec.name}`, like the model's input",
            )
    # A missing number becomes NaN, which the reader of batches then names with its row.
    holes = any(first.schema.field(name).nullable for name in names) and any(
        column.null_count for column in (first.column(name) for name in names)
    )
    dtype = np.result_type(*kinds, *([np.float32] if holes else []))
    where = f"column `{names[0]}` of {path}" if len(names) == 1 else f"{len(names)} columns of {path}"
    return Columns(where, path, names, ends, (ends[-1], width), dtype)


def _number_type(kind: pa.DataType, name: str, path: Path) -> np.dtype:
    kind = kind.value_type if _is_list(kind) else kind
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return np.dtype(kind.to_pandas_dtype())
    raise DataError(
        f"column `{name}` holds {kind}, not numbers",
        where=path,
        hint="leave it out of the file, or store it as the numbers that the model was trained on",
    )


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
