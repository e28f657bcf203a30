"""How is a smooth convex loss minimised? L-BFGS, and what a solver asks of an objective."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from onnxtweak.engine.machine.large_arrays import by_rows
from onnxtweak.engine.machine.single_thread import threads_for
from onnxtweak.engine.workers.learning_device import on_host

# Pairs of steps and gradient changes that L-BFGS remembers. On tables of real networks, 20 take half to nine
# tenths of the steps that 10 take.
_MEMORY = 20


class Objective(Protocol):
    """A penalised loss of weights U, any shape, whose scores (N, F) are linear in U.

    All arrays are NumPy's, or all are CuPy's: the minimiser does not ask.
    """

    def scores(self, U: Any, /) -> Any: ...

    def value(self, scores: Any, U: Any, /) -> tuple[float, Any]:
        """The loss with its penalty, and the probabilities p that `gradient` and `curvature` start from."""

    def gradient(self, p: Any, U: Any, /) -> Any:
        """In U, of its shape."""

    def curvature(self, p: Any, /) -> Any:
        """Diagonal of the Hessian, or near it; of U's shape."""


@dataclass(frozen=True)
class Descent:
    """What a solver knows at weights U: their scores, their gradient, and how it changes along steps.

    gradient : of U's shape; None: not taken yet. pairs : steps and changes of the gradient, oldest first,
    each of U's shape and the scores' dtype.
    """

    U: Any
    scores: Any
    gradient: Any = None
    pairs: tuple[tuple[Any, Any], ...] = ()

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All of it as arrays; those that it lacks are left out."""
        found = {"U": self.U, "scores": self.scores, "gradient": self.gradient}
        for number, pair in enumerate(self.pairs):
            found |= {f"step {number}": pair[0], f"bent {number}": pair[1]}
        return {name: on_host(array) for name, array in found.items() if array is not None}

    @classmethod
    def of_arrays(cls, found: Mapping[str, np.ndarray], xp: ModuleType) -> Descent:
        """What `arrays` gave. xp : the library of the objective."""
        each = {name: xp.asarray(array) for name, array in found.items() if array.ndim}
        count = sum(name.startswith("step ") for name in found)
        pairs = tuple((each[f"step {number}"], each[f"bent {number}"]) for number in range(count))
        return cls(each["U"], each["scores"], each.get("gradient"), pairs)

    def penalised(self, more: Any) -> Descent:
        """The same for a loss that has `more * U**2 / 2` on top; more : broadcast to U, may be negative."""
        pairs = tuple((step, bent + (more * step).astype(bent.dtype)) for step, bent in self.pairs)
        gradient = None if self.gradient is None else self.gradient + more * self.U
        return replace(self, gradient=gradient, pairs=pairs)


@dataclass(frozen=True)
class Minimum:
    """Where a solver stopped. U : the weights; scores, loss : theirs. descent : to go on from, of L-BFGS."""

    U: Any
    scores: Any
    loss: float
    iterations: int
    converged: bool
    descent: Descent | None = None

    @property
    def note(self) -> str:
        """For the user; empty where the solver converged."""
        return "" if self.converged else unconverged(self.iterations)


def unconverged(iterations: int) -> str:
    """The note on a solver that ran out of iterations."""
    return f"the solver stopped after {iterations} iterations before it had converged"


@dataclass(frozen=True, eq=False)
class _Pair:
    """A step and the change of the gradient along it, both flat, and 1 over their product."""

    change: Any
    bent: Any
    rho: float

    @classmethod
    def of(cls, change: Any, bent: Any) -> _Pair:
        change, bent = change.reshape(-1), bent.reshape(-1)
        return cls(change, bent, 1 / float(change.dot(bent)))


def lbfgs(objective: Objective, begin: Any, tolerance: float, iterations: int) -> Minimum:
    """L-BFGS, preconditioned by the curvature at the start. Scores are linear, so a trial costs no product.

    begin : weights U; or the `Descent` to some of this objective, and then to begin costs no product either.
    tolerance : stop when a quadratic model promises less than this.
    """
    start = begin if isinstance(begin, Descent) else Descent(begin, objective.scores(begin))
    with threads_for(len(start.scores) * start.U.size):
        return _descend(objective, start, tolerance, iterations)


def _descend(objective: Objective, start: Descent, tolerance: float, iterations: int) -> Minimum:
    U, S = start.U, start.scores
    pairs = deque((_Pair.of(change, bent) for change, bent in start.pairs), _MEMORY)
    loss, p = objective.value(S, U)
    inverse = 1 / objective.curvature(p)
    inverses = inverse, inverse.astype(S.dtype).reshape(-1)
    gradient = objective.gradient(p, U) if start.gradient is None else start.gradient

    def end(count: int, converged: bool) -> Minimum:
        known = tuple((pair.change.reshape(U.shape), pair.bent.reshape(U.shape)) for pair in pairs)
        return Minimum(U, S, loss, count, converged, Descent(U, S, gradient, known))

    for count in range(iterations):
        if float((gradient**2 * inverse).sum()) / 2 < tolerance:
            return end(count, True)
        step = -_two_loop(gradient, pairs, *inverses)
        slope = float((gradient * step).sum())
        moved, t = objective.scores(step), 1.0
        while True:
            reached = by_rows(partial(_along, t), S, moved)
            ahead = U + t * step
            tried, p = objective.value(reached, ahead)
            if tried <= loss + 1e-4 * t * slope:
                break
            if t < 1e-6:  # the products' precision is reached
                return end(count, True)
            t /= 2
        U, S, loss = ahead, reached, tried
        del moved, reached  # each is as large as the scores, and the gradient takes as much again
        new = objective.gradient(p, U)
        del p
        change, bent = t * step, new - gradient
        gradient = new
        if float((change * bent).sum()) > 1e-12 * float((bent**2 * inverse).sum()):
            pairs.append(_Pair.of(change.astype(S.dtype), bent.astype(S.dtype)))
    return end(iterations, False)


def _along(t: float, S: Any, moved: Any) -> Any:
    return S + t * moved


def _two_loop(gradient: Any, pairs: Sequence[_Pair], inverse: Any, narrow: Any) -> Any:
    """The inverse Hessian, as the pairs know it, times the gradient.

    inverse : 1 over the curvature at the start, of the gradient's shape; narrow : the same as the pairs are.
    """
    if not pairs:
        return gradient * inverse
    latest = pairs[-1]
    q = gradient.astype(latest.bent.dtype).reshape(-1)
    alphas = []
    for pair in reversed(pairs):
        alphas.append(pair.rho * float(pair.change.dot(q)))
        q -= alphas[-1] * pair.bent
    q *= narrow
    # The latest pair knows the curvature's size better than the start did.
    q /= latest.rho * float((latest.bent.reshape(inverse.shape) ** 2 * inverse).sum())
    for pair, alpha in zip(pairs, reversed(alphas), strict=True):
        q += (alpha - pair.rho * float(pair.bent.dot(q))) * pair.change
    return q.astype(gradient.dtype).reshape(gradient.shape)
