"""How is a table made ready for solving? Columns standardised, and turned to their principal axes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from onnxtweak.engine.machine.single_thread import single_thread, threads_for
from onnxtweak.method.large_arrays import blocks, filled, is_mapped, product, transposed_product
from onnxtweak.method.solvers.standard import mean_and_scale

# Principal axes with less of the variance than this are noise of float32; their weights would be too.
_AXIS_FLOOR = 1e-9
# Above this many columns the principal axes cost more than they save.
_AXES_LIMIT = 3000


@dataclass(frozen=True)
class Design:
    """A table made ready for solving, once for all penalties and folds.

    X (N, A) float : standardised columns, rotated to their principal axes where that pays. variance (A,) :
    of each axis. mean, scale (K,) float64 : of the columns; scale is inf for a constant one, so that its
    weight is 0. turn (K, A) float64 : the rotation, axes in columns; None: X is standardised only. rows (n,)
    int64, ascending : of X, the samples that count; None: all.
    """

    X: np.ndarray
    variance: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    turn: np.ndarray | None
    rows: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.X) if self.rows is None else len(self.rows)

    def of_rows(self, rows: np.ndarray) -> Design:
        """The same for some samples (n,) int64, ascending, of X."""
        if is_mapped(self.X):
            return replace(self, rows=rows)
        return replace(self, X=self.X[rows])

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """The samples block by block: which, and their X."""
        return blocks(self.X, self.rows)

    def in_units(self, axes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights (A + 1, F) on the axes, bias last, as weights (K, F) and bias (F,) in the units of T."""
        weight = (axes[:-1] if self.turn is None else self.turn @ axes[:-1]) / self.scale[:, None]
        return weight, axes[-1] - self.mean @ weight

    def scores(self, axes: np.ndarray) -> np.ndarray:
        """X U + b, (N, F), in X's own precision."""
        U = axes.astype(self.X.dtype)
        scores = product(self.X, U[:-1], self.rows)
        scores += U[-1]
        return scores

    def products(self, residual: np.ndarray) -> np.ndarray:
        """X^T R, (A, F), for R (N, F), in X's own precision."""
        return transposed_product(self.X, residual, self.rows)


def design(T: np.ndarray, columns: np.ndarray | None = None, *, turn: bool = True) -> Design:
    """Standardise the columns of T (N, K) and rotate them to principal axes. float32 stays float32.

    columns (k,) int64 : which; None: all. X lies where T does.
    """
    kind = np.float32 if T.dtype != np.float64 else np.float64
    mean, scale = mean_and_scale(T, columns)
    centre, inverse = mean.astype(kind), scale.astype(kind)

    def standard() -> Iterator[tuple[slice, np.ndarray]]:
        for part, block in blocks(T):
            own = block if columns is None else np.take(block, columns, axis=1)
            X = np.subtract(own, centre, dtype=kind)
            X /= inverse
            yield part, X

    count = len(mean)
    if not turn or not 0 < count <= _AXES_LIMIT:
        return Design(
            filled(T, standard(), count, kind), np.isfinite(scale).astype(np.float64), mean, scale, None
        )
    gram = np.zeros((count, count))
    with threads_for(count * count * len(T)):
        for _, X in standard():
            gram += X.T @ X
    gram /= len(T)
    with single_thread():  # many small steps: a second thread mostly waits
        variance, axes = np.linalg.eigh(gram)
    keep = variance > _AXIS_FLOOR * max(float(variance[-1]), 1e-300)
    onto = axes[:, keep].astype(kind)
    turned = ((part, X @ onto) for part, X in standard())
    return Design(filled(T, turned, onto.shape[1], kind), variance[keep], mean, scale, axes[:, keep])
