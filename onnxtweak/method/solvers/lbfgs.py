"""How is a smooth convex loss minimised? L-BFGS, and what a solver asks of an objective."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from onnxtweak.engine.machine.single_thread import threads_for

_MEMORY = 10  # pairs of steps and gradient changes that L-BFGS remembers


class Objective(Protocol):
    """A penalised loss of weights U, any shape, whose scores (N, F) are linear in U."""

    def scores(self, U: np.ndarray, /) -> np.ndarray: ...

    def value(self, scores: np.ndarray, U: np.ndarray, /) -> tuple[float, np.ndarray]:
        """The loss with its penalty, and the probabilities p that `gradient` and `curvature` start from."""

    def gradient(self, p: np.ndarray, U: np.ndarray, /) -> np.ndarray:
        """In U, of its shape."""

    def curvature(self, p: np.ndarray, /) -> np.ndarray:
        """Diagonal of the Hessian, or near it; of U's shape."""


@dataclass(frozen=True)
class Minimum:
    """Where a solver stopped. U : the weights; scores, loss : theirs."""

    U: np.ndarray
    scores: np.ndarray
    loss: float
    iterations: int
    converged: bool

    @property
    def note(self) -> str:
        """For the user; empty where the solver converged."""
        return "" if self.converged else unconverged(self.iterations)


def unconverged(iterations: int) -> str:
    """The note on a solver that ran out of iterations."""
    return f"the solver stopped after {iterations} iterations before it had converged"


def lbfgs(objective: Objective, U: np.ndarray, tolerance: float, iterations: int) -> Minimum:
    """L-BFGS from U, preconditioned by the curvature there. Scores are linear, so a trial costs no product.

    tolerance : stop when a quadratic model promises less than this.
    """
    S = objective.scores(U)
    with threads_for(len(S) * U.size):
        return _descend(objective, U, S, tolerance, iterations)


def _descend(
    objective: Objective, U: np.ndarray, S: np.ndarray, tolerance: float, iterations: int
) -> Minimum:
    loss, p = objective.value(S, U)
    inverse = 1 / objective.curvature(p)
    gradient = objective.gradient(p, U)
    pairs: list[tuple[np.ndarray, np.ndarray, float]] = []
    for count in range(iterations):
        if float((gradient**2 * inverse).sum()) / 2 < tolerance:
            return Minimum(U, S, loss, count, True)
        step = -_two_loop(gradient, pairs, inverse)
        slope = float((gradient * step).sum())
        moved, t = objective.scores(step), 1.0
        while True:
            tried, p = objective.value(S + t * moved, U + t * step)
            if tried <= loss + 1e-4 * t * slope:
                break
            if t < 1e-6:  # the products' precision is reached
                return Minimum(U, S, loss, count, True)
            t /= 2
        U, S, loss = U + t * step, S + t * moved, tried
        new = objective.gradient(p, U)
        change, bent = t * step, new - gradient
        product = float((change * bent).sum())
        if product > 1e-12 * float((bent**2 * inverse).sum()):
            pairs = [*pairs[-_MEMORY + 1 :], (change, bent, 1 / product)]
        gradient = new
    return Minimum(U, S, loss, iterations, False)


def _two_loop(
    gradient: np.ndarray, pairs: list[tuple[np.ndarray, np.ndarray, float]], inverse: np.ndarray
) -> np.ndarray:
    """The inverse Hessian, as the pairs know it, times the gradient."""
    q, alphas = gradient.copy(), []
    for change, bent, rho in reversed(pairs):
        alphas.append(rho * float((change * q).sum()))
        q -= alphas[-1] * bent
    q *= inverse
    if pairs:  # the latest pair knows the curvature's size better than the start did
        _, bent, rho = pairs[-1]
        q /= rho * float((bent**2 * inverse).sum())
    for (change, bent, rho), alpha in zip(pairs, reversed(alphas), strict=True):
        q += (alpha - rho * float((bent * q).sum())) * change
    return q
