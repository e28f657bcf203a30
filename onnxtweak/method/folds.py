"""Which samples are held out together in cross-validation?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Folds:
    """How candidates are cross-validated.

    number (N,) int64 : fold of each sample. judged (N,) bool : samples that choices may be judged on (those
    the base has not been trained on, where that is known). seed : of everything drawn on the way.
    """

    number: np.ndarray
    judged: np.ndarray
    seed: int = 0

    @classmethod
    def of(cls, labels: np.ndarray, folds: int, seed: int, judged: np.ndarray | None = None) -> Folds:
        """So many folds of samples with labels (N,). judged : default all."""
        everything = np.ones(len(labels), bool)
        return cls(fold_numbers(labels, folds, seed), everything if judged is None else judged, seed)

    @property
    def numbers(self) -> np.ndarray:
        """The folds that have samples, ascending."""
        return np.unique(self.number)


def fold_numbers(labels: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Fold of each sample, (N,) int64 in [0, folds); every class is spread over them as evenly as it goes."""
    shuffle = np.random.Generator(np.random.PCG64(seed)).permutation
    fold = np.empty(len(labels), np.int64)
    given = 0
    for number in np.unique(labels):
        rows = shuffle(np.flatnonzero(labels == number))
        # Small classes begin where the last one ended, so that the folds come out even.
        fold[rows] = (np.arange(len(rows)) + given) % folds
        given += len(rows)
    return fold
