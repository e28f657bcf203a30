"""Which characters do the classes of a model stand for? An option says so, or the model's metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from onnxtweak.ctc.alphabet import Alphabet, alphabet_in, read_alphabet
from onnxtweak.engine.opened import Opened
from onnxtweak.engine.passes import Engine
from onnxtweak.engine.session import session_of
from onnxtweak.engine.subject import Subject
from onnxtweak.errors import UsageError
from onnxtweak.settings import DataSettings

_KEY = "character"  # under which RapidOCR's models hold theirs


def with_alphabet(data: DataSettings, opened: Opened) -> DataSettings:
    """The settings with the characters themselves: of the file that they name, or of the model's metadata.

    Raises DataError for a damaged one, UsageError where one is given for a model that does not decide at
    every position.
    """
    if not opened.may_be_at_positions:
        if data.alphabet is None and data.blank is None:
            return data
        raise UsageError(
            "the model gives one answer a sample: it does not read text",
            where="--blank" if data.alphabet is None else "--alphabet",
            hint="leave it out; --names FILE says what its classes are called",
        )
    if isinstance(data.alphabet, str):
        return replace(data, alphabet=read_alphabet(data.alphabet))
    held = {entry.key: entry.value for entry in opened.model.proto.metadata_props}
    if data.alphabet is None and held.get(_KEY):
        return replace(data, alphabet=alphabet_in(held[_KEY], f"`{_KEY}` of {opened.model.path}"))
    return data


def alphabet_of(
    subject: Subject, data: DataSettings, feeds: Mapping[str, np.ndarray], engine: Engine
) -> Alphabet:
    """The alphabet of a model. data : with the characters. feeds : a few samples by input name.

    Which class is the blank is asked of the model where nobody says: of first and last, the one that it shows
    at more positions. Raises DataError where the alphabet does not fit.
    """
    assert data.alphabet is not None and not isinstance(data.alphabet, str)
    blank = data.blank
    if blank is None:
        exposed = subject.exposed()
        session = session_of(subject.model, exposed.proto, engine.settings)
        shown = subject.run(session, exposed.logits, feeds).reshape(-1, subject.classes).argmax(axis=1)
        last = int((shown == subject.classes - 1).sum())
        blank = "last" if last > int((shown == 0).sum()) else "first"
    return Alphabet.of_classes(tuple(data.alphabet), subject.classes, first=blank == "first")
