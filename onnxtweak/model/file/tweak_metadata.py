"""Which tweaks are inside a model? A tweaked file ends with a record of the tweak, in its metadata."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from onnx import ModelProto, StringStringEntryProto

from onnxtweak.errors import ModelError
from onnxtweak.model.file import protobuf_edit

# What to do about a file without a tweak inside that one was looked for in.
COPY_HINT = (
    "where nothing did better than the base, the file that was written is a copy of it (`answer` is `base` in"
    " the result): it is the base, and there is nothing to verify or to revert; see `onnxtweak inspect`"
)

_METADATA = 14  # field number of ModelProto.metadata_props
_KEY = re.compile(r"onnxtweak\.([1-9][0-9]{0,5})\.([a-z0-9_]+)")


@dataclass(frozen=True)
class TweakInside:
    """What a tweaked model records about one tweak inside it.

    number : 1 for the first tweak. version : of onnxtweak. file_sha256, base_sha256 : of the model file that
    it was spliced into, and of it with its external data. prefix : what the names of its nodes start with.
    patch : neurons and weights, or only shapes where they are dense. undo : see `make_record`. digests : as
    text; None in files of versions that recorded none.
    """

    number: int
    version: str
    kind: str
    file_sha256: str
    base_sha256: str
    logits: str
    classes: int
    scale: float
    prefix: str
    patch: dict[str, Any]
    provenance: dict[str, Any]
    undo: dict[str, Any]
    digests: str | None = None

    @property
    def shadow(self) -> str | None:
        """Name of the output that shows the tweaked logits; None where they replace the base's."""
        name = self.patch.get("shadow")
        return name if isinstance(name, str) else None

    @property
    def facts(self) -> dict[str, Any]:
        """For JSON: everything but the undo record and the digests."""
        facts = asdict(self)
        del facts["undo"], facts["digests"]
        return facts


def recorded_axis(provenance: Mapping[str, Any]) -> int | None:
    """Which axis of scores at positions counted the classes when a tweak was made, 0 where none did.

    None where there were no positions, or anchors of a detector.
    """
    layout = provenance.get("logits_layout")
    if not isinstance(layout, str) or "P" not in layout or "detector" in provenance:
        return None
    return max(layout.find("C"), 0)


_AS_JSON = ("classes", "scale", "patch", "provenance", "undo")
_DIGESTS = "digests"
_FIELDS = tuple(name for name in TweakInside.__dataclass_fields__ if name not in ("number", _DIGESTS))


def tweaks_inside(proto: ModelProto) -> tuple[TweakInside, ...]:
    """The tweaks inside, in the order they were added. Raises ModelError where a record is damaged."""
    found: dict[int, dict[str, str]] = {}
    for entry in proto.metadata_props:
        if match := _KEY.fullmatch(entry.key):
            found.setdefault(int(match[1]), {})[match[2]] = entry.value
    return tuple(_read_record(number, found[number], len(found)) for number in sorted(found))


def make_record(
    length: int,
    back: Iterable[protobuf_edit.Edit],
    number: int,
    fields: Mapping[str, Any],
    digests: Mapping[str, Any],
) -> bytes:
    """The record of tweak `number`, to be appended to the tweaked model.

    back : the edits that turn its first `length` bytes into the base. fields : those of `TweakInside` but
    `number`, `undo` and `digests`. digests : of what was added; that of the record joins them here.
    """
    edits = [[edit.start, edit.end, base64.b64encode(edit.new).decode()] for edit in back]
    fields = {**fields, "undo": {"length": length, "edits": edits}}
    entries = [
        (_key(number, name), canonical_json(fields[name]) if name in _AS_JSON else str(fields[name]))
        for name in _FIELDS
    ]
    digests = {**digests, "record": record_digest(entries, digests)}
    return _record_bytes([*entries, (_key(number, _DIGESTS), canonical_json(digests))])


def record_entries(proto: ModelProto, number: int) -> list[tuple[str, str]]:
    """Keys and values of the metadata of tweak `number`, in file order."""
    return [
        (entry.key, entry.value) for entry in proto.metadata_props if entry.key.startswith(_key(number, ""))
    ]


def record_digest(entries: Iterable[tuple[str, str]], digests: Mapping[str, Any]) -> str:
    """sha256 in hex of a tweak's metadata, in any order, and of its other digests."""
    kept = sorted([key, value] for key, value in entries if key.split(".", 2)[2] != _DIGESTS)
    return hashlib.sha256(canonical_json([kept, dict(digests)]).encode()).hexdigest()


def before_record(data: bytes, entries: Iterable[tuple[str, str]]) -> memoryview | None:
    """The bytes of a tweaked model before its last record; None where it does not end with these entries."""
    record = _record_bytes(entries)
    return memoryview(data)[: len(data) - len(record)] if data.endswith(record) else None


def is_field(key: str) -> bool:
    """Whether every version knows this key of a tweak's metadata."""
    match = _KEY.fullmatch(key)
    return match is not None and match[2] in _FIELDS


def _key(number: int, name: str) -> str:
    return f"onnxtweak.{number}.{name}"


def _record_bytes(entries: Iterable[tuple[str, str]]) -> bytes:
    return b"".join(
        protobuf_edit.record(_METADATA, StringStringEntryProto(key=key, value=value).SerializeToString())
        for key, value in entries
    )


def canonical_json(value: Any) -> str:
    """JSON with one text per value: keys sorted, no spaces, ASCII, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _read_record(number: int, texts: dict[str, str], count: int) -> TweakInside:
    try:
        if number > count:
            raise ValueError("an earlier tweak's record is missing")
        if missing := [name for name in _FIELDS if name not in texts]:
            raise ValueError(f"'{missing[0]}' is missing")
        fields: dict[str, Any] = {
            name: json.loads(texts[name]) if name in _AS_JSON else texts[name] for name in _FIELDS
        }
        for name in ("patch", "provenance", "undo"):
            if not isinstance(fields[name], dict):
                raise ValueError(f"'{name}' is not an object")
        fields["classes"], fields["scale"] = int(fields["classes"]), float(fields["scale"])
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ModelError(
            f"the model's record of a tweak is damaged: {error}",
            where=f"metadata onnxtweak.{number}.*",
            hint="the file was changed after it was tweaked; use the base model itself",
        ) from error
    return TweakInside(number=number, **fields, digests=texts.get(_DIGESTS))
