"""How is a loss minimised under a penalty that makes weights vanish?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sparsity:
    """An L1 penalty on every weight but the bias, or on the length of each row of them."""

    lasso: float
    grouped: bool

    def penalty(self, U: np.ndarray) -> float:
        size = np.linalg.norm(U[:-1], axis=1) if self.grouped else np.abs(U[:-1])
        return self.lasso * float(size.sum())

    def shrunk(self, U: np.ndarray, step: float) -> np.ndarray:
        """What is left of U after a step towards sparsity."""
        W = U[:-1]
        size = np.linalg.norm(W, axis=1, keepdims=True) if self.grouped else np.abs(W)
        left = np.maximum(1 - step * self.lasso / np.maximum(size, 1e-300), 0)
        return np.vstack([W * left, U[-1:]])


def proximal(problem, U: np.ndarray, sparsity: Sparsity, tolerance: float, iterations: int):
    """FISTA with backtracking and restarts. Arguments and what it returns: as `multinomial.descend`."""
    S = problem.scores(U)
    V, SV, momentum, step = U, S, 1.0, 1.0
    loss = problem.value(S, U)[0] + sparsity.penalty(U)
    for count in range(iterations):
        smooth, p = problem.value(SV, V)
        gradient = problem.gradient(p, V)
        while True:
            new = sparsity.shrunk(V - step * gradient, step)
            S_new, move = problem.scores(new), new - V
            reached = problem.value(S_new, new)[0]
            bound = smooth + float((gradient * move).sum()) + float((move**2).sum()) / (2 * step)
            if reached <= bound + 1e-10 or step < 1e-12:
                break
            step /= 2
        value = reached + sparsity.penalty(new)
        if value > loss:  # momentum overshot: begin anew from the best
            if momentum == 1.0:
                return U, S, loss, count, True
            V, SV, momentum = U, S, 1.0
            continue
        if loss - value < tolerance and count and momentum > 1.0:
            return new, S_new, value, count, True
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        V = new + (momentum - 1) / following * (new - U)
        SV = S_new + (momentum - 1) / following * (S_new - S)
        U, S, loss, momentum = new, S_new, value, following
    return U, S, loss, iterations, False
