"""How is a loss minimised under an L1 penalty, which makes weights vanish? Proximal gradient (FISTA)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxtweak.engine.machine.single_thread import threads_for
from onnxtweak.method.solvers.lbfgs import Minimum, Objective


@dataclass(frozen=True)
class Sparsity:
    """An L1 penalty on every weight but the bias (the last row); grouped: on the length of each row."""

    lasso: float
    grouped: bool

    def penalty(self, U: np.ndarray) -> float:
        """Of weights U (A + 1, F)."""
        size = np.linalg.norm(U[:-1], axis=1) if self.grouped else np.abs(U[:-1])
        return self.lasso * float(size.sum())

    def shrunk(self, U: np.ndarray, step: float) -> np.ndarray:
        """What is left of U (A + 1, F) after a step towards sparsity."""
        W = U[:-1]
        size = np.linalg.norm(W, axis=1, keepdims=True) if self.grouped else np.abs(W)
        left = np.maximum(1 - step * self.lasso / np.maximum(size, 1e-300), 0)
        return np.vstack([W * left, U[-1:]])


def proximal(
    objective: Objective, U: np.ndarray, sparsity: Sparsity, tolerance: float, iterations: int
) -> Minimum:
    """FISTA from U (A + 1, F), with backtracking and restarts.

    tolerance : stop when a step with momentum lowers the loss by less than this.
    """
    S = objective.scores(U)
    with threads_for(len(S) * U.size):
        return _descend(objective, U, S, sparsity, tolerance, iterations)


def _descend(
    objective: Objective,
    U: np.ndarray,
    S: np.ndarray,
    sparsity: Sparsity,
    tolerance: float,
    iterations: int,
) -> Minimum:
    V, SV, momentum, step = U, S, 1.0, 1.0
    loss = objective.value(S, U)[0] + sparsity.penalty(U)
    for count in range(iterations):
        smooth, p = objective.value(SV, V)
        gradient = objective.gradient(p, V)
        while True:
            new = sparsity.shrunk(V - step * gradient, step)
            S_new, move = objective.scores(new), new - V
            reached = objective.value(S_new, new)[0]
            bound = smooth + float((gradient * move).sum()) + float((move**2).sum()) / (2 * step)
            if reached <= bound + 1e-10 or step < 1e-12:
                break
            step /= 2
        value = reached + sparsity.penalty(new)
        if value > loss:  # momentum overshot: begin anew from the best
            if momentum == 1.0:
                return Minimum(U, S, loss, count, True)
            V, SV, momentum = U, S, 1.0
            continue
        if loss - value < tolerance and count and momentum > 1.0:
            return Minimum(new, S_new, value, count, True)
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        V = new + (momentum - 1) / following * (new - U)
        SV = S_new + (momentum - 1) / following * (S_new - S)
        U, S, loss, momentum = new, S_new, value, following
    return Minimum(U, S, loss, iterations, False)
