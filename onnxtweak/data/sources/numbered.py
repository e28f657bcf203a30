"""How is a .npz file read whose arrays are numbered: x_0, y_0, x_1, y_1? Each number is a part.

So samples of different sizes can be stored without Python objects, and read without loading them: an array
may be one sample, or several as a shard of a folder has them. What has no number is of all: an array with a
row for each number, of labels or groups; class names; single values of inputs.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from onnxtweak.data.array_names import CLASSES, SAMPLES, match_arrays, match_group
from onnxtweak.data.preprocess.one_sample import of_one_sample
from onnxtweak.data.samples import (
    ArrayColumn,
    Column,
    GroupColumn,
    InputSpec,
    NumberColumn,
    Part,
    Reading,
    no_labels,
    with_rows,
)
from onnxtweak.data.source_spec import Source
from onnxtweak.data.sources.npy import MappedColumn, read_header
from onnxtweak.data.sources.npz import DAMAGE, damaged, data_offset, names_in, read_npz
from onnxtweak.errors import DataError
from onnxtweak.input_files import require_regular

_NUMBERED = re.compile(r"(.+)_(\d+)")
_BLOCK = 1024**2


def read_npz_file(source: Source, inputs: Sequence[InputSpec], reading: Reading) -> list[Part]:
    """The samples of a .npz file: of numbered arrays a part for each number, else as `read_npz` has them."""
    require_regular(source.path, DataError)
    if source.key is not None or reading.boxes or not zipfile.is_zipfile(source.path):
        return read_npz(source, inputs, reading)
    with zipfile.ZipFile(source.path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        rows = with_rows(inputs)
        names = {*(spec.name for spec in rows), *(SAMPLES if len(rows) == 1 else ())}
        by_number = _by_number(members)
        if names & {*members} or not any(names & {*own} for own in by_number.values()):
            return read_npz(source, inputs, reading)
        held = _Members(source.path, archive, members, reading.memory)
        each = [
            _OfNumber(number, row, len(by_number), held, own)
            for row, (number, own) in enumerate(by_number.items())
        ]
        return [of_one_sample(one.part(inputs, reading), inputs) for one in each]


def _by_number(members: Mapping[str, zipfile.ZipInfo]) -> dict[str, dict[str, str]]:
    """Of each number, ascending, the stored names of its arrays by their names without it."""
    found: dict[str, dict[str, str]] = {}
    for name in members:
        if match := _NUMBERED.fullmatch(name):
            found.setdefault(match[2], {})[match[1]] = name
    return dict(sorted(found.items(), key=lambda pair: int(pair[0])))


@dataclass
class _Members:
    """The arrays of an archive that is open. memory : bytes; held : how many are loaded."""

    path: Path
    archive: zipfile.ZipFile
    members: Mapping[str, zipfile.ZipInfo]
    memory: int
    held: int = 0
    loaded: dict[str, np.ndarray] = field(default_factory=dict)

    @cached_property
    def plain(self) -> dict[str, str]:
        """The names without a number, by themselves."""
        return {name: name for name in self.members if not _NUMBERED.fullmatch(name)}

    def whole(self, name: str) -> np.ndarray:
        """An array, loaded once. Raises DataError, as `column`."""
        if name not in self.loaded:
            stored = self._opened(name, stay=False)
            assert isinstance(stored, np.ndarray)
            self.loaded[name] = stored
        return self.loaded[name]

    def column(self, name: str) -> Column:
        """An array as a column, mapped where it is not compressed.

        Raises DataError where it is damaged, no array of numbers or text, or takes too much memory.
        """
        stored = self._opened(name, stay=True)
        return stored if isinstance(stored, MappedColumn) else ArrayColumn(f"{name} in {self.path}", stored)

    def _opened(self, name: str, *, stay: bool) -> np.ndarray | MappedColumn:
        """stay : whether an array that is not compressed may stay in the file."""
        info, where = self.members[name], f"{name} in {self.path}"
        try:
            with self.archive.open(info) as stream:
                header = read_header(stream, where)
                if stay and info.compress_type == zipfile.ZIP_STORED:
                    offset = data_offset(self.path, info) + stream.tell()
                    while stream.read(_BLOCK):  # up to its end, where the checksum is compared
                        pass
                    return MappedColumn(where, self.path, offset, header.shape, header.dtype, header.fortran)
                self._take(header.nbytes, where)
                array = np.frombuffer(stream.read(), header.dtype)
                return array.reshape(header.shape, order="F" if header.fortran else "C")
        except DAMAGE as error:
            raise damaged(where, error) from error

    def _take(self, size: int, where: str) -> None:
        self.held += size
        if self.held > max(self.memory // 2, _BLOCK):
            raise DataError(
                f"labels and compressed arrays take more than {self.memory / 2**21:,.0f} MiB in memory",
                where=where,
                hint="allow more --memory, or store arrays uncompressed: numpy.savez",
            )


@dataclass(frozen=True)
class _OfNumber:
    """The arrays of one number, the `row`-th of `count`. own : their stored names."""

    number: str
    row: int
    count: int
    members: _Members
    own: Mapping[str, str]

    def part(self, inputs: Sequence[InputSpec], reading: Reading) -> Part:
        """Raises DataError for missing arrays, and for one of all numbers that has fewer or more rows."""
        path, found = self.members.path, {**self.members.plain, **self.own}
        where = f"{path}#{self.number}"
        arrays, labels = match_arrays(found, inputs, None, where, reading)
        groups = {name: match_group(found, name, None, where) for name in reading.groups}
        classes = next((name for name in CLASSES if name in self.members.plain), None)
        columns = {name: self._column(one) for name, one in arrays.items()}
        read = [found[one] for one in (*arrays.values(), *(() if labels is None else (labels,)))]
        return Part(
            where=str(path),
            origin=f"{path.resolve()}#{read[-1]}, {self.number}",
            columns=columns,
            labels=no_labels(columns) if labels is None else self._value(labels),
            label_where=f"{read[-1]} in {path}",
            files=((" ".join(read), path),),
            classes=None if classes is None else names_in(self.members.whole(classes)),
            groups={
                name: GroupColumn(f"{found[one]} in {path}", self._value(one)) for name, one in groups.items()
            },
            labelled=labels is not None,
            notes=(f"numbered arrays are read in the order of their numbers, of {self.count:,}",),
        )

    def _column(self, name: str) -> Column:
        if name in self.own:
            return self.members.column(self.own[name])
        value, where = self._value(name), f"{name} in {self.members.path}"
        return ArrayColumn(where, value) if value.ndim else NumberColumn(where, value)

    def _value(self, name: str) -> np.ndarray:
        """An array; of one without a number the row of this one, but for single values."""
        array = self.members.whole(self.own.get(name, name))
        if name in self.own or not array.ndim:
            return array
        if len(array) != self.count:
            raise DataError(
                f"{len(array):,} rows, but arrays of {self.count:,} numbers",
                where=f"{name} in {self.members.path}",
                hint="store a row for each number, or number this array too",
            )
        return np.asarray(array[self.row])
