"""How do neurons explain what is missing from the logits? Ridge regression on a table's axes (METHOD 16)."""

from __future__ import annotations

import numpy as np

from onnxtweak.method.solvers.design import Design


def regress(design: Design, lacking: np.ndarray, ridge: float, rows: np.ndarray | None = None) -> np.ndarray:
    """Weights (A + 1, C) float64 on the axes, bias last: least squares of `lacking` (N, C) with a ridge.

    ridge : on columns of unit deviation; the bias is free. rows (n,) int : samples that count; None: all. The
    samples are centred by their own means, so that the bias takes no part in the penalty.
    """
    own = design if rows is None else design.of_rows(rows)
    wanted = lacking if rows is None else lacking[rows]
    axes, centre = own.X.shape[1], wanted.mean(axis=0)
    total, gram, right = np.zeros(axes), np.zeros((axes, axes)), np.zeros((axes, wanted.shape[1]))
    for part, X in own.blocks():
        total += X.sum(axis=0, dtype=np.float64)
        gram += X.T @ X
        right += X.T @ wanted[part].astype(X.dtype)
    mean = total / len(own)
    gram = gram / len(own) - np.outer(mean, mean)
    gram[np.diag_indices_from(gram)] += ridge
    right = right / len(own) - np.outer(mean, centre)
    weight = np.linalg.solve(gram, right)
    return np.vstack([weight, centre - mean @ weight])
