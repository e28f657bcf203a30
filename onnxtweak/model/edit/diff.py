"""How do two models differ, and does a tweak account for every difference?

All fields of the two files are compared, including those unknown to this version of ONNX. Lists whose entries
have names (nodes: the tensors they write) are matched by name, so that an insertion is one difference.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, MutableSequence, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from onnx import ModelProto, NodeProto, SparseTensorProto, StringStringEntryProto, TensorProto

from onnxtweak.errors import ModelError
from onnxtweak.model.edit.digests import KINDS, Deviation, deviations, part_name
from onnxtweak.model.file.model_file import parse
from onnxtweak.model.file.tweak_metadata import TweakInside, is_field, tweaks_inside

_NAME_FIELDS = ("name", "key", "domain", "tensor_name")
_LONGEST_TEXT = 60


@dataclass(frozen=True)
class Difference:
    """One difference between two models.

    kind : "added", "removed", "changed" or "reordered". where : path of the field, with names in brackets.
    detail : the old and the new value. expected : whether splicing in a tweak makes exactly this difference.
    """

    kind: str
    where: str
    detail: str
    expected: bool


def diff(base: ModelProto | bytes, tweaked: ModelProto | bytes) -> tuple[Difference, ...]:
    """Every difference between two models; empty when they are equal.

    A difference is expected when a tweak recorded inside `tweaked`, and not inside `base`, accounts for it,
    and the tweak's digests, if it has any, agree with it. A damaged record accounts for nothing.
    Raises ModelError when one of the models cannot be parsed.
    """
    base = parse(base, "base") if isinstance(base, bytes) else base
    tweaked = parse(tweaked, "tweaked") if isinstance(tweaked, bytes) else tweaked
    before, after = _readable(base), _readable(tweaked)
    changed = [found for found in deviations(tweaked, after) if found.number > len(before)]
    comparison = _DiffWalk(after[len(before) :], changed)
    return (*comparison.messages(base, tweaked, "", ""), *_beside_the_graph(changed))


def only_the_splice(differences: Iterable[Difference]) -> bool:
    """Whether every difference is one that splicing in a tweak makes."""
    return all(difference.expected for difference in differences)


def _readable(model: ModelProto) -> tuple[TweakInside, ...]:
    """The tweaks inside a model; none where a record is damaged, for it then accounts for nothing."""
    try:
        return tweaks_inside(model)
    except ModelError:
        return ()


def _beside_the_graph(changed: Iterable[Deviation]) -> Iterator[Difference]:
    """What no entry of the graph shows: parts that are gone, and metadata that was changed."""
    for found in changed:
        if found.how == "missing":
            yield Difference("removed", found.part, f"recorded by tweak {found.number}", False)
        elif not found.part.startswith(tuple(KINDS.values())):
            where = f"metadata_props[onnxtweak.{found.number}.*]"
            yield Difference("changed", where, f"{found} after it was written", False)


class _DiffWalk:
    """Compares messages recursively.

    tweaks : those that account for differences. changed : what is not as it was when they were put in.
    """

    def __init__(self, tweaks: Sequence[TweakInside], changed: Iterable[Deviation]) -> None:
        self.prefixes = tuple(tweak.prefix for tweak in tweaks)
        self.changed = {found.part: found.number for found in changed}
        self.keys = tuple(f"onnxtweak.{tweak.number}." for tweak in tweaks)
        self.digested = tuple(f"onnxtweak.{tweak.number}." for tweak in tweaks if tweak.digests is not None)
        replaced = [tweak for tweak in tweaks if tweak.shadow is None]
        self.shadows: set[str] = {tweak.shadow for tweak in tweaks if tweak.shadow is not None}
        self.logits = {tweak.logits for tweak in replaced} | self.shadows
        # The first tweak on these logits renamed what the base's node writes; later ones rename added nodes.
        self.renamed = {tweak.logits: tweak.prefix + "logits" for tweak in reversed(replaced)}
        self.original = {new: old for old, new in self.renamed.items()}

    def messages(self, old: Message, new: Message, where: str, path: str) -> Iterator[Difference]:
        """Differences field by field. where : path for people; path : the same without names in brackets.

        Parts of messages are compared as they are serialised first, which is faster: but not the graph, whose
        weights that would copy.
        """
        if isinstance(old, TensorProto):
            yield Difference("changed", where, f"{_describe(old)} -> {_describe(new)}", False)
            return
        before, after = _fields(old), _fields(new)
        for name in {**before, **after}:
            inner = (f"{where}.{name}" if where else name, f"{path}.{name}" if path else name)
            one, other = before.get(name), after.get(name)
            if isinstance(one if other is None else other, MutableSequence):
                yield from self._lists(list(one or ()), list(other or ()), *inner)
            elif one is None or other is None:
                change = "added" if one is None else "removed"
                yield Difference(change, inner[0], _describe(other if one is None else one), False)
            elif isinstance(one, Message):
                if inner[1] == "graph" or not _identical(one, other):
                    yield from self.messages(one, other, *inner)
            elif _exactly(one) != _exactly(other):
                yield Difference("changed", inner[0], f"{_describe(one)} -> {_describe(other)}", False)
        if _unknown(old) != _unknown(new):
            detail = "fields unknown to this version of ONNX"
            yield Difference("changed", where or "model", detail, False)

    def _lists(self, old: list[Any], new: list[Any], where: str, path: str) -> Iterator[Difference]:
        if not all(isinstance(item, Message) for item in (*old, *new)):
            if [*map(_exactly, old)] != [*map(_exactly, new)]:
                expected = path == "graph.node.output" and self._is_rename(old, new)
                yield Difference("changed", where, f"{_describe(old)} -> {_describe(new)}", expected)
            return
        kept = []
        for item in new:
            if self._is_addition(item, path):
                yield self._addition(item, where, path)
            else:
                kept.append(item)
        before, after = self._by_key(old), self._by_key(kept)
        for key in {**before, **after}:
            if key not in before:
                yield Difference("added", _at(where, after[key]), _describe(after[key]), False)
            elif key not in after:
                yield Difference("removed", _at(where, before[key]), _describe(before[key]), False)
            elif not _identical(before[key], after[key]):
                yield from self.messages(before[key], after[key], _at(where, before[key]), path)
        if [key for key in before if key in after] != [key for key in after if key in before]:
            yield Difference("reordered", where, "the same entries in another order", False)

    def _is_addition(self, item: Any, path: str) -> bool:
        """Whether a tweak adds this entry to the list at `path`."""
        if path == "metadata_props":  # a digest covers any key; without one, only known keys are a tweak's
            known = item.key.startswith(self.keys) and is_field(item.key)
            return bool(known or item.key.startswith(self.digested))
        if path == "graph.node":
            own = (name in self.logits or name.startswith(self.prefixes) for name in item.output)
            return bool(item.name.startswith(self.prefixes) and all(own))
        if path == "graph.output":
            return item.name in self.shadows
        return path in ("graph.initializer", "graph.input") and bool(item.name.startswith(self.prefixes))

    def _addition(self, item: Any, where: str, path: str) -> Difference:
        """What a tweak added; not expected where it was changed afterwards."""
        field = path.removeprefix("graph.")
        number = self.changed.get(part_name(field, item)) if field in KINDS else None
        detail = _describe(item) if number is None else f"{_describe(item)}, not what tweak {number} added"
        return Difference("added", _at(where, item), detail, number is None)

    def _is_rename(self, old: list[str], new: list[str]) -> bool:
        """Whether a node's outputs are the same but for the logits, which the tweak now writes."""
        return new == [self.renamed.get(name, name) for name in old]

    def _by_key(self, items: list[Message]) -> dict[tuple[Any, int], Message]:
        """Entries by name and occurrence, in file order: entries with equal names, or none, are numbered."""
        seen: Counter[Any] = Counter()
        keyed: dict[tuple[Any, int], Message] = {}
        for item in items:
            if isinstance(item, NodeProto):
                key: Any = tuple(self.original.get(name, name) for name in item.output)
            else:
                key = _name(item)
            keyed[key, seen[key]] = item
            seen[key] += 1
        return keyed


def _fields(message: Message) -> dict[str, Any]:
    return {field.name: value for field, value in message.ListFields()}


def _name(item: Message) -> str:
    if isinstance(item, SparseTensorProto):
        return str(item.values.name)  # a sparse tensor has its values' name
    known = item.DESCRIPTOR.fields_by_name
    return next((str(getattr(item, name)) for name in _NAME_FIELDS if name in known), "")


def _at(where: str, item: Message) -> str:
    if isinstance(item, NodeProto):
        return f"{where}[{item.op_type} {item.name or ','.join(item.output)}]"
    return f"{where}[{_name(item)}]"


def _exactly(value: Any) -> Any:
    """The value, with floats as text, so that NaN equals itself and -0.0 differs from 0.0."""
    return repr(value) if isinstance(value, float) else value


def _bytes(message: Message) -> bytes:
    return bytes(message.SerializeToString(deterministic=True))


def _identical(old: Message, new: Message) -> bool:
    # Serialising would copy large weights. Comparing messages ignores the sign of zero, but not in raw data.
    if isinstance(old, TensorProto) and old.raw_data and old == new:
        return True
    return _bytes(old) == _bytes(new)


def _unknown(message: Message) -> list[tuple[int, int, Any]]:
    return [(field.field_number, field.wire_type, field.data) for field in UnknownFieldSet(message)]


def _describe(value: Any) -> str:
    """A value in a few words; a large one by its digest."""
    if isinstance(value, TensorProto):
        known = value.data_type in TensorProto.DataType.values()
        dtype = TensorProto.DataType.Name(value.data_type) if known else f"type {value.data_type} "
        return f"{dtype}{list(value.dims)} sha256 {_digest(_bytes(value))}"
    if isinstance(value, NodeProto):
        return f"{value.op_type}({', '.join(value.input)}) -> {', '.join(value.output)}"
    if isinstance(value, StringStringEntryProto):
        value = value.value
    elif isinstance(value, Message):
        value = _bytes(value)
    text = f"{len(value):,} bytes sha256 {_digest(value)}" if isinstance(value, bytes) else repr(value)
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}..."


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]
