"""How do neurons explain what is missing from the logits? Ridge regression on a table's axes (METHOD 16)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add
from types import ModuleType
from typing import Any

import numpy as np

from onnxtweak.engine.machine.large_arrays import let_go
from onnxtweak.method.solvers.design import Design


@dataclass(frozen=True)
class Moments:
    """Sums over samples, all that a regression needs at any ridge, float64, of the design's library.

    count : samples. axes (A,), wanted (C,) : of X and of what is wanted. gram (A, A), both (A, C) : of their
    products.
    """

    count: int
    axes: Any
    wanted: Any
    gram: Any
    both: Any

    @classmethod
    def of(cls, X: Any, wanted: Any) -> Moments:
        """X (n, A), wanted (n, C). Products are made in X's own precision."""
        both = (X.T @ wanted.astype(X.dtype)).astype(np.float64)
        gram, axes = (X.T @ X).astype(np.float64), X.sum(axis=0, dtype=np.float64)
        return cls(len(X), axes, wanted.sum(axis=0, dtype=np.float64), gram, both)

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.count + other.count,
            self.axes + other.axes,
            self.wanted + other.wanted,
            self.gram + other.gram,
            self.both + other.both,
        )

    def regressed(self, ridge: float, xp: ModuleType = np) -> Any:
        """Weights (A + 1, C) float64 on the axes, bias last: least squares with a ridge.

        ridge : on columns of unit deviation; the bias is free. The samples are centred by their own means, so
        that the bias takes no part in the penalty. xp : the library of the sums.
        """
        mean, centre = self.axes / self.count, self.wanted / self.count
        gram = self.gram / self.count - xp.outer(mean, mean) + ridge * xp.eye(len(mean))
        weight = xp.linalg.solve(gram, self.both / self.count - xp.outer(mean, centre))
        return xp.vstack([weight, centre - mean @ weight])


def moments(design: Design, lacking: np.ndarray, rows: np.ndarray | None = None) -> Moments:
    """Of X and of `lacking` (N, C). rows (n,) int64, ascending : samples that count; None: all."""
    every = np.arange(len(lacking)) if rows is None else rows
    each = (design if rows is None else design.of_rows(rows)).blocks()

    def wanted(part: slice) -> Any:
        own = lacking[every[part]]
        let_go(lacking)
        return design.xp.asarray(own)

    return reduce(add, (Moments.of(X, wanted(part)) for part, X in each))
