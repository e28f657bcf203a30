"""How are CSV files read: as a table of numbers and text, or as a list of pictures? Streamed, in one pass.

A first line that names columns, with numbers or text below it, is a table: columns feed the inputs by name,
and one holds the labels (see `table_columns`). Lines of path,label are a list of pictures. Cells are
separated by commas, semicolons, tabs or bars.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import TextIO

import numpy as np

from onnxtweak.data.groups import no_column, values_of_text
from onnxtweak.data.samples import ArrayColumn, Column, GroupColumn, InputSpec, Part, Reading, no_labels
from onnxtweak.data.several.marks import marks_of_text
from onnxtweak.data.source_spec import Source, listed_name
from onnxtweak.data.sources.held_whole import require_small
from onnxtweak.data.sources.image_source import SUFFIXES, path_column, read_image_list
from onnxtweak.data.sources.spool import Spool, SpoolFolder
from onnxtweak.data.sources.table_columns import bind_columns, label_columns, listed
from onnxtweak.errors import DataError

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_MISSING = ("nan", "na", "n/a", "null", "none", "?")  # as others write an empty cell
_CHUNK = 1 << 18  # cells that are converted at a time: some 20 MB as Python objects
_LONGEST_LINE = 1 << 26  # characters
_EITHER = "write a first line that names the columns and numbers below it, or path,label on every line"


@dataclass(frozen=True)
class _Line:
    """number : in the file, from 1; of the last, where a quoted cell spans several."""

    number: int
    cells: list[str]


def read_csv(source: Source, inputs: Sequence[InputSpec], reading: Reading) -> list[Part]:
    """The samples of a CSV file, as one part. #KEY names a table's column of labels.

    Raises DataError, naming line and column, for what is neither a table nor a list of pictures, for empty
    cells, and for text where the model takes numbers.
    """
    try:
        _require_text(source.path)
        delimiter = _delimiter(source.path)
        with _lines(source.path, delimiter) as lines:
            start = list(islice(lines, 2))
            if not start:
                raise DataError("the CSV is empty", where=source.path, hint=_EITHER)
            place = path_column(*(line.cells for line in start))
            headed = place is not None
            if _lists_pictures(start, place, source.path.parent):
                head = [cell.strip() for cell in start[0].cells] if headed else []
                cells = [line.cells for line in (*start[headed:], *lines)]
                return [read_image_list(source, head, cells, inputs, reading)]
            _require_header(start, source.path)
            reader = _TableReader(source, inputs, [cell.strip() for cell in start[0].cells], reading)
            return [reader.read([*start[1:]], lines, delimiter)]
    except UnicodeDecodeError as error:
        raise DataError(
            f"the CSV is not UTF-8: {error}", where=source.path, hint="save it as UTF-8"
        ) from error
    except (OSError, csv.Error) as error:
        raise DataError(f"the CSV cannot be read: {error}", where=source.path, hint=_EITHER) from error


@dataclass(frozen=True)
class _TableReader:
    """names : of the columns, in file order."""

    source: Source
    inputs: Sequence[InputSpec]
    names: list[str]
    reading: Reading

    def read(self, begun: list[_Line], lines: Iterator[_Line], delimiter: str) -> Part:
        """begun : lines that were read already. lines : the others."""
        path = self.source.path
        grouping = self.reading.groups
        for name in grouping:
            if name not in self.names:
                raise no_column(name, self.names, path)
        labelled = label_columns(self.names, self.source, self.reading)
        others = [name for name in self.names if name not in labelled]
        bound = bind_columns(others, self.inputs, path, groups=grouping)
        used = [name for columns in bound.columns.values() for name in columns]
        self._require_one_each([*labelled, *used, *grouping])
        notes = [] if delimiter == "," else [f"cells are separated by {_DELIMITERS[delimiter]}"]
        whole: dict[str, list[np.ndarray]] = {name: [] for name in (*labelled, *grouping)}
        rows = 0
        folder = SpoolFolder()
        with ExitStack() as stack:
            spools = {}
            for number, spec in enumerate(self.inputs):
                place = folder.path / f"{number}.values"
                file = stack.enter_context(place.open("wb", buffering=0))
                spools[spec.name] = Spool(
                    folder, place, file, (len(bound.columns[spec.name]),), _stored_type(spec)
                )
            texts: dict[str, list[np.ndarray]] = {spec.name: [] for spec in self.inputs}
            height = max(_CHUNK // len(self.names), 1)
            while chunk := [*begun, *islice(lines, height - len(begun))]:
                begun = []
                self._require_one_width(chunk)
                for name, cells in whole.items():
                    bare = name in labelled and len(labelled) > 1
                    cells.append(self._texts(chunk, (name,), rows, bare=bare)[:, 0])
                    self._require_room(cells, name, "labels" if name in labelled else "values")
                for name, group in bound.columns.items():
                    if spools[name].dtype.kind == "O":
                        texts[name].append(self._texts(chunk, group, rows))
                        self._require_room(texts[name], group[0], "text")
                    else:
                        values = self._numbers(chunk, group, spools[name].dtype, rows)
                        spools[name].append(values, name, str(path))
                rows += len(chunk)
        if not rows:
            raise DataError("the CSV names its columns, but has no rows", where=path, hint=_EITHER)
        columns: dict[str, Column] = {}
        for name, group in bound.columns.items():
            where = f"column `{group[0]}` of {path}" if len(group) == 1 else f"{len(group)} columns of {path}"
            text = spools[name].dtype.kind == "O"
            columns[name] = (
                ArrayColumn(where, np.concatenate(texts[name])) if text else spools[name].column(where)
            )
        held = {name: np.concatenate(cells) for name, cells in whole.items()}
        groups = {
            name: GroupColumn(f"column `{name}` of {path}", values_of_text(held[name])) for name in grouping
        }
        labels = None if not labelled else _raw_labels(held[labelled[0]])
        if len(labelled) > 1:
            marks = [marks_of_text(held[name], f"column `{name}` of {path}") for name in labelled]
            labels = np.stack(marks, axis=1)
        return self._part(labelled, labels, columns, groups, (*notes, *bound.notes))

    def _part(
        self,
        labelled: tuple[str, ...],
        labels: np.ndarray | None,
        columns: Mapping[str, Column],
        groups: Mapping[str, GroupColumn],
        notes: tuple[str, ...],
    ) -> Part:
        path, label = self.source.path, ", ".join(labelled)
        several = len(labelled) > 1
        return Part(
            where=str(path),
            origin=str(path.resolve()),
            columns=columns,
            labels=no_labels(columns) if labels is None else labels,
            label_where=f"column{'s' * several} `{label}` of {path}" if label else str(path),
            files=((f"table, labels {label}" if label else "table", path),),
            classes=labelled if several else None,
            notes=notes,
            groups=groups,
            labelled=labels is not None,
        )

    def _require_room(self, parts: list[np.ndarray], name: str, what: str) -> None:
        """Raise DataError where text that was read so far takes too much memory as one array."""
        shape = (sum(map(len, parts)), *parts[-1].shape[1:])
        longest = max((part.dtype for part in parts), key=lambda dtype: dtype.itemsize)
        require_small(shape, longest, f"column `{name}` of {self.source.path}", what, self.reading.memory)

    def _texts(
        self, chunk: list[_Line], group: tuple[str, ...], first: int, *, bare: bool = False
    ) -> np.ndarray:
        """Cells of the named columns, (n, columns) of text. first : row of the first. bare : may be empty."""
        places = [self.names.index(name) for name in group]
        cells = [[line.cells[place].strip() for place in places] for line in chunk]
        for row, values in enumerate(cells):
            if "" in values and not bare:
                raise self._bad(chunk[row], first + row, group[values.index("")])
        return np.array(cells, dtype=str)

    def _numbers(self, chunk: list[_Line], group: tuple[str, ...], dtype: np.dtype, first: int) -> np.ndarray:
        """Cells of the named columns, (n, columns) of `dtype`. first : row of the first."""
        places = [self.names.index(name) for name in group]
        pick = itemgetter(*places)
        kind = int if dtype.kind == "i" else float
        try:
            rows = [pick(line.cells) for line in chunk]
            if len(group) == 1:
                rows = [(cell,) for cell in rows]
            with np.errstate(over="ignore"):
                values = np.array([[*map(kind, cells)] for cells in rows], dtype)
        except (ValueError, OverflowError):
            values = np.array(np.nan)
        if np.isfinite(values).all():
            return values
        row, name = next(
            (row, name)
            for row, line in enumerate(chunk)
            for place, name in zip(places, group, strict=True)
            if not _holds(line.cells[place], dtype)
        )
        raise self._bad(chunk[row], first + row, name, dtype)

    def _bad(self, line: _Line, row: int, name: str, dtype: np.dtype | None = None) -> DataError:
        cell = line.cells[self.names.index(name)].strip()
        where = f"line {line.number} (row {row}), column `{name}` of {self.source.path}"
        if not cell:
            return DataError("the cell is empty", where=where, hint="fill it in, or remove the row")
        whole = dtype is not None and dtype.kind == "i"
        what = "no whole number, which the model takes" if whole else "not a finite number"
        hint = "remove the column from the file, or store it as the numbers that the model was trained on"
        if cell.replace(",", ".", 1).replace(".", "", 1).lstrip("+-").isdecimal() and "," in cell:
            hint = "write decimal points, not commas"
        elif cell.lower() in _MISSING:
            hint = "fill it in, or remove the row"
        return DataError(f"`{cell}` is {what}", where=where, hint=hint)

    def _require_one_width(self, chunk: list[_Line]) -> None:
        for line in chunk:
            if len(line.cells) != len(self.names):
                raise DataError(
                    f"{len(line.cells)} cells, but {len(self.names)} columns",
                    where=f"line {line.number} of {self.source.path}",
                    hint="give every line one cell per column, and quote cells that contain the separator",
                )

    def _require_one_each(self, used: list[str]) -> None:
        twice = next((name for name in used if self.names.count(name) > 1), None)
        if twice is not None:
            raise DataError(
                f"two columns are named `{twice}`",
                where=self.source.path,
                hint=f"give every column its own name; columns: {listed(self.names)}",
            )


def _require_text(path: Path) -> None:
    """Raise DataError for what other programs also call a CSV: UTF-16, or something packed."""
    with path.open("rb") as file:
        head = file.read(4096)
    if head.startswith((b"\x1f\x8b", b"PK\3\4", b"BZh", b"\xfd7zXZ")):
        raise DataError("the CSV is compressed", where=path, hint="unpack it, and give the file inside")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in head[:-1]:
        hint = f"save it as UTF-8: iconv -f UTF-16 -t UTF-8 {path} > OTHER.csv"
        raise DataError("the CSV is UTF-16, or no text", where=path, hint=hint)


@contextmanager
def _lines(path: Path, delimiter: str) -> Iterator[Iterator[_Line]]:
    """The lines of a CSV that are not empty."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(_limited(file, path), delimiter=delimiter)
        yield (_Line(reader.line_num, cells) for cells in reader if any(cells))


def _limited(file: TextIO, path: Path) -> Iterator[str]:
    """The lines of a file. Raises DataError for one that would take too much memory."""
    number = 0
    while line := file.readline(_LONGEST_LINE + 1):
        number += 1
        if len(line) > _LONGEST_LINE:
            raise DataError(
                f"the line is longer than {_LONGEST_LINE:,} characters",
                where=f"line {number} of {path}",
                hint="give every sample a line of its own; store large samples as .npz or .parquet",
            )
        yield line


def _delimiter(path: Path) -> str:
    """The separator that divides the first lines into the most cells, as many in each; a comma in doubt."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = list(islice(_limited(file, path), 20))
    counts = {}
    for delimiter in _DELIMITERS:
        widths = {len(cells) for cells in csv.reader(first, delimiter=delimiter) if any(cells)}
        counts[delimiter] = widths.pop() if len(widths) == 1 else 0
    best = max(counts, key=counts.__getitem__)  # the first of equals
    return best if counts[best] > 1 else ","


def _lists_pictures(start: list[_Line], place: int | None, folder: Path) -> bool:
    """Whether the lines have paths of pictures. place : of these, where the first line names it."""
    headed = place is not None
    first = start[headed:][:1]
    if not first:
        return headed
    cell = first[0].cells[place or 0].strip()
    if headed and len(first[0].cells) <= 2 and not _is_number(cell):
        return True
    return cell.lower().endswith(SUFFIXES) or (
        bool(cell) and os.path.isfile(folder / listed_name(folder, cell))
    )


def _require_header(start: list[_Line], path: Path) -> None:
    if all(map(_is_number, start[0].cells)):
        raise DataError(
            "the first line does not name the columns",
            where=path,
            hint="write a first line with a name for each column, and `label` above the labels",
        )
    if len(start[0].cells) < 2:
        raise DataError("neither a table nor a list of pictures", where=path, hint=_EITHER)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _holds(cell: str, dtype: np.dtype) -> bool:
    """Whether `dtype` holds the number that a cell says."""
    try:
        with np.errstate(over="ignore"):
            return bool(np.isfinite(np.array(int(cell) if dtype.kind == "i" else float(cell), dtype)))
    except (ValueError, OverflowError):
        return False


def _stored_type(spec: InputSpec) -> np.dtype:
    """The type in which a column is kept: text as it is, whole numbers in full, others as floats."""
    if spec.dtype == "object":
        return np.dtype(object)
    if spec.dtype in ("float64", "bool") or "int" in spec.dtype:
        return np.dtype(np.float64 if spec.dtype == "float64" else np.int64)
    return np.dtype(np.float32)


def _raw_labels(labels: np.ndarray) -> np.ndarray:
    """Whole numbers, also if written as 3.0, as int64; anything else as text."""
    try:
        numbers = labels.astype(np.float64)
        if (numbers == np.round(numbers)).all() and np.abs(numbers).max() < 2**53:
            return numbers.astype(np.int64)
    except ValueError:
        pass
    return labels
