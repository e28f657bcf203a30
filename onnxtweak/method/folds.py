"""Which samples are held out together in cross-validation?"""

from __future__ import annotations

import numpy as np


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
