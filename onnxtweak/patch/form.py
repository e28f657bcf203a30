"""What does a patch add to the logits? Synapses, linear weights, or an MLP: each form is a class here.

A patch reads the values T (N, K) of K neurons and adds to logits Z (N, C); the shape legend is in
`onnxtweak.types`. To add a form, write a class here or beside, name it in `onnxtweak.patch.tweak`, and write
its nodes in `onnxtweak.model.edit.patch_nodes`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np


class Patch(ABC):
    """What every form of patch can do. Patches are frozen dataclasses whose fields are arrays."""

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays that make up the patch, by name, as a tweak file stores them."""
        return dict(vars(self))

    @property
    def parameters(self) -> int:
        """How many numbers of the patch are not zero."""
        return int(sum(np.count_nonzero(array) for array in self.arrays.values()))

    @property
    def changes_logits(self) -> bool:
        """Whether there is anything to write into a model."""
        return True

    @property
    def neuron_targets(self) -> np.ndarray | None:
        """The class (K,) int64 that each neuron is connected to; None where each is connected to all."""
        return None

    @property
    def output_bias(self) -> np.ndarray | None:
        """What is added whatever the neurons' values, (C,); None where the form has no such array."""
        return None

    @abstractmethod
    def applied(self, Z: np.ndarray, T: np.ndarray) -> np.ndarray:
        """Logits (N, C) with the patch, in the precision of Z, computed as the spliced file does."""

    @abstractmethod
    def scaled(self, scale: float) -> Self:
        """The patch that adds `scale` times as much."""

    def as_written(self, dtype: str) -> Self:
        """The patch in the precision that a model whose logits are of a dtype gets it in."""
        return self

    @abstractmethod
    def for_single_logit(self) -> Patch:
        """The patch of two classes as one of a single logit, which is class 1's minus class 0's."""

    @abstractmethod
    def placed(self, column: np.ndarray, columns: int) -> Self:
        """The patch of C classes as one of a tensor with `columns`, class c at `column[c]` (C,) int64."""

    @abstractmethod
    def as_linear(self, classes: int) -> Linear | None:
        """The patch as a linear one of all classes; None where the form is not linear in T."""

    @abstractmethod
    def shapes(self, neurons: int, classes: int) -> dict[str, tuple[int, ...]]:
        """The shape that each of the arrays must have. Raises ValueError where none could be right."""

    @property
    def record(self) -> dict[str, Any]:
        """What the metadata of a tweaked model says about the patch; nothing of dense weights."""
        return {}

    @property
    def listed(self) -> list[dict[str, Any]] | None:
        """Each neuron's connection as plain data; None where each is connected to all classes."""
        return None


@dataclass(frozen=True)
class Synapses(Patch):
    """K synapses (METHOD 4): synapse k adds `weight[k] * T[:, k]` to the logit of class `target[k]`.

    target (K,) int64; weight (K,) float64; threshold (K,) float64, the weight before `scale / n`;
    count (K,) int64, fit samples that the synapse would fix alone.
    """

    target: np.ndarray
    weight: np.ndarray
    threshold: np.ndarray
    count: np.ndarray

    @property
    def parameters(self) -> int:
        return int(np.count_nonzero(self.weight))

    @property
    def changes_logits(self) -> bool:
        return len(self.weight) > 0

    @property
    def neuron_targets(self) -> np.ndarray:
        return self.target

    def applied(self, Z: np.ndarray, T: np.ndarray) -> np.ndarray:
        patched = Z.copy()
        np.add.at(patched.T, self.target, (T * self.weight).T.astype(Z.dtype))
        return patched

    def scaled(self, scale: float) -> Synapses:
        return replace(self, weight=np.asarray(self.weight) * scale)

    def for_single_logit(self) -> Synapses:
        sign = np.where(np.asarray(self.target) == 1, 1.0, -1.0)
        return replace(self, weight=sign * self.weight, target=np.zeros_like(self.target))

    def placed(self, column: np.ndarray, columns: int) -> Synapses:
        return replace(self, target=column[self.target])

    def as_linear(self, classes: int) -> Linear:
        return Linear(
            at_columns(np.asarray(self.weight), np.asarray(self.target), classes), np.zeros(classes)
        )

    def shapes(self, neurons: int, classes: int) -> dict[str, tuple[int, ...]]:
        if self.target.size and not 0 <= self.target.min() <= self.target.max() < classes:
            raise ValueError(f"a target is not one of the {classes} classes")
        return dict.fromkeys(("target", "weight", "threshold", "count"), (neurons,))

    @property
    def record(self) -> dict[str, Any]:
        return {
            "target": np.asarray(self.target).tolist(),
            "weight": np.asarray(self.weight).tolist(),
            "threshold": [float(t) if math.isfinite(t) else None for t in self.threshold],
            "count": np.asarray(self.count).tolist(),
        }

    @property
    def listed(self) -> list[dict[str, Any]]:
        parts = (self.target.tolist(), self.weight.tolist(), self.threshold.tolist(), self.count.tolist())
        return [
            {"target": target, "weight": weight, "threshold": threshold, "count": count}
            for target, weight, threshold, count in zip(*parts, strict=True)
        ]


class DensePatch(Patch):
    """A patch whose neurons are connected to every class."""

    @abstractmethod
    def delta(self, T: np.ndarray) -> np.ndarray:
        """What is added to the logits, (N, C). T (N, K)."""

    def applied(self, Z: np.ndarray, T: np.ndarray) -> np.ndarray:
        return Z + self.delta(T).astype(Z.dtype)

    def as_written(self, dtype: str) -> Self:
        if dtype == "float64":
            return self
        return type(self)(**{name: np.asarray(array, np.float32) for name, array in self.arrays.items()})

    @abstractmethod
    def with_bias(self, bias: np.ndarray) -> Self:
        """The patch with one more bias (C,)."""

    @abstractmethod
    def against_last(self) -> Self:
        """The patch of the same decisions that adds nothing to the last class."""

    @abstractmethod
    def on_used_neurons(self) -> tuple[np.ndarray, Self]:
        """Positions (k,) of the neurons that have any weight, and the patch that reads only those."""


@dataclass(frozen=True)
class Linear(DensePatch):
    """A linear patch of many classes: adds `T @ weight + bias`.

    weight (K, C) float; bias (C,) float. With K = 0 this is a pure bias.
    """

    weight: np.ndarray
    bias: np.ndarray

    @property
    def output_bias(self) -> np.ndarray:
        return self.bias

    def delta(self, T: np.ndarray) -> np.ndarray:
        return T @ self.weight.astype(T.dtype) + self.bias.astype(T.dtype)

    def scaled(self, scale: float) -> Linear:
        return Linear(np.asarray(self.weight) * scale, np.asarray(self.bias) * scale)

    def with_bias(self, bias: np.ndarray) -> Linear:
        return replace(self, bias=self.bias + bias)

    def against_last(self) -> Linear:
        return Linear(self.weight - self.weight[:, -1:], self.bias - self.bias[-1:])

    def on_used_neurons(self) -> tuple[np.ndarray, Linear]:
        used = np.flatnonzero(self.weight.any(axis=1))
        return used, replace(self, weight=self.weight[used])

    def for_single_logit(self) -> Linear:
        return Linear(against_first(self.weight), against_first(self.bias))

    def placed(self, column: np.ndarray, columns: int) -> Linear:
        return Linear(scattered(self.weight, column, columns), scattered(self.bias, column, columns))

    def as_linear(self, classes: int) -> Linear:
        return self

    def shapes(self, neurons: int, classes: int) -> dict[str, tuple[int, ...]]:
        return {"weight": (neurons, classes), "bias": (classes,)}


@dataclass(frozen=True)
class Mlp(DensePatch):
    """Augmentation with active neurons: adds `max(T @ w1 + b1, 0) @ w2 + b2` (METHOD 6).

    w1 (K, h), b1 (h,), w2 (h, C), b2 (C,), all float.
    """

    w1: np.ndarray
    b1: np.ndarray
    w2: np.ndarray
    b2: np.ndarray

    @property
    def output_bias(self) -> np.ndarray:
        return self.b2

    def delta(self, T: np.ndarray) -> np.ndarray:
        w1, b1, w2, b2 = (np.asarray(array, np.float32) for array in (self.w1, self.b1, self.w2, self.b2))
        return np.maximum(np.asarray(T, np.float32) @ w1 + b1, 0) @ w2 + b2

    def scaled(self, scale: float) -> Mlp:
        return replace(self, w2=np.asarray(self.w2) * scale, b2=np.asarray(self.b2) * scale)

    def by_class(self, scale: np.ndarray) -> Mlp:
        """The patch that adds `scale` (C,) times as much to each class."""
        return replace(self, w2=self.w2 * scale, b2=self.b2 * scale)

    def with_bias(self, bias: np.ndarray) -> Mlp:
        return replace(self, b2=self.b2 + bias)

    def against_last(self) -> Mlp:
        return replace(self, w2=self.w2 - self.w2[:, -1:], b2=self.b2 - self.b2[-1:])

    def on_used_neurons(self) -> tuple[np.ndarray, Mlp]:
        used = np.flatnonzero(self.w1.any(axis=1))
        return used, replace(self, w1=self.w1[used])

    def for_single_logit(self) -> Mlp:
        return replace(self, w2=against_first(self.w2), b2=against_first(self.b2))

    def placed(self, column: np.ndarray, columns: int) -> Mlp:
        return replace(self, w2=scattered(self.w2, column, columns), b2=scattered(self.b2, column, columns))

    def as_linear(self, classes: int) -> None:
        return None

    def shapes(self, neurons: int, classes: int) -> dict[str, tuple[int, ...]]:
        hidden = self.b1.size
        if not neurons or not hidden:
            raise ValueError("an MLP needs neurons and hidden units")
        return {"w1": (neurons, hidden), "b1": (hidden,), "w2": (hidden, classes), "b2": (classes,)}

    @property
    def record(self) -> dict[str, Any]:
        return {"hidden": len(self.b1)}


def at_columns(numbers: np.ndarray, column: np.ndarray, columns: int) -> np.ndarray:
    """A matrix (rows, columns) float64 with one number per row, at `column` (rows,), and zeros elsewhere."""
    matrix = np.zeros((len(column), columns))
    matrix[np.arange(len(column)), column] = numbers
    return matrix


def against_first(array: np.ndarray) -> np.ndarray:
    return np.subtract(array[..., 1:], array[..., :1])


def scattered(array: np.ndarray, column: np.ndarray, columns: int) -> np.ndarray:
    """An array (..., C) with class c at `column[c]` of (..., columns), and zeros elsewhere."""
    wide = np.zeros((*array.shape[:-1], columns), array.dtype)
    wide[..., column] = array
    return wide
