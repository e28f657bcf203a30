"""How does an MLP with one hidden layer take a step down its loss? Its gradients, and Adam.

Several MLPs that see the same minibatches can take their steps together: their parameters are stacked. Small
operations take longer to start than to do, on a processor too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from onnxtweak.method.descent.cross_entropy import ONE_OF_MANY, OneOfMany

# Adam's usual constants.
_FIRST, _SECOND, _TINY = 0.9, 0.999, 1e-8


def forward(xp: ModuleType, parameters: Sequence[Any], T: Any) -> Any:
    """What the MLP adds to the logits: (N, C) for T (N, K). parameters : w1, b1, w2, b2."""
    w1, b1, w2, b2 = parameters
    return _hidden(xp, T, w1, b1) @ w2 + b2


def _hidden(xp: ModuleType, T: Any, w1: Any, b1: Any) -> Any:
    """The hidden layer, (N, H)."""
    hidden = T @ w1
    hidden += b1
    return xp.maximum(hidden, 0, out=hidden)


def gradients(
    xp: ModuleType,
    parameters: Sequence[Any],
    T: Any,
    Z: Any,
    truth: Any,
    entropy: OneOfMany = ONE_OF_MANY,
    weight: Any = None,
) -> list[Any]:
    """Gradients of the mean cross-entropy of `Z + MLP(T)` in w1, b1, w2, b2, or of each of several MLPs.

    truth : as `entropy` has it. weight (n,) : how much each sample counts; None: all alike.
    """
    w1, b1, w2, b2 = parameters
    hidden = _hidden(xp, T, w1, b1)
    logits = Z + hidden @ w2
    logits += b2
    error = entropy.error(xp, logits, truth)
    error /= len(T)
    if weight is not None:
        error *= weight[:, None]
    back = error @ w2.swapaxes(-1, -2)
    back *= (hidden > 0).astype(back.dtype)
    return [T.T @ back, back.sum(axis=-2), hidden.swapaxes(-1, -2) @ error, error.sum(axis=-2)]


class Adam:
    """Adam with decoupled weight decay on the matrices; updates `parameters` in place.

    The parameters are views of one vector, for a GPU takes longer to start an operation than to do it.
    decay : of one MLP; or of each of D that start alike, which are stacked: w1 (D, K, H), b1 (D, 1, H).
    each : the parameters of each, of the shapes that they started with.
    """

    def __init__(
        self, xp: ModuleType, start: Sequence[Any], rate: float, decay: float | Sequence[float]
    ) -> None:
        self.xp, self.rate, self.shapes = xp, rate, [p.shape for p in start]
        self.whole = xp.concatenate([xp.asarray(p).ravel() for p in start])
        self.shrink: Any
        if isinstance(decay, Sequence):
            self.whole = xp.tile(self.whole, (len(decay), 1))
            self.shrink = xp.asarray([[[1 - rate * own]] for own in decay], self.whole.dtype)
        else:
            self.shrink = 1 - rate * decay
        self.mean, self.square = xp.zeros_like(self.whole), xp.zeros_like(self.whole)
        self.parameters, self.each = self._views()
        self.steps = 0

    def _views(self) -> tuple[list[Any], list[list[Any]]]:
        """The parameters, stacked if they are of several MLPs, and those of each."""
        ends = np.cumsum([0, *map(math.prod, self.shapes)])
        parts = [self.whole[..., a:b] for a, b in zip(ends[:-1], ends[1:], strict=True)]
        if self.whole.ndim == 1:
            whole = [part.reshape(shape) for part, shape in zip(parts, self.shapes, strict=True)]
            return whole, [whole]
        wide = [(len(self.whole), *(1, *shape)[-2:]) for shape in self.shapes]
        stacked = [part.reshape(shape) for part, shape in zip(parts, wide, strict=True)]
        each = [
            [p[k].reshape(shape) for p, shape in zip(stacked, self.shapes, strict=True)]
            for k in range(len(self.whole))
        ]
        return stacked, each

    def go_on_with(self, which: Sequence[int]) -> None:
        """Take steps for some of the MLPs alone."""
        self.whole, self.mean, self.square, self.shrink = (
            array[list(which)] for array in (self.whole, self.mean, self.square, self.shrink)
        )
        self.parameters, self.each = self._views()

    def step(self, gradients: Sequence[Any]) -> None:
        self.steps += 1
        unbiased = math.sqrt(1 - _SECOND**self.steps) / (1 - _FIRST**self.steps)
        flat = (*self.whole.shape[:-1], -1)
        g = self.xp.concatenate([gradient.reshape(flat) for gradient in gradients], axis=-1)
        self.mean *= _FIRST
        self.mean += (1 - _FIRST) * g
        self.square *= _SECOND
        g *= g
        g *= 1 - _SECOND
        self.square += g
        for matrix in self.parameters[::2]:
            matrix *= self.shrink
        step = self.xp.sqrt(self.square)
        step += _TINY
        self.xp.divide(self.mean, step, out=step)
        step *= self.rate * unbiased
        self.whole -= step


def first_weights(rng: np.random.Generator, inputs: int, hidden: int, classes: int) -> list[np.ndarray]:
    """First layer drawn as in He et al., last layer zero: the MLP adds nothing yet."""
    w1 = rng.standard_normal((inputs, hidden), np.float32) * np.float32(math.sqrt(2 / max(inputs, 1)))
    shapes = ((hidden,), (hidden, classes), (classes,))
    return [w1, *(np.zeros(shape, np.float32) for shape in shapes)]
