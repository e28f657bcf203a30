"""Which tweaks are inside a model, and what was the model before?

A tweaked file ends with its own record: metadata that says what was put in, and the edits that take it out
again. Reverting is therefore exact whatever program wrote the base, and proven by the sha256 the base had.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

from onnxtweak.errors import ModelError, VerificationError
from onnxtweak.model.file import protobuf_edit
from onnxtweak.model.file.model_file import parse
from onnxtweak.model.file.tweak_metadata import TweakInside, tweaks_inside


def revert(data: bytes, steps: int | str = 1) -> bytes:
    """The model file as it was before the last tweak, the last `steps` tweaks, or "all" of them.

    Raises ModelError when there are not so many tweaks inside, VerificationError when the result is not, byte
    for byte, the file that the tweak was put into.
    """
    inside = tweaks_inside(parse(data))
    steps = len(inside) if steps == "all" else int(steps)
    if not 1 <= steps <= len(inside):
        count = {0: "no tweak", 1: "one tweak"}.get(len(inside), f"{len(inside)} tweaks")
        raise ModelError(
            f"the model has {count} inside", where=f"{steps} to take off", hint="see `onnxtweak inspect`"
        )
    for tweak in reversed(inside[-steps:]):
        data = take_off(data, tweak)
    return data


def take_off(data: bytes, tweak: TweakInside) -> bytes:
    """The file that `tweak`, the last inside `data`, was put into. Raises VerificationError as `revert`."""
    where = f"tweak {tweak.number}"
    try:
        length, edits = tweak.undo["length"], tweak.undo["edits"]
        if not isinstance(length, int) or not 0 <= length <= len(data):
            raise ValueError("it starts outside the file")
        back = [
            protobuf_edit.Edit(int(start), int(end), base64.b64decode(old, validate=True))
            for start, end, old in edits
        ]
        base = b"".join(protobuf_edit.apply(memoryview(data)[:length], back)[0])
    except (KeyError, TypeError, ValueError, OverflowError, binascii.Error, ModelError) as error:
        raise VerificationError(
            f"the record that takes the tweak off does not fit this file: {error}",
            where=where,
            hint="the file was changed after it was tweaked; take the base model itself",
        ) from error
    if hashlib.sha256(base).hexdigest() != tweak.file_sha256:
        raise VerificationError(
            f"without the tweak the file is not the base (sha256 {tweak.file_sha256[:12]}) byte for byte",
            where=where,
            hint="the file was changed after it was tweaked; take the base model itself",
        )
    return base
