"""What does a patch add that has weights of its own for each place: each pitch, each line of a picture?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from onnxtweak.patch.form import DensePatch, Linear, Mlp, against_first, scattered


@dataclass(frozen=True)
class ByPlace(DensePatch):
    """A linear patch or an MLP, and beside it weights and a bias of each place's own (METHOD 13).

    Places are those of an axis of positions, P of them, whatever the sample. The last neuron is no value but
    the place p of a row, and has no weight itself. Adds `T @ weight + max(T @ w1 + b1, 0) @ w2 + T @ own[p] +
    bias[p]`. weight (K, C), w1 (K, h), b1 (h,), w2 (h, C), own (P, K, C), bias (P, C), all float; h may be 0.
    """

    weight: np.ndarray
    w1: np.ndarray
    b1: np.ndarray
    w2: np.ndarray
    own: np.ndarray
    bias: np.ndarray

    @classmethod
    def of(cls, shared: Linear | Mlp, own: np.ndarray, bias: np.ndarray) -> ByPlace:
        """Beside a patch of K neurons; the place is one more. own (P, K, C), bias (P, C) : of each place."""
        neurons, classes = own.shape[1:]
        own = np.concatenate([own, np.zeros((len(own), 1, classes))], axis=1)
        if isinstance(shared, Linear):
            weight, empty = np.vstack([shared.weight, np.zeros((1, classes))]), np.zeros(0)
            w1, w2 = np.zeros((neurons + 1, 0)), np.zeros((0, classes))
            return cls(weight, w1, empty, w2, own, bias + shared.bias)
        w1 = np.vstack([shared.w1, np.zeros((1, len(shared.b1)))])
        return cls(np.zeros((neurons + 1, classes)), w1, shared.b1, shared.w2, own, bias + shared.b2)

    @property
    def shared(self) -> Linear | Mlp:
        """What is the same at every place, of all neurons but the last, without a bias."""
        bias = np.zeros(self.bias.shape[1])
        if not len(self.b1):
            return Linear(self.weight[:-1], bias)
        return Mlp(self.w1[:-1], self.b1, self.w2, bias)

    def delta(self, T: np.ndarray) -> np.ndarray:
        values, place = np.asarray(T[:, :-1], np.float32), T[:, -1].astype(np.int64)
        found = self.shared.delta(values) + self.bias.astype(np.float32)[place]
        own = self.own[:, :-1].astype(np.float32)
        for p in np.flatnonzero(own.any(axis=(1, 2))):
            rows = np.flatnonzero(place == p)
            found[rows] += values[rows] @ own[p]
        return found

    def scaled(self, scale: float) -> ByPlace:
        return self._each_class(lambda array: array * scale)

    def with_bias(self, bias: np.ndarray) -> ByPlace:
        return replace(self, bias=self.bias + bias)

    def against_last(self) -> ByPlace:
        return self._each_class(lambda array: array - array[..., -1:])

    def for_single_logit(self) -> ByPlace:
        return self._each_class(against_first)

    def placed(self, column: np.ndarray, columns: int) -> ByPlace:
        return self._each_class(lambda array: scattered(array, column, columns))

    def on_used_neurons(self) -> tuple[np.ndarray, ByPlace]:
        every = np.hstack([self.weight, self.w1, np.abs(self.own).max(axis=0)])[:-1]
        used = np.append(np.flatnonzero(every.any(axis=1)), len(every))
        return used, replace(self, weight=self.weight[used], w1=self.w1[used], own=self.own[:, used])

    def as_linear(self, classes: int) -> None:
        return None

    def shapes(self, neurons: int, classes: int) -> dict[str, tuple[int, ...]]:
        hidden, places = self.b1.size, len(self.bias)
        if neurons < 2 or not places:
            raise ValueError("weights by place need a neuron, places, and a neuron that says which")
        return {
            "weight": (neurons, classes),
            "w1": (neurons, hidden),
            "b1": (hidden,),
            "w2": (hidden, classes),
            "own": (places, neurons, classes),
            "bias": (places, classes),
        }

    def _each_class(self, change: Callable[[np.ndarray], np.ndarray]) -> ByPlace:
        """With what has the classes on its last axis changed."""
        weight, w2, own, bias = (change(np.asarray(a)) for a in (self.weight, self.w2, self.own, self.bias))
        return replace(self, weight=weight, w2=w2, own=own, bias=bias)
