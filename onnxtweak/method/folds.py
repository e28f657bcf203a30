"""Which samples are held out together in cross-validation? Its folds."""

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
        """As many folds of samples with labels (N,). judged : default all."""
        all_samples = np.ones(len(labels), bool)
        return cls(fold_numbers(labels, folds, seed), all_samples if judged is None else judged, seed)

    @property
    def numbers(self) -> np.ndarray:
        """The folds that have samples, ascending."""
        return np.unique(self.number)

    def held_out(self, fold: int) -> np.ndarray:
        """Samples of a fold, (n,) int64."""
        return np.flatnonzero(self.number == fold)

    def learning(self, fold: int) -> np.ndarray:
        """Samples of all other folds, (n,) int64."""
        return np.flatnonzero(self.number != fold)

    def learning_weight(self, fold: int) -> np.ndarray:
        """Weight of each sample, (N,) float64: 1 in all other folds, 0 in this one."""
        return (self.number != fold).astype(np.float64)


def fold_numbers(labels: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Fold of each sample, (N,) int64 in [0, folds); every class is spread over them as evenly as it goes."""
    shuffle = np.random.Generator(np.random.PCG64(seed)).permutation
    fold = np.empty(len(labels), np.int64)
    done = 0
    for number in np.unique(labels):
        rows = shuffle(np.flatnonzero(labels == number))
        # Each class begins where the last one ended, so that the folds come out even.
        fold[rows] = (np.arange(len(rows)) + done) % folds
        done += len(rows)
    return fold
