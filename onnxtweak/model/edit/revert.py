"""How is a tweak reverted, and which file was the model before?

A tweaked file ends with its own record: metadata about the tweak, and the edits that undo it. Reverting is
therefore exact, whatever program wrote the base, and proven by the sha256 of the base.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence

from onnxtweak.errors import ModelError, VerificationError
from onnxtweak.model.edit.digests import deviations
from onnxtweak.model.file import protobuf_edit
from onnxtweak.model.file.model_file import ModelFile, parse
from onnxtweak.model.file.tweak_metadata import COPY_HINT, TweakInside, tweaks_inside


def revert(data: bytes, steps: int | str = 1) -> bytes:
    """The model file as it was before the last tweak, the last `steps` tweaks, or "all" of them.

    Raises ModelError when the model has fewer tweaks inside, VerificationError when the result is not, byte
    for byte, the file that the tweak was spliced into.
    """
    inside = tweaks_inside(parse(data))
    steps = len(inside) if steps == "all" else int(steps)
    if not 1 <= steps <= len(inside):
        count = {0: "no tweak", 1: "one tweak"}.get(len(inside), f"{len(inside)} tweaks")
        hint = "see `onnxtweak inspect`" if inside else COPY_HINT
        raise ModelError(f"the model has {count} inside", where=f"{steps} to revert", hint=hint)
    for tweak in reversed(inside[-steps:]):
        data = revert_tweak(data, tweak)
    return data


def revert_tweak(data: bytes, tweak: TweakInside) -> bytes:
    """The file into which `tweak`, the last one inside `data`, was spliced.

    Raises VerificationError as `revert` does.
    """
    where = f"tweak {tweak.number}"
    try:
        length, edits = tweak.undo["length"], tweak.undo["edits"]
        if not isinstance(length, int) or not 0 <= length <= len(data):
            raise ValueError("its length exceeds the file")
        back = [
            protobuf_edit.Edit(int(start), int(end), base64.b64decode(old, validate=True))
            for start, end, old in edits
        ]
        base = b"".join(protobuf_edit.apply(memoryview(data)[:length], back)[0])
    except (KeyError, TypeError, ValueError, OverflowError, binascii.Error, ModelError) as error:
        raise VerificationError(
            f"the tweak's undo record does not fit this file: {error}",
            where=where,
            hint="the file was changed after it was tweaked; use the base model itself",
        ) from error
    if hashlib.sha256(base).hexdigest() != tweak.file_sha256:
        raise VerificationError(
            f"without the tweak the file is not the base (sha256 {tweak.file_sha256[:12]}) byte for byte",
            where=where,
            hint="the file was changed after it was tweaked; use the base model itself",
        )
    return base


def rewriting(model: ModelFile, inside: Sequence[TweakInside]) -> str:
    """What another tool did to a tweaked file since it was written, in words; nothing where it is as it was.

    Such a file has the record of its tweaks, but they no longer come off byte for byte; or not even a record.
    """
    if not inside and any(node.name.startswith("onnxtweak/") for node in model.graph.nodes):
        return "another tool made this file of a tweaked one, without the record: it cannot be reverted"
    data = model.data
    try:
        for tweak in reversed(inside):
            data = revert_tweak(data, tweak)
    except VerificationError:
        changed = len(deviations(model.proto, inside))
        said = (
            "what the tweak added is as it was" if not changed else f"{changed:,} parts of the tweak changed"
        )
        return f"another tool wrote this file anew after it was tweaked ({said}): it cannot be reverted"
    return ""
