"""Is what a tweak added still what was written? Digests in its record say so, part by part.

A part is an array, a node, or a declaration of an input or output. Arrays are digested by value (type, shape,
little-endian numbers), however a tool stores them; nodes and declarations as they are serialised, with the
outputs that a later tweak renamed under their first names. Digests find damage; they are no signature.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from onnxtweak.model.file.tweak_metadata import (
    TweakInside,
    before_record,
    canonical_json,
    record_digest,
    record_entries,
)

# What a part is called, by the list of the graph that it is in.
KINDS = {"node": "node", "initializer": "array", "input": "input", "output": "output"}
_TYPED_VALUES = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")
_VALUES = ("name", "dims", "data_type", "data_location", "raw_data", *_TYPED_VALUES)


@dataclass(frozen=True)
class Deviation:
    """A part of tweak `number` that is not as it was written. how : "changed", "missing" or "added"."""

    number: int
    part: str
    how: str

    def __str__(self) -> str:
        verb = "is missing" if self.how == "missing" else f"was {self.how}"
        return f"{self.part} of tweak {self.number} {verb}"


def part_name(field: str, item: Any) -> str:
    """How a part is called, in digests and messages. field : the graph's list that it is in."""
    return f"{KINDS[field]} {item.name}"


def part_digests(
    graph: GraphProto, prefix: str, output: str | None, later: Sequence[TweakInside] = ()
) -> dict[str, str]:
    """sha256 in hex of each part, by `part_name`, among all of a graph.

    prefix : what the names of parts start with. output : the output that the tweak added. later : tweaks that
    were put into the model afterwards.
    """
    found = {}
    for field in KINDS:
        for item in getattr(graph, field):
            if item.name == output if field == "output" else item.name.startswith(prefix):
                name = part_name(field, item)
                found[name] = "there twice" if name in found else _digest(item, later)
    return found


def file_digest(chunks: Iterable[bytes | memoryview]) -> str:
    """sha256 in hex of a tweaked model's bytes up to its record."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def deviations(proto: ModelProto, inside: Sequence[TweakInside]) -> tuple[Deviation, ...]:
    """What differs from the digests of the tweaks `inside` the model; those without digests are left out."""
    return tuple(
        deviation
        for place, tweak in enumerate(inside, start=1)
        if tweak.digests is not None
        for deviation in _of_tweak(proto, tweak, inside[place:])
    )


def bytes_changed(data: bytes, proto: ModelProto, tweak: TweakInside) -> bool:
    """Whether `data`, which ends with the record of `tweak`, is not the file that was written, byte for byte.

    proto : a model with the same record inside.
    """
    recorded = _recorded(tweak)
    body = before_record(data, record_entries(proto, tweak.number))
    return recorded is None or body is None or file_digest([body]) != recorded["file"]


def _of_tweak(proto: ModelProto, tweak: TweakInside, later: Sequence[TweakInside]) -> Iterator[Deviation]:
    recorded = _recorded(tweak)
    if recorded is None:
        yield Deviation(tweak.number, "the list of digests", "changed")
        return
    others = {name: value for name, value in recorded.items() if name != "record"}
    if record_digest(record_entries(proto, tweak.number), others) != recorded["record"]:
        yield Deviation(tweak.number, "the record", "changed")
    parts, found = recorded["parts"], part_digests(proto.graph, tweak.prefix, tweak.shadow, later)
    for name in {**parts, **found}:
        if name not in found:
            yield Deviation(tweak.number, name, "missing")
        elif found[name] != parts.get(name):
            yield Deviation(tweak.number, name, "changed" if name in parts else "added")


def _recorded(tweak: TweakInside) -> dict[str, Any] | None:
    """The digests of the record: "parts" by name, "record", "file"; None where they are damaged."""
    try:
        read = json.loads(tweak.digests or "")
        canonical_json(read)
        fits = isinstance(read["parts"], dict) and {"file", "record"} <= set(read)
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    return read if fits else None


def _digest(item: Message, later: Sequence[TweakInside]) -> str:
    if isinstance(item, TensorProto):
        return _array_digest(item)
    if isinstance(item, NodeProto):
        node = NodeProto()
        node.CopyFrom(item)
        node.output[:] = [_first_name(name, later) for name in item.output]
        item = node
    return hashlib.sha256(item.SerializeToString(deterministic=True)).hexdigest()


def _first_name(name: str, later: Sequence[TweakInside]) -> str:
    """The name of a node's output before the later tweaks; two outputs never get the same."""
    for tweak in reversed(later):
        if tweak.shadow is None:
            renamed = f"{tweak.prefix}logits"
            name = {renamed: tweak.logits, tweak.logits: renamed}.get(name, name)
    return name


def _array_digest(tensor: TensorProto) -> str:
    more = [field.name for field, _ in tensor.ListFields() if field.name not in _VALUES]
    if tensor.data_location != TensorProto.DEFAULT or more or len(UnknownFieldSet(tensor)):
        return "not its numbers alone"
    digest = hashlib.sha256(f"{tensor.data_type} {list(tensor.dims)}\n".encode())
    if any(len(getattr(tensor, name)) for name in _TYPED_VALUES):
        try:
            digest.update(numpy_helper.from_array(numpy_helper.to_array(tensor)).raw_data)
        except Exception:  # what ONNX raises for a tensor that makes no sense has no common class
            return "not readable"
    else:
        digest.update(tensor.raw_data)
    return digest.hexdigest()
