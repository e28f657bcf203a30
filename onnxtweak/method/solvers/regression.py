"""How do neurons explain what is missing from the logits? Ridge regression on a table's axes (METHOD 16)."""

from __future__ import annotations

import numpy as np

from onnxtweak.method.solvers.multinomial import Design


def regress(design: Design, lacking: np.ndarray, ridge: float, rows: np.ndarray | None = None) -> np.ndarray:
    """Weights (A + 1, C) float64 on the axes, bias last: least squares of `lacking` (N, C) with a ridge.

    ridge : on columns of unit deviation; the bias is free. rows (n,) int : samples that count; None: all. The
    samples are centred by their own means, so that the bias takes no part in the penalty.
    """
    X = design.X if rows is None else design.X[rows]
    wanted = lacking if rows is None else lacking[rows]
    mean, centre = X.mean(axis=0, dtype=np.float64), wanted.mean(axis=0)
    gram = (X.T @ X).astype(np.float64) / len(X) - np.outer(mean, mean)
    gram[np.diag_indices_from(gram)] += ridge
    right = (X.T @ wanted.astype(X.dtype)).astype(np.float64) / len(X) - np.outer(mean, centre)
    weight = np.linalg.solve(gram, right)
    return np.vstack([weight, centre - mean @ weight])
