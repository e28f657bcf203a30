"""How are Parquet tables read? In batches of rows, only the columns that are wanted; requires pyarrow.

A column named after a model input feeds it: numbers, text, or lists of equal length. Text and labels are
read as dictionaries: repeated, they may take no space in the file and much in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from onnxtweak.data.groups import no_column
from onnxtweak.data.samples import ArrayColumn, GroupColumn, InputSpec, Part, Reading, TakeRows, no_labels
from onnxtweak.data.several.marks import raw_marks
from onnxtweak.data.source_spec import Source
from onnxtweak.data.sources.held_whole import require_small
from onnxtweak.data.sources.parquet_pages import page_bytes, pages_at
from onnxtweak.data.sources.table_columns import bind_columns, label_columns, no_text
from onnxtweak.errors import DataError

_BUFFER = 64 * 1024  # of a column, while its pages are read
_PAGE = 5 * 1024**2 // 2  # of a column: one of values and one of a dictionary, as written by most
_BATCH = 16 * 1024**2  # bytes of rows that are decoded at a time
_TEXT_ROWS = 65_536


@dataclass(frozen=True, eq=False)
class ParquetColumn:
    """Columns of a table side by side, (N, columns), or one column of lists, (N, length).

    names : of the table's columns. ends : number of rows up to the end of each row group. held : bytes that
    reading takes.
    """

    where: str
    path: Path
    names: tuple[str, ...]
    ends: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: np.dtype
    held: int
    axes: str | None = None
    sized = False
    thread_safe = False

    @contextmanager
    def open(self) -> Iterator[TakeRows]:
        with _reading(self.path), _opened(self.path) as file:
            # As rows ascend, what was read is never wanted again but for the last batch.
            first, values = 0, np.empty((0, self.shape[1]), self.dtype)
            group, batches = -1, self._batches(file, 0)

            def take(rows: np.ndarray) -> np.ndarray:
                nonlocal first, values, group, batches
                out = np.empty((len(rows), *self.shape[1:]), self.dtype)
                done = 0
                while done < len(rows):
                    wanted = int(rows[done])
                    if wanted >= first + len(values):
                        inside = int(np.searchsorted(self.ends, wanted, side="right"))
                        if inside != group:
                            group, batches = inside, self._batches(file, inside)
                            first, values = self.ends[group - 1] if group else 0, values[:0]
                        first += len(values)
                        values = next(batches)
                        continue
                    end = int(np.searchsorted(rows, first + len(values)))
                    out[done:end] = values[rows[done:end] - first]
                    done = end
                return out

            yield take

    def _batches(self, file: pq.ParquetFile, group: int) -> Iterator[np.ndarray]:
        """The rows of a row group, in order, as batches (n, columns)."""
        height = max(_BATCH // (self.shape[1] * max(self.dtype.itemsize, 4)), 1)
        first = self.ends[group - 1] if group else 0
        with _reading(self.path):
            for batch in file.iter_batches(height, [group], list(self.names), use_threads=False):
                yield self._values(batch, first)
                first += len(batch)

    def _values(self, batch: pa.RecordBatch, first: int) -> np.ndarray:
        out = np.empty((len(batch), self.shape[1]), self.dtype)
        for place, name in enumerate(self.names):
            array = batch.column(place)
            self._require_present(array, name, first)
            if _is_list(array.type):
                flat = array.flatten()
                if len(flat) != len(array) * self.shape[1] or (_lengths(array) != self.shape[1]).any():
                    row = first + int((_lengths(array) != self.shape[1]).argmax())
                    raise DataError(
                        f"the lists of `{name}` do not all have length {self.shape[1]}, as in row 0",
                        where=f"row {row} of {self.path}",
                        hint="pad or cut the lists to one length",
                    )
                if flat.null_count:
                    row = first + int(flat.is_null().to_numpy(zero_copy_only=False).argmax()) // self.shape[1]
                    raise self._missing(name, row)
                out[:] = flat.to_numpy(zero_copy_only=False).reshape(out.shape)
            else:
                out[:, place] = array.to_numpy(zero_copy_only=False)
        return out

    def _require_present(self, array: pa.Array, name: str, first: int) -> None:
        if array.null_count:
            row = first + int(array.is_null().to_numpy(zero_copy_only=False).argmax())
            raise self._missing(name, row)

    def _missing(self, name: str, row: int) -> DataError:
        where = f"row {row}, column `{name}` of {self.path}"
        return DataError("the value is missing", where=where, hint="fill it in, or remove the row")

    def locate(self, row: int) -> str:
        return f"row {row} of {self.where}"


def read_parquet(source: Source, inputs: Sequence[InputSpec], reading: Reading) -> list[Part]:
    """The samples of a Parquet file, as one part. #KEY names the column of labels.

    Raises DataError for a damaged file, missing columns, columns that are not numeric, and row groups that
    cannot be read in half the memory.
    """
    where = str(source.path)
    with _reading(source.path), _opened(source.path) as file:
        schema, footer = file.schema_arrow, file.metadata
        ends = tuple(accumulate(footer.row_group(k).num_rows for k in range(footer.num_row_groups)))
        for name in reading.groups:
            if name not in schema.names:
                raise no_column(name, schema.names, where)
        labelled = label_columns(schema.names, source, reading)
        if not ends or not ends[-1]:
            raise DataError("the table is empty", where=where, hint="give a file that has rows")
        others = [name for name in schema.names if name not in labelled]
        lists = [name for name in others if _is_list(schema.field(name).type)]
        bound = bind_columns(others, inputs, source.path, lists, reading.groups)
        table = _OpenFile(source.path, file, ends, reading.memory)
        columns = {spec.name: table.column(spec, bound.columns[spec.name]) for spec in inputs}
        label = ", ".join(labelled)
        return [
            Part(
                where=where,
                origin=str(source.path.resolve()),
                columns=columns,
                labels=table.labels(labelled, reading) if labelled else no_labels(columns),
                label_where=f"column `{label}` of {where}" if label else where,
                files=((f"table, labels {label}" if label else "table", source.path),),
                classes=labelled if len(labelled) > 1 else None,
                labelled=bool(labelled),
                notes=bound.notes,
                groups={
                    name: GroupColumn(f"column `{name}` of {where}", table.whole(name, "values"))
                    for name in reading.groups
                },
            )
        ]


@dataclass(frozen=True, eq=False)
class _OpenFile:
    """An open file. ends : as of `ParquetColumn`. memory : bytes that columns held whole may take."""

    path: Path
    file: pq.ParquetFile
    ends: tuple[int, ...]
    memory: int

    def column(self, spec: InputSpec, names: tuple[str, ...]) -> ParquetColumn | ArrayColumn:
        """What feeds an input, of whose columns nothing but the first row is read yet."""
        one = f"column `{names[0]}` of {self.path}"
        where = one if len(names) == 1 else f"{len(names)} columns of {self.path}"
        if spec.dtype == "object":
            texts = np.stack([self._texts(name, "text") for name in names], axis=1)
            return ArrayColumn(where, texts)
        schema = self.file.schema_arrow
        dtypes = [_number_type(schema.field(name).type, name, self.path) for name in names]
        dtype = np.result_type(*dtypes)
        width, held = len(names), self._held(names, dtype)
        if len(names) == 1 and _is_list(schema.field(names[0]).type):
            first = next(self.file.iter_batches(1, columns=[names[0]], use_threads=False))
            width = int(_lengths(first.column(0))[0])
        elif any(_is_list(schema.field(name).type) for name in names):
            raise DataError(
                "columns of lists and columns of numbers cannot be combined",
                where=self.path,
                hint=f"name the column of lists after the model's input, `{spec.name}`",
            )
        return ParquetColumn(where, self.path, names, self.ends, (self.ends[-1], width), dtype, held)

    def labels(self, names: tuple[str, ...], reading: Reading) -> np.ndarray:
        """One column of labels (N,), or marks (N, C) of several, in a column of lists or one for each."""
        lists = _is_list(self.file.schema_arrow.field(names[0]).type) and reading.several
        if len(names) == 1 and not lists:
            return self.whole(names[0], "labels")
        require_small(
            (self.ends[-1], len(names)), np.dtype(np.float64), str(self.path), "labels", self.memory
        )
        read = self.file.read(list(names), use_threads=False).columns
        return raw_marks([column.to_pylist() for column in read], f"column `{names[0]}` of {self.path}")

    def whole(self, name: str, what: str) -> np.ndarray:
        """A column (N,) of numbers or text. what : "labels", or "values" of groups."""
        dtype = self.file.schema_arrow.field(name).type
        if _is_text(dtype):
            return self._texts(name, what)
        where = f"column `{name}` of {self.path}"
        dtype = dtype.value_type if pa.types.is_dictionary(dtype) else dtype
        if not _is_number(dtype):
            hint = "store one class number, or the name of the class, in every row"
            hint = hint if what == "labels" else "store one whole number or text in every row"
            raise DataError(f"{what} are {dtype}, neither numbers nor text", where=where, hint=hint)
        kind = np.dtype(dtype.to_pandas_dtype())
        require_small((self.ends[-1],), kind, where, what, self.memory)
        self._held([name], kind)
        values, done = np.empty(self.ends[-1], kind), 0
        for batch in self.file.iter_batches(_TEXT_ROWS, columns=[name], use_threads=False):
            column = batch.column(0)
            if column.null_count:
                raise _missing_in(column, done, where, what)
            column = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
            values[done : done + len(batch)] = column.to_numpy(zero_copy_only=False)
            done += len(batch)
        return values

    def _texts(self, name: str, what: str) -> np.ndarray:
        """A column of text (N,). what : "labels", "values" of groups, or "text" that feeds an input."""
        where = f"column `{name}` of {self.path}"
        if not _is_text(self.file.schema_arrow.field(name).type):
            raise no_text(name, self.path)
        self._held([name], np.dtype(np.int32))
        parts: list[np.ndarray] = []
        longest, done = 1, 0
        with _opened(self.path, [name]) as file:
            for batch in file.iter_batches(_TEXT_ROWS, columns=[name], use_threads=False):
                column = batch.column(0)
                if column.null_count:
                    if what == "text":
                        raise no_text(name, self.path)
                    raise _missing_in(column, done, where, what)
                column = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
                try:
                    words = column.dictionary.to_pylist()
                except UnicodeDecodeError as error:
                    raise DataError(
                        "the text is not UTF-8" if what == "text" else f"the {what} are not UTF-8 text",
                        where=f"rows {done} to {done + len(batch) - 1}, {where}",
                        hint="write the text in UTF-8",
                    ) from error
                longest = max(longest, *map(len, words))
                require_small((self.ends[-1],), np.dtype(f"<U{longest}"), where, what, self.memory)
                parts.append(np.array(words, dtype=str)[column.indices.to_numpy()])
                done += len(batch)
        return np.concatenate(parts)

    def _held(self, names: Sequence[str], dtype: np.dtype) -> int:
        """Bytes that reading columns takes, as the sizes in the file's footer and pages say.

        Raises DataError for more than half the memory.
        """
        groups = [self.file.metadata.row_group(number) for number in range(self.file.num_row_groups)]
        group = max(groups, key=lambda one: one.total_byte_size)
        wanted = [
            place
            for place in range(group.num_columns)
            if {path := group.column(place).path_in_schema, path.rsplit(".", 2)[0]} & {*names}
        ]
        pages = sum(
            page_bytes(self.path, [pages_at(one.column(place)) for one in groups]) + _BUFFER
            for place in wanted
        )
        decoded = sum(group.column(place).num_values for place in wanted) * dtype.itemsize
        rows = max(group.num_rows, 1)
        held: int = pages + 2 * max(min(_BATCH, decoded), decoded // rows)
        if held > max(self.memory // 2, 2 * _BATCH + 2 * _PAGE):
            raise DataError(
                f"{len(wanted):,} columns in row groups of {rows:,} rows take {held / 2**20:,.0f} MiB to "
                f"read: more than half of the {self.memory / 2**20:,.0f} MiB of --memory for them",
                where=self.path,
                hint="write it in smaller row groups (`row_group_size`) and pages (`data_page_size`), or as"
                " one column of lists, or give more --memory",
            )
        return held


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What pyarrow raises while a file is read, as DataError."""
    try:
        yield
    except UnicodeDecodeError as error:
        hint = "write the names in UTF-8"
        raise DataError("the names of the columns are not UTF-8", where=path, hint=hint) from error
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"not a Parquet file: {reason}", where=path, hint="write it again") from error


def _opened(path: Path, dictionaries: Sequence[str] = ()) -> pq.ParquetFile:
    """dictionaries : columns to read as such. Read page by page: by default whole row groups are fetched."""
    return pq.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False, read_dictionary=[*dictionaries])


def _missing_in(column: pa.Array, done: int, where: str, what: str) -> DataError:
    row = done + int(column.is_null().to_numpy(zero_copy_only=False).argmax())
    hint = "give every row a label" if what == "labels" else "fill them in, or leave out these rows"
    return DataError(f"{what} are missing", where=f"row {row}, {where}", hint=hint)


def _number_type(dtype: pa.DataType, name: str, path: Path) -> np.dtype:
    dtype = dtype.value_type if _is_list(dtype) else dtype
    if _is_number(dtype):
        numpy_dtype: np.dtype = np.dtype(dtype.to_pandas_dtype())
        return numpy_dtype
    raise DataError(
        f"column `{name}` contains {dtype}, not numbers",
        where=path,
        hint="remove it from the file, or store it as the numbers that the model was trained on",
    )


def _is_number(dtype: pa.DataType) -> bool:
    return bool(pa.types.is_integer(dtype) or pa.types.is_floating(dtype) or pa.types.is_boolean(dtype))


def _is_list(dtype: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(dtype) or pa.types.is_large_list(dtype) or pa.types.is_fixed_size_list(dtype)
    )


def _is_text(dtype: pa.DataType) -> bool:
    dtype = dtype.value_type if pa.types.is_dictionary(dtype) else dtype
    return bool(
        pa.types.is_string(dtype) or pa.types.is_large_string(dtype) or pa.types.is_string_view(dtype)
    )


def _lengths(array: pa.Array) -> np.ndarray:
    """Lengths of the lists (n,)."""
    if pa.types.is_fixed_size_list(array.type):
        return np.full(len(array), array.type.list_size)
    return np.diff(array.offsets.to_numpy())
