"""How large are the pages of a Parquet file? As the header of each says, before any is decompressed.

A page is read and decompressed as a whole. Writers make pages of about 1 MiB, but nothing in the format keeps
one from having 2 GiB, in a file of a few kilobytes. What is read here of the headers (Thrift's compact
protocol, struct PageHeader) is described in the format's own documents: apache/parquet-format,
`parquet.thrift`, and apache/thrift, `doc/specs/thrift-compact-protocol.md`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from onnxtweak.errors import DataError

_HEADER, _LONGEST_HEADER = 1024, 16 * 1024**2  # bytes; headers may quote values of the column
_MOST_DEPTH = 16
_UNCOMPRESSED, _COMPRESSED, _DICTIONARY = 2, 3, 7  # fields of PageHeader
_STOP, _TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _STRUCT = 0, 1, 2, 3, 7, 8, 12  # types of fields
_INTEGERS, _LISTS, _LONG_LIST = (4, 5, 6), (9, 10), 15


def page_bytes(path: Path, chunks: Iterable[tuple[int, int]]) -> int:
    """Bytes that the largest pages of a column take while they are read, its dictionary included.

    chunks : where in the file its pages are, in each row group: the first byte and how many, compressed.
    Raises DataError for headers that are damaged, OSError.
    """
    pages, dictionaries = 0, 0
    with path.open("rb") as file:
        for start, length in chunks:
            for uncompressed, compressed, dictionary in _pages(file, start, start + length, path):
                if dictionary:
                    dictionaries = max(dictionaries, uncompressed)
                else:
                    pages = max(pages, uncompressed + compressed)
    return pages + dictionaries


def _pages(file: BinaryIO, position: int, end: int, path: Path) -> Iterator[tuple[int, int, bool]]:
    """Of each page: its bytes uncompressed and compressed, and whether it is a dictionary."""
    while position < end:
        length, fields = _header_at(file, position, path)
        uncompressed, compressed = fields.get(_UNCOMPRESSED, 0), fields.get(_COMPRESSED, 0)
        if min(uncompressed, compressed) < 0:
            raise _damaged(path)
        yield uncompressed, compressed, _DICTIONARY in fields
        position += length + compressed


def _header_at(file: BinaryIO, position: int, path: Path) -> tuple[int, dict[int, int]]:
    """Length of the page header there, and its fields; those that are no numbers as 0."""
    size = _HEADER
    while True:
        file.seek(position)
        data = file.read(size)
        try:
            return _Struct(data).read()
        except IndexError as error:
            if len(data) < size or size >= _LONGEST_HEADER:
                raise _damaged(path) from error
            size *= 8
        except ValueError as error:
            raise _damaged(path) from error


def _damaged(path: Path) -> DataError:
    return DataError("not a Parquet file: the header of a page is damaged", where=path, hint="write it again")


class _Struct:
    """Reads a struct of Thrift's compact protocol. Raises IndexError where the bytes end before it does."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def read(self) -> tuple[int, dict[int, int]]:
        """Its length in bytes, and its fields by number: integers, and 0 for anything else."""
        fields = self._fields(0)
        if self._at > len(self._data):
            raise IndexError("the struct goes on")
        return self._at, fields

    def _fields(self, depth: int) -> dict[int, int]:
        fields: dict[int, int] = {}
        number = 0
        while (head := self._byte()) & 0x0F != _STOP:
            number = number + (head >> 4) if head >> 4 else self._integer()
            fields[number] = self._value(head & 0x0F, depth)
        return fields

    def _value(self, kind: int, depth: int) -> int:
        if depth > _MOST_DEPTH:
            raise ValueError("structs inside structs without end")
        if kind in _INTEGERS:
            return self._integer()
        if kind == _STRUCT:
            self._fields(depth + 1)
        elif kind == _BINARY:
            length = self._varint()
            self._at += length
        elif kind in (_BYTE, _DOUBLE):
            self._at += 1 if kind == _BYTE else 8
        elif kind in _LISTS:
            self._list(depth + 1)
        elif kind not in (_TRUE, _FALSE):
            raise ValueError("no page header")
        return 0

    def _list(self, depth: int) -> None:
        head = self._byte()
        count = head >> 4 if head >> 4 < _LONG_LIST else self._varint()
        kind = _BYTE if head & 0x0F in (_TRUE, _FALSE) else head & 0x0F
        for _ in range(count):
            self._value(kind, depth)

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise ValueError("a number without end")

    def _integer(self) -> int:
        """A signed integer, which is written as its distance from zero, twice (zigzag)."""
        value = self._varint()
        return (value >> 1) ^ -(value & 1)


def pages_at(chunk: Any) -> tuple[int, int]:
    """Where a column's pages of a row group begin in the file, and how many bytes they take there.

    chunk : its metadata, as pyarrow has them.
    """
    first = chunk.data_page_offset
    if chunk.has_dictionary_page:
        first = min(first, chunk.dictionary_page_offset or first)
    return int(first), int(chunk.total_compressed_size)
