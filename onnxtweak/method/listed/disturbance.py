"""How much does a patch move the logits of samples that must stay? The measure that repairs keep small.

With columns x of unit deviation, a patch `W, b` moves the logits of guarded rows by `x W + b`. Its
disturbance is the mean over these rows of `|x W + b|^2`, plus `_RIDGE |W|^2` for directions in which they do
not vary. `features` turns columns so that the disturbance is the squared length of the weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxtweak.method.solvers.standard import mean_and_scale
from onnxtweak.patch import Linear

# On columns of unit deviation; measured on digits and photographs, between 1e-3 and 1e-1 little changes.
_RIDGE = 0.01
# Fewer guarded rows than this do not tell how columns vary together.
_FEWEST = 2
# Rows that are turned at a time.
_AT_ONCE = 4096


@dataclass(frozen=True, eq=False)
class Disturbance:
    """Guarded rows as they vary. center, scale (K,) float64 : of the columns of T; inf for a constant one.

    factor (K, K) float64 : lower Cholesky factor of the second moments of guarded rows plus the ridge.
    """

    center: np.ndarray
    scale: np.ndarray
    factor: np.ndarray

    @classmethod
    def of(cls, guarded: np.ndarray, listed: np.ndarray) -> Disturbance:
        """T (n, K) of guarded rows, of which there may be none, and of listed ones, for scales."""
        if len(guarded) < _FEWEST:
            both = np.concatenate([guarded, listed])
            scale = np.sqrt((both.astype(np.float64) ** 2).mean(axis=0))
            return cls(np.zeros(len(scale)), np.where(scale > 0, scale, np.inf), _root(np.eye(len(scale))))
        _, scale = mean_and_scale(np.concatenate([guarded, listed]))
        center = guarded.mean(axis=0, dtype=np.float64)
        moments = np.zeros((len(scale), len(scale)))
        for start in range(0, len(guarded), _AT_ONCE):
            X = ((guarded[start : start + _AT_ONCE] - center) / scale).astype(np.float32)
            moments += X.T @ X
        return cls(center, scale, _root(moments / len(guarded) + _RIDGE * np.eye(len(scale))))

    def features(self, T: np.ndarray) -> np.ndarray:
        """T (n, K) turned, and a column of ones for the bias: (n, K + 1) float32."""
        found = np.ones((len(T), len(self.scale) + 1), np.float32)
        inverse = np.linalg.inv(self.factor).T
        for start in range(0, len(T), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            found[part, :-1] = ((T[part] - self.center) / self.scale) @ inverse
        return found

    def linear(self, U: np.ndarray) -> Linear:
        """Weights U (K + 1, C) of the features as a patch of T."""
        weight = np.linalg.solve(self.factor.T, U[:-1]) / self.scale[:, None]
        return Linear(weight, U[-1] - self.center @ weight)


def _root(matrix: np.ndarray) -> np.ndarray:
    factor: np.ndarray = np.linalg.cholesky(matrix)
    return factor
