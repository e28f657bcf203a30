"""Which characters do the classes of a model stand for? An option says so, or the model's metadata."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnxtweak.ctc.alphabet import Alphabet, alphabet_in, read_alphabet
from onnxtweak.engine.opened import Opened
from onnxtweak.errors import UsageError
from onnxtweak.metric.lines import edit_distance
from onnxtweak.settings import DataSettings

_KEY = "character"  # under which RapidOCR's models hold theirs


def with_alphabet(data: DataSettings, opened: Opened) -> DataSettings:
    """The settings with the characters themselves: of the file that they name, or of the model's metadata.

    Raises DataError for a damaged one, UsageError where one is given for a model that does not decide at
    every position.
    """
    if opened.detector is not None and (data.alphabet is not None or data.blank is not None):
        raise UsageError(
            "the model finds objects: it does not read text",
            where="--blank" if data.alphabet is None else "--alphabet",
            hint="leave it out; --names FILE says what its classes are called",
        )
    if not opened.may_be_at_positions:
        if data.alphabet is None and data.blank is None:
            return data
        shape = opened.logits.shape
        unclear = opened.logits.layout is None and shape is not None and len(shape) > 2
        raise UsageError(
            "the model shows no class at each position"
            if unclear
            else "the model gives one answer a sample: it does not read text",
            where="--blank" if data.alphabet is None else "--alphabet",
            hint="if its scores (N, positions, C) have not been through a softmax, add --class-axis 2"
            if unclear
            else "leave it out; --names FILE says what its classes are called",
        )
    if isinstance(data.alphabet, str):
        return replace(data, alphabet=read_alphabet(data.alphabet))
    held = {entry.key: entry.value for entry in opened.model.proto.metadata_props}
    if data.alphabet is None and held.get(_KEY):
        return replace(data, alphabet=alphabet_in(held[_KEY], f"`{_KEY}` of {opened.model.path}"))
    return data


def alphabet_of(data: DataSettings, classes: int, seen: Sequence[tuple[str, np.ndarray]]) -> Alphabet:
    """The alphabet of a model of so many classes. data : with the characters.

    seen : what stands in some lines, and the classes (P,) that the model shows there. Which class is the
    blank is found by them where nobody says: of the first, the last and the one that is shown most, that with
    which the lines are read with the fewest errors. Raises DataError where the alphabet does not fit.
    """
    assert data.alphabet is not None and not isinstance(data.alphabet, str)
    characters = tuple(data.alphabet)
    if data.blank is not None or not seen:
        return Alphabet.of_classes(characters, classes, data.blank or 0)
    shown = np.bincount(np.concatenate([path for _, path in seen]), minlength=classes)
    candidates = sorted({0, classes - 1, int(shown.argmax())}, key=lambda one: (-shown[one], one))
    alphabets = [Alphabet.of_classes(characters, classes, one) for one in candidates]
    return min(alphabets, key=lambda one: sum(edit_distance(text, one.read(path)) for text, path in seen))
