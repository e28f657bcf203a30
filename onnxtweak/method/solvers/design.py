"""How is a table made ready for solving? Columns standardised, and turned to their principal axes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np

from onnxtweak.engine.machine.large_arrays import blocks, filled, is_mapped, taken
from onnxtweak.engine.machine.products import product, transposed_product
from onnxtweak.engine.machine.single_thread import single_thread, threads_for
from onnxtweak.engine.workers.learning_device import on_host
from onnxtweak.method.solvers.standard import mean_and_scale

# Principal axes with less of the variance than this are noise of float32; their weights would be too.
_AXIS_FLOOR = 1e-9
# Above this many columns the principal axes cost more than they save.
_AXES_LIMIT = 3000
# Copies of samples that are kept: those without each of two folds.
_KNOWN = 2


@dataclass(frozen=True)
class Design:
    """A table made ready for solving, once for all penalties and folds.

    X (N, A) float : standardised columns, rotated to their principal axes where that pays. variance (A,) :
    of each axis. mean, scale (K,) float64 : of the columns; scale is inf for a constant one, so that its
    weight is 0. turn (K, A) float64 : the rotation, axes in columns; None: X is standardised only. rows (n,)
    int64, ascending : of X, the samples that count; None: all. xp : the library of X, variance and turn; the
    others are NumPy's. known : samples of which there is a copy, and their designs; None: they are not kept.
    """

    X: Any
    variance: Any
    mean: np.ndarray
    scale: np.ndarray
    turn: Any
    rows: np.ndarray | None = None
    xp: ModuleType = np
    known: list[tuple[np.ndarray, Design]] | None = None

    def __len__(self) -> int:
        return len(self.X) if self.rows is None else len(self.rows)

    def of_rows(self, rows: np.ndarray) -> Design:
        """The same for some samples (n,) int64, ascending, of X."""
        if is_mapped(self.X):
            return replace(self, rows=rows)
        return replace(self, X=self.X[self.xp.asarray(rows)])

    def in_one_piece(self, rows: np.ndarray) -> Design:
        """`of_rows` for samples that are read again and again: a copy of them, where X lies."""
        for asked, found in self.known or ():
            if np.array_equal(asked, rows):
                return found
        found = replace(self.of_rows(rows), known=None)
        if found.rows is not None:
            found = replace(found, X=taken(self.X, rows), rows=None)
        if self.known is not None:
            self.known[:] = [*self.known[1 - _KNOWN :], (rows, found)]
        return found

    def remembering(self) -> Design:
        """The same, which keeps copies of samples, for problems that differ in their penalties alone."""
        return replace(self, known=[])

    def blocks(self) -> Iterator[tuple[slice, Any]]:
        """The samples block by block, which, and their X; on a GPU all at once."""
        return blocks(self.X, self.rows) if self.xp is np else iter([(slice(0, len(self)), self.X)])

    @property
    def variances(self) -> Any:
        """Of the axes and the bias, (A + 1,)."""
        return self.xp.concatenate([self.variance, self.xp.ones(1)])

    def in_units(self, axes: Any) -> tuple[np.ndarray, np.ndarray]:
        """Weights (A + 1, F) on the axes, bias last, as weights (K, F) and bias (F,) in the units of T."""
        turned = on_host(axes[:-1] if self.turn is None else self.turn @ axes[:-1])
        weight = turned / self.scale[:, None]
        return weight, on_host(axes[-1]) - self.mean @ weight

    def scores(self, axes: Any, like: Any = None) -> Any:
        """X U + b, (N, F), in X's own precision. like : as of `product`."""
        U = axes.astype(self.X.dtype)
        if self.xp is not np:
            return self.X @ U[:-1] + U[-1]
        return product(self.X, U[:-1], self.rows, like, plus=U[-1])

    def products(self, residual: Any) -> Any:
        """X^T R, (A, F), for R (N, F), in X's own precision."""
        if self.xp is not np:
            return self.X.T @ residual
        return transposed_product(self.X, residual, self.rows)


def design(
    T: np.ndarray, columns: np.ndarray | None = None, *, turn: bool = True, xp: ModuleType = np
) -> Design:
    """Standardise the columns of T (N, K) and rotate them to principal axes. float32 stays float32.

    columns (k,) int64 : which; None: all. xp : NumPy, and X lies where T does; or CuPy, and X is on the GPU.
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

    count, X = len(mean), None
    if xp is not np:
        X = xp.empty((len(T), count), kind)
        for part, block in standard():
            X[part] = xp.asarray(block)
    if not turn or not 0 < count <= _AXES_LIMIT:
        variance = xp.asarray(np.isfinite(scale).astype(np.float64))
        X = filled(T, standard(), count, kind) if X is None else X
        return Design(X, variance, mean, scale, None, xp=xp)
    gram = xp.zeros((count, count))
    with threads_for(count * count * len(T)):
        for block in (each for _, each in standard()) if X is None else (X,):
            gram += block.T @ block
    gram /= len(T)
    with single_thread():  # many small steps: a second thread mostly waits
        variance, axes = xp.linalg.eigh(gram)
    keep = variance > _AXIS_FLOOR * max(float(variance[-1]), 1e-300)
    onto = axes[:, keep].astype(kind)
    if X is None:
        X = filled(T, ((part, block @ onto) for part, block in standard()), onto.shape[1], kind)
    else:
        X = X @ onto
    return Design(X, variance[keep], mean, scale, axes[:, keep], xp=xp)
