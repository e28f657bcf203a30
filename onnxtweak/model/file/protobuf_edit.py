"""How is a protobuf file scanned and edited byte by byte, so that the rest stays as it was written?

Parsing a model and serialising it again moves unknown fields, rewrites padded lengths and merges split
messages. Here only the records that change are rewritten, and the lengths of the records around them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from mmap import mmap

from onnxtweak.errors import ModelError

Buffer = bytes | memoryview | mmap
VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10


@dataclass(frozen=True, slots=True)
class Field:
    """One record of a message. All positions are offsets into the scanned buffer.

    number, wire_type : from the tag. start : first byte of the tag. after_tag : first byte after it.
    value : first byte of the payload (after the length, where there is one). end : one past the last byte.
    """

    number: int
    wire_type: int
    start: int
    after_tag: int
    value: int
    end: int


@dataclass(frozen=True, slots=True)
class Edit:
    """Bytes [start, end) of a buffer become `new`; an insertion has start == end."""

    start: int
    end: int
    new: bytes

    @property
    def growth(self) -> int:
        """By how many bytes the buffer gets longer."""
        return len(self.new) - (self.end - self.start)


def scan(buffer: Buffer, start: int = 0, end: int | None = None) -> Iterator[Field]:
    """The records of the message at [start, end), in file order.

    Raises ModelError where the bytes are not a whole number of well-formed records.
    """
    end = len(buffer) if end is None else end
    at = start
    while at < end:
        tag, after_tag = _read_varint(buffer, at, end)
        number, wire_type = tag >> 3, tag & 7
        if number == 0 or tag >= 1 << 32:
            raise _malformed("a record has an invalid field number", at)
        value = after_tag
        if wire_type == LENGTH_DELIMITED:
            length, value = _read_varint(buffer, after_tag, end)
            stop = value + length
        elif wire_type == VARINT:
            _, stop = _read_varint(buffer, after_tag, end)
        elif wire_type == FIXED64:
            stop = value + 8
        elif wire_type == FIXED32:
            stop = value + 4
        else:
            raise _malformed(f"a record has wire type {wire_type}, which ONNX does not use", at)
        if stop > end:
            need, left = stop - value, end - value
            raise _malformed(f"field {number} needs {need:,} bytes, only {left:,} are left", at)
        yield Field(number, wire_type, at, after_tag, value, stop)
        at = stop


def varint(number: int) -> bytes:
    """`number` >= 0 as a protobuf varint, as short as possible."""
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def record(number: int, payload: bytes) -> bytes:
    """A length-delimited record: tag, length, payload."""
    return varint(number << 3 | LENGTH_DELIMITED) + varint(len(payload)) + payload


def relength(enclosing: Field, inner: Iterable[Edit]) -> Edit:
    """The edit that updates the length of `enclosing` for the `inner` edits."""
    length = enclosing.end - enclosing.value + sum(edit.growth for edit in inner)
    return Edit(enclosing.after_tag, enclosing.value, varint(length))


def apply(buffer: bytes | memoryview, edits: Iterable[Edit]) -> tuple[list[bytes | memoryview], list[Edit]]:
    """The edited buffer in chunks, and the edits that turn it back into `buffer`. Nothing large is copied.

    Several insertions at one position keep their order. Raises ModelError when edits overlap, or are outside
    the buffer.
    """
    view = memoryview(buffer)
    out: list[bytes | memoryview] = []
    back: list[Edit] = []
    at = written = 0
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end)):
        if not at <= edit.start <= edit.end <= len(buffer):
            raise ModelError(
                "edits overlap or are outside the file",
                where=f"bytes {edit.start} to {edit.end}",
                hint="the record of the edits does not belong to this file",
            )
        written += edit.start - at
        out += [view[at : edit.start], edit.new]
        back.append(Edit(written, written + len(edit.new), bytes(view[edit.start : edit.end])))
        written += len(edit.new)
        at = edit.end
    out.append(view[at:])
    return out, back


def fields(records: Iterable[Field], number: int) -> list[Field]:
    """Those records that hold a message, string or bytes under `number`.

    One with the right number and another wire type is an unknown field to every reader, and left out.
    """
    return [field for field in records if field.number == number and field.wire_type == LENGTH_DELIMITED]


def _read_varint(buffer: Buffer, at: int, end: int) -> tuple[int, int]:
    """The number at `at`, and the position after it."""
    value = 0
    for count in range(_LONGEST_VARINT):
        if at + count >= end:
            raise _malformed("the data ends in the middle of a number", at)
        byte = buffer[at + count]
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            return value, at + count + 1
    raise _malformed("a number is longer than ten bytes", at)


def _malformed(what: str, at: int) -> ModelError:
    return ModelError(
        f"damaged protobuf data: {what}", where=f"byte {at:,}", hint="download or export the model again"
    )
