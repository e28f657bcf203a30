"""How do two dense patches become one? Linear ones add up; beside an MLP, a linear patch becomes one."""

from __future__ import annotations

import numpy as np

from onnxtweak.patch import DensePatch, Linear, Mlp


def added(one: DensePatch, columns: np.ndarray, other: DensePatch, neurons: int) -> DensePatch:
    """The sum of two patches. one : reads `columns` (k,) int64 of all neurons; other : reads all of them."""
    if isinstance(one, Linear) and isinstance(other, Linear):
        return Linear(_wide(one.weight, columns, neurons) + other.weight, one.bias + other.bias)
    a, b = _as_mlp(one), _as_mlp(other)
    return Mlp(
        w1=np.hstack([_wide(a.w1, columns, neurons), b.w1]),
        b1=np.concatenate([a.b1, b.b1]),
        w2=np.vstack([a.w2, b.w2]),
        b2=a.b2 + b.b2,
    )


def widened(patch: DensePatch, read: int, neurons: int, classes: int) -> DensePatch:
    """A patch that reads the first `read` of all neurons as one that reads all of them."""
    return added(patch, np.arange(read), Linear(np.zeros((neurons, classes)), np.zeros(classes)), neurons)


def _wide(weight: np.ndarray, columns: np.ndarray, neurons: int) -> np.ndarray:
    wide = np.zeros((neurons, weight.shape[1]))
    wide[columns] = weight
    return wide


def _as_mlp(patch: DensePatch) -> Mlp:
    """x = max(x, 0) - max(-x, 0); a mere bias needs no unit."""
    if isinstance(patch, Mlp):
        return patch
    assert isinstance(patch, Linear)
    classes = len(patch.bias)
    both = np.vstack([np.eye(classes), -np.eye(classes)]) if patch.weight.any() else np.zeros((0, classes))
    w1 = np.hstack([patch.weight, -patch.weight])[:, : len(both)]
    return Mlp(w1, np.zeros(len(both)), both, patch.bias)
