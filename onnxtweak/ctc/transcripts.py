"""What stands in the lines of a dataset, and what does a model read in them?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from onnxtweak.ctc.alphabet import Alphabet

_UNKNOWN = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True, eq=False)
class Transcripts:
    """texts (N,) : what stands in each line; "" where that is not known. alphabet : None: not settled yet.

    misread : the model's own errors on some of them, by how many characters stand there.
    """

    texts: tuple[str, ...]
    alphabet: Alphabet | None = None
    misread: float = 0.0

    @property
    def rarest(self) -> np.ndarray:
        """A number for the rarest character of each line, (N,) int64, by which lines are dealt out."""
        count = Counter(character for text in self.texts for character in set(text))
        place = {character: number for number, character in enumerate(sorted(count))}
        found = [min(text, key=lambda one: (count[one], one)) if text else None for text in self.texts]
        return np.array([0 if one is None else place[one] for one in found], np.int64)

    def read(
        self, rows: np.ndarray, numbers: np.ndarray, positions: int, own: np.ndarray
    ) -> Iterator[tuple[int, str, str]]:
        """Of each line that all positions are given of: where they begin, what stands there, what is read.

        positions : by which rows count lines. own (lines,) int64 : how many each line has. rows, numbers
        (n,) int64 : positions, as of a view, and the class that is shown at each; -1 for one of which no more
        is known than that it is none of the others.
        """
        assert self.alphabet is not None  # settled when the model was opened
        of_line = rows // positions
        for line, start in zip(*np.unique(of_line, return_index=True), strict=True):
            path = numbers[start : start + own[line]]
            if self.texts[line] and len(path) == own[line] and of_line[start + own[line] - 1] == line:
                yield int(start), self.texts[line], self._text(path)

    def _text(self, path: np.ndarray) -> str:
        assert self.alphabet is not None
        if (path >= 0).all():
            return self.alphabet.read(path)
        characters = (*self.alphabet.characters, _UNKNOWN)
        last = len(characters) - 1
        return Alphabet(characters, self.alphabet.blank).read(np.where(path < 0, last, path))
