"""How are Parquet tables read? One row group at a time; importing this module requires pyarrow.

A column named after a model input feeds it: numbers, text, or lists of equal length; see `table_columns`.
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

from onnxtweak.data.samples import ArrayColumn, InputSpec, Part, TakeRows
from onnxtweak.data.source_spec import Source
from onnxtweak.data.sources.table_columns import bind_columns, label_column
from onnxtweak.errors import DataError
from onnxtweak.settings import Preprocess


@dataclass(frozen=True, eq=False)
class ParquetColumn:
    """Columns of a table side by side, (N, columns), or one column of lists, (N, length).

    names : of the table's columns. ends : number of rows up to the end of each row group.
    """

    where: str
    path: Path
    names: tuple[str, ...]
    ends: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: np.dtype
    axes: str | None = None
    sized = False
    thread_safe = False

    @contextmanager
    def open(self) -> Iterator[TakeRows]:
        with pq.ParquetFile(self.path) as file:
            loaded, values = -1, np.empty(0)

            def group(number: int) -> np.ndarray:
                nonlocal loaded, values
                if loaded != number:
                    table = file.read_row_group(number, columns=list(self.names))
                    loaded, values = number, self._values(table, number)
                return values

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
                f"the lists of `{name}` do not all have length {length}",
                where=f"row group {number} of {self.path}",
                hint="pad or cut the lists to one length",
            )
        return flat.reshape(rows, length)

    def locate(self, row: int) -> str:
        return f"row {row} of {self.where}"


def read_parquet(source: Source, inputs: Sequence[InputSpec], preprocess: Preprocess) -> list[Part]:
    """The samples of a Parquet file, as one part. #KEY names the column of labels.

    Raises DataError for a damaged file, missing columns, and columns that are not numeric.
    """
    where = str(source.path)
    try:
        with pq.ParquetFile(source.path) as file:
            schema = file.schema_arrow
            groups = [file.metadata.row_group(g).num_rows for g in range(file.metadata.num_row_groups)]
            label = label_column(schema.names, source)
            labels = _labels(file.read(columns=[label]).column(label), f"column `{label}` of {where}")
            first = file.read_row_group(0) if groups else None
    except UnicodeDecodeError as error:
        hint = "write the text in UTF-8"
        raise DataError("the labels are not UTF-8 text", where=where, hint=hint) from error
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"not a Parquet file: {reason}", where=where, hint="write it again") from error
    if first is None or not len(labels):
        raise DataError("the table is empty", where=where, hint="give a file that has rows")
    ends = tuple(accumulate(groups))
    others = [name for name in schema.names if name != label]
    lists = [name for name in others if _is_list(schema.field(name).type)]
    bound = bind_columns(others, inputs, source.path, lists)
    columns = {
        spec.name: _column(spec, bound.columns[spec.name], schema, first, source.path, ends)
        for spec in inputs
    }
    return [
        Part(
            where=where,
            origin=str(source.path.resolve()),
            columns=columns,
            labels=labels,
            label_where=f"column `{label}` of {where}",
            files=((f"table, labels {label}", source.path),),
            notes=bound.notes,
        )
    ]


def _labels(column: pa.ChunkedArray, where: str) -> np.ndarray:
    if column.null_count:
        raise DataError(f"{column.null_count} labels are missing", where=where, hint="give every row a label")
    dtype = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if _is_text(dtype):
        return np.array(column.to_pylist(), dtype=str)
    return np.asarray(column.to_numpy())


def _column(
    spec: InputSpec,
    names: tuple[str, ...],
    schema: pa.Schema,
    first: pa.Table,
    path: Path,
    ends: tuple[int, ...],
) -> ParquetColumn | ArrayColumn:
    where = f"column `{names[0]}` of {path}" if len(names) == 1 else f"{len(names)} columns of {path}"
    if spec.dtype == "object":
        return _text_column(names, path, where)
    dtypes = [_number_type(schema.field(name).type, name, path) for name in names]
    if len(names) == 1 and _is_list(schema.field(names[0]).type):
        width = len(first.column(names[0])[0].as_py() or ())
    else:
        width = len(names)
        if any(_is_list(schema.field(name).type) for name in names):
            raise DataError(
                "columns of lists and columns of numbers cannot be combined",
                where=path,
                hint=f"name the column of lists after the model's input, `{spec.name}`",
            )
    # A missing number becomes NaN, which is later reported with its row.
    has_nulls = any(first.schema.field(name).nullable for name in names) and any(
        column.null_count for column in (first.column(name) for name in names)
    )
    dtype = np.result_type(*dtypes, *([np.float32] if has_nulls else []))
    return ParquetColumn(where, path, names, ends, (ends[-1], width), dtype)


def _text_column(names: tuple[str, ...], path: Path, where: str) -> ArrayColumn:
    """Columns of text side by side, loaded whole: how long the longest text is shows only then."""
    table = pq.read_table(path, columns=list(names))
    for name in names:
        if not _is_text(table.schema.field(name).type) or table.column(name).null_count:
            raise DataError(
                f"column `{name}` does not hold a text in every row, as the model expects",
                where=path,
                hint="store it as text, without missing values",
            )
    return ArrayColumn(where, np.array([table.column(name).to_pylist() for name in names], dtype=str).T)


def _number_type(dtype: pa.DataType, name: str, path: Path) -> np.dtype:
    dtype = dtype.value_type if _is_list(dtype) else dtype
    if pa.types.is_integer(dtype) or pa.types.is_floating(dtype) or pa.types.is_boolean(dtype):
        numpy_dtype: np.dtype = np.dtype(dtype.to_pandas_dtype())
        return numpy_dtype
    raise DataError(
        f"column `{name}` contains {dtype}, not numbers",
        where=path,
        hint="remove it from the file, or store it as the numbers that the model was trained on",
    )


def _is_list(dtype: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(dtype) or pa.types.is_large_list(dtype) or pa.types.is_fixed_size_list(dtype)
    )


def _is_text(dtype: pa.DataType) -> bool:
    return bool(pa.types.is_string(dtype) or pa.types.is_large_string(dtype))
