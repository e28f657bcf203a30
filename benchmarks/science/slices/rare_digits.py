"""Which digits does the slice benchmark use? A rare sub-class made here.

One digit comes in two ways: as it is, and, for 5 % of all samples, rotated, mirrored or upside down: a rare
sub-class, which a net learns less well than the rest. All random numbers are seeded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


def _quarter(x: np.ndarray) -> np.ndarray:
    return np.rot90(x, axes=(1, 2))


KINDS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "rotated": _quarter,
    "mirrored": lambda x: x[:, :, ::-1],
    "upside down": lambda x: x[:, ::-1],
}
# A digit and what is done to it, by seed.
CASES = ((4, "rotated"), (7, "mirrored"), (2, "upside down"), (5, "mirrored"), (3, "rotated"))


@dataclass(frozen=True)
class Digits:
    """Samples of one draw. x (N, 784) float32 in [0, 1]; y (N,) int64; rare (N,) bool : the sub-class."""

    x: np.ndarray
    y: np.ndarray
    rare: np.ndarray

    def save(self, path: str) -> None:
        """As an .npz whose column `kind` says which samples are of the sub-class."""
        np.savez(path, x=self.x, y=self.y, kind=np.where(self.rare, "rare", "usual"))


def draw(
    images: np.ndarray, labels: np.ndarray, sizes: tuple[int, int], seed: int, rng: np.random.Generator
) -> Digits:
    """sizes : how many samples, and how many of them of the sub-class of this seed; none is drawn twice."""
    digit, kind = CASES[seed]
    count, few = sizes
    rare = rng.choice(np.flatnonzero(labels == digit), few, replace=False)
    usual = rng.choice(np.setdiff1d(np.arange(len(labels)), rare), count - few, replace=False)
    rows = np.concatenate([rare, usual])
    x = images[rows].copy()
    x[:few] = KINDS[kind](x[:few])
    order = rng.permutation(count)
    flat = x[order].reshape(count, -1).astype(np.float32) / 255
    return Digits(flat, labels[rows][order].astype(np.int64), (np.arange(count) < few)[order])
