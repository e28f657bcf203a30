"""Which character does each class of a CTC head stand for, and which class is the blank?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from onnxtweak.ctc.alignment import collapsed
from onnxtweak.errors import DataError
from onnxtweak.input_files import MOST_TEXT, require_regular

_SPACE = " "
BLANK_NAME, SPACE_NAME = "(blank)", "(space)"


@dataclass(frozen=True)
class Alphabet:
    """characters (C,) : of each class, "" for the blank. blank : its class number."""

    characters: tuple[str, ...]
    blank: int

    @classmethod
    def of_classes(cls, characters: tuple[str, ...], classes: int, blank: int) -> Alphabet:
        """The alphabet of C classes. blank : the number of its class; -1: the last.

        A model may have a class for the space that its list leaves out, after all others. Raises DataError
        where the list is of another length.
        """
        lacks = classes - 1 - len(characters)
        if lacks == 1 and _SPACE not in characters:
            characters = (*characters, _SPACE)
        elif lacks:
            raise DataError(
                f"the alphabet has {len(characters):,} characters, and the model {classes:,} classes",
                where="--alphabet",
                hint="give one character a line for each class but the blank, in the model's order; a space "
                "at the end may be left out",
            )
        if blank >= classes:
            raise DataError(
                f"there is no class {blank:,}: the model has {classes:,}",
                where="--blank",
                hint=f"give a number from 0 to {classes - 1:,}, or -1 for the last class",
            )
        blank %= classes
        return cls((*characters[:blank], "", *characters[blank:]), blank)

    @cached_property
    def _number(self) -> dict[str, int]:
        return {character: number for number, character in enumerate(self.characters) if character}

    @property
    def names(self) -> tuple[str, ...]:
        """What the classes are called where they are listed, (C,)."""
        shown = {"": BLANK_NAME, _SPACE: SPACE_NAME}
        return tuple(shown.get(character, character) for character in self.characters)

    def numbers(self, text: str) -> np.ndarray:
        """The classes (n,) int64 that a text is spelt with. Raises KeyError for a character without one."""
        return np.array([self._number[character] for character in text], np.int64)

    def unknown(self, texts: Iterable[str]) -> str | None:
        """The first character of the texts that has no class."""
        return next((one for text in texts for one in text if one not in self._number), None)

    def read(self, path: np.ndarray) -> str:
        """The text that the classes (P,) at the positions of a sample mean: greedy decoding."""
        return "".join(self.characters[number] for number in collapsed(path, self.blank).tolist())


def read_alphabet(path: str | Path) -> tuple[str, ...]:
    """Characters from a file with one a line. Raises DataError for an unreadable file and for duplicates."""
    require_regular(path, DataError, MOST_TEXT)
    hint = "write one character a line, in UTF-8"
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the alphabet cannot be read: {error}", where=path, hint=hint) from error
    return alphabet_in(text, path)


def alphabet_in(text: str, where: object) -> tuple[str, ...]:
    """The characters of a text with one a line. Raises DataError for duplicates and empty lines."""
    characters = tuple(text.removesuffix("\n").split("\n"))
    lines: dict[str, int] = {}
    for number, character in enumerate(characters, 1):
        hint = "write each character once, alone on its line"
        if not character:
            raise DataError(f"line {number} of the alphabet is empty", where=where, hint=hint)
        if character in lines:
            what = f"`{character}` is in line {lines[character]} and {number} of the alphabet"
            raise DataError(what, where=where, hint=hint)
        lines[character] = number
    return characters
