"""How is a table multiplied by weights, or by what is wrong with each row? Block by block.

The blocks are those of `large_arrays`, and so are the sums, wherever the table lies.
"""

from __future__ import annotations

import numpy as np

from onnxtweak.engine.machine.large_arrays import beside, blocks, let_go_rows


def product(
    X: np.ndarray,
    U: np.ndarray,
    rows: np.ndarray | None = None,
    like: np.ndarray | None = None,
    *,
    plus: np.ndarray | None = None,
) -> np.ndarray:
    """X U + b, (n, F) or (n,), for X (N, K) and U (K, F) or (K,). rows : as of `blocks`. like : an array
    where another as large may lie; None: in memory. plus : b (F,); None: 0."""
    shape = (len(X) if rows is None else len(rows)), *U.shape[1:]
    kind = np.result_type(X, U)
    found = np.empty(shape, kind) if like is None else beside(like, shape, kind)
    for part, block in blocks(X, rows):
        np.matmul(block, U, out=found[part])
        if plus is not None:
            found[part] += plus
        let_go_rows(part, found)
    return found


def transposed_product(X: np.ndarray, R: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
    """X^T R in X's own precision, (K, F) or (K,), for X (N, K) and R (n, F) or (n,). rows : see `blocks`."""
    sums = np.zeros((X.shape[1], *R.shape[1:]), X.dtype)
    for part, block in blocks(X, rows):
        sums += block.T @ R[part].astype(X.dtype, copy=False)
        let_go_rows(part, R)
    return sums
