"""How much does a patch move the logits of samples that must stay? The measure that repairs keep small.

With columns x of unit deviation, a patch `W, b` moves the logits of guarded rows by `x W + b`. Its
disturbance is the mean over these rows of `|x W + b|^2`, plus `_RIDGE |W|^2` for directions in which they do
not vary. `features` turns columns so that the disturbance is the squared length of the weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxtweak.engine.machine.large_arrays import blocks, column_sums, end_to_end
from onnxtweak.method.solvers.standard import mean_and_scale
from onnxtweak.patch import Linear

# On columns of unit deviation; measured on digits and photographs, between 1e-3 and 1e-1 little changes.
_RIDGE = 0.01
# Fewer guarded rows than this do not tell how columns vary together.
_FEWEST = 2
# Half of a triangle that is inverted as a whole.
_BLOCK = 48


@dataclass(frozen=True, eq=False)
class Disturbance:
    """Guarded rows as they vary. center, scale (K,) float64 : of the columns of T; inf for a constant one.

    turn (K, K) float64 : columns into features; the transposed inverse of the Cholesky factor of the second
    moments of guarded rows plus the ridge.
    """

    center: np.ndarray
    scale: np.ndarray
    turn: np.ndarray

    @classmethod
    def of(cls, guarded: np.ndarray, listed: np.ndarray) -> Disturbance:
        """T (n, K) of guarded rows, of which there may be none, and of listed ones, for scales."""
        if len(guarded) < _FEWEST:
            both = np.concatenate([guarded, listed])
            scale = np.sqrt((both.astype(np.float64) ** 2).mean(axis=0))
            return cls(np.zeros(len(scale)), np.where(scale > 0, scale, np.inf), np.eye(len(scale)))
        _, scale = mean_and_scale(end_to_end([guarded, listed]))
        center = column_sums(guarded) / len(guarded)
        moments = np.zeros((len(scale), len(scale)))
        for _, block in blocks(guarded):
            X = ((block - center) / scale).astype(np.float32)
            moments += X.T @ X
        return cls(center, scale, _turn(moments / len(guarded) + _RIDGE * np.eye(len(scale))))

    def features(self, T: np.ndarray) -> np.ndarray:
        """T (n, K) turned, and a column of ones for the bias: (n, K + 1) float32."""
        found = np.ones((len(T), len(self.scale) + 1), np.float32)
        found[:, :-1] = ((T - self.center) / self.scale).astype(np.float32) @ self.turn.astype(np.float32)
        return found

    def linear(self, U: np.ndarray) -> Linear:
        """Weights U (K + 1, C) of the features as a patch of T."""
        weight = (self.turn @ U[:-1]) / self.scale[:, None]
        return Linear(weight, U[-1] - self.center @ weight)


def _turn(moments: np.ndarray) -> np.ndarray:
    return _inverse(np.linalg.cholesky(moments)).T


def _inverse(lower: np.ndarray) -> np.ndarray:
    """Of a lower triangular matrix, half by half: a sixth of what `numpy.linalg.inv` computes."""
    half = len(lower) // 2
    if half < _BLOCK:
        inverse: np.ndarray = np.linalg.inv(lower)
        return inverse
    found = np.zeros_like(lower)
    found[:half, :half], found[half:, half:] = _inverse(lower[:half, :half]), _inverse(lower[half:, half:])
    found[half:, :half] = -found[half:, half:] @ (lower[half:, :half] @ found[:half, :half])
    return found
