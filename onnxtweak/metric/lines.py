"""How well are lines of text read? Character error rate, word error rate, lines that are right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxtweak.metric.kinds import Metric, Predictions, Weighing


@dataclass(frozen=True, eq=False)
class LinesRead(Predictions):
    """What a model reads in N lines. texts, read (N,) : what stands in them, and what was read.

    As `Predictions`: class 1 for a line that is read as it stands, of which every line is one.
    """

    texts: tuple[str, ...] = ()
    read: tuple[str, ...] = ()

    @classmethod
    def of(cls, texts: Sequence[str], read: Sequence[str]) -> LinesRead:
        """The same from both, (N,)."""
        right = np.array([one == other for one, other in zip(texts, read, strict=True)], np.int64)
        empty = np.zeros((len(right), 2))
        return cls(np.ones_like(right), right, empty, tuple(texts), tuple(read))


@dataclass(frozen=True, eq=False)
class ErrorRate(Metric):
    """Insertions, deletions and substitutions that turn what was read into what stands there, by its length.

    of_words : of words, else of characters.
    """

    of_words: bool = False

    @property
    def sign(self) -> int:
        return -1

    def weighed(self, made: Predictions) -> Weighing:
        assert isinstance(made, LinesRead)
        pairs = [
            (text.split(), read.split()) if self.of_words else (text, read)
            for text, read in zip(made.texts, made.read, strict=True)
        ]
        wrong = np.array([edit_distance(text, read) for text, read in pairs], np.float64)
        length = np.array([len(text) for text, _ in pairs], np.float64)
        return lambda weights: weights @ wrong / np.maximum(weights @ length, 1.0)


class LinesRight(Metric):
    """The share of lines that are read as they stand."""

    def weighed(self, made: Predictions) -> Weighing:
        right = (made.predicted == made.labels).astype(np.float64)
        return lambda weights: weights @ right / weights.sum(axis=1)


CHARACTERS = ErrorRate("cer", "character error rate")
WORDS = ErrorRate("wer", "word error rate", of_words=True)
LINES = LinesRight("lines", "lines read right")


def edit_distance(one: Sequence[str], other: Sequence[str]) -> int:
    """Levenshtein's distance of two sequences."""
    if one == other:
        return 0
    symbols = {symbol: number for number, symbol in enumerate({*one, *other})}
    a, b = (np.array([symbols[symbol] for symbol in each], np.int64) for each in (one, other))
    places = np.arange(len(b) + 1)
    row = places
    for number, symbol in enumerate(a.tolist(), 1):
        best = np.append(number, np.minimum(row[:-1] + (b != symbol), row[1:] + 1))
        # An insertion may follow from any place to the left.
        row = np.minimum.accumulate(best - places) + places
    return int(row[-1])
