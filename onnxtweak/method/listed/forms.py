"""Which forms can a repair take? One patch for all samples alike, or a hidden unit for each listed sample.

Each is a `RepairForm`: it gives features of T (n, K), and turns their weights into a patch.

- `Alike` is linear in all neurons: what the must-samples have in common, it corrects on others too.
- `OneByOne` gives each must-sample a unit that is 1 there, and 0 wherever a sample resembles it less than any
  guarded row does: `max(0, (k - t) / (1 - t))`, with k the similarity `f(x) f(m) / f(m)^2` of turned columns.
- `Both` is the sum of the two, with units for some must-samples.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from onnxtweak.engine.machine.large_arrays import blocks
from onnxtweak.method.folds import digest_of
from onnxtweak.method.listed.disturbance import Disturbance
from onnxtweak.method.patch_sum import added
from onnxtweak.patch import DensePatch, Linear, Mlp

# Similarities from which a unit answers, at least and at most.
_LEAST, _MOST = 0.2, 0.9


@dataclass(frozen=True)
class Alike:
    """A linear patch."""

    disturbance: Disturbance
    name = "one linear patch"
    margin = 1.0

    @property
    def width(self) -> int:
        return len(self.disturbance.scale) + 1

    def features(self, T: np.ndarray) -> np.ndarray:
        return self.disturbance.features(T)

    @property
    def digest(self) -> str:
        return digest_of(*vars(self.disturbance).values())

    def patch(self, U: np.ndarray) -> DensePatch:
        return self.disturbance.linear(U)

    def silent_on(self, guarded: np.ndarray) -> Alike:
        """The same: it is silent on no sample."""
        return self


@dataclass(frozen=True, eq=False)
class OneByOne:
    """A hidden unit for each sample. similar : its `h` scores are how much T resembles each. cut (h,) : of
    each, the similarity from which its unit answers."""

    similar: Linear
    cut: np.ndarray
    name = "a hidden unit for each must-sample"
    margin = 1.0

    @property
    def width(self) -> int:
        return len(self.cut)

    @classmethod
    def of(cls, disturbance: Disturbance, must: np.ndarray, guarded: np.ndarray) -> OneByOne:
        """Units for T (h, K) of must-samples that stay silent on T (n, K) of guarded rows, where they can."""
        own = disturbance.features(must)[:, :-1].astype(np.float64)
        own /= np.maximum((own**2).sum(axis=1, keepdims=True), 1e-12)
        bare = np.concatenate([own, np.zeros((len(own), 1))], axis=1)
        unit = disturbance.linear(bare.T)  # similarity k of T to each must-sample
        return cls(unit, np.full(len(own), _LEAST)).silent_on(guarded)

    def silent_on(self, guarded: np.ndarray) -> OneByOne:
        """The same units, silent on T (n, K) of more guarded rows, where they can be."""
        near = self.cut
        for _, block in blocks(guarded):
            near = np.maximum(near, (block @ self.similar.weight + self.similar.bias).max(axis=0))
        return replace(self, cut=np.minimum(near, _MOST))

    @property
    def digest(self) -> str:
        return digest_of(self.similar.weight, self.similar.bias, self.cut)

    @property
    def w1(self) -> np.ndarray:
        """Weights (K, h) float64 of the units, on T."""
        return self.similar.weight / (1 - self.cut)

    @property
    def b1(self) -> np.ndarray:
        """Biases (h,) float64 of the units."""
        return (self.similar.bias - self.cut) / (1 - self.cut)

    def features(self, T: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.maximum(T @ self.w1 + self.b1, 0).astype(np.float32)
        return found

    def patch(self, U: np.ndarray) -> DensePatch:
        return Mlp(self.w1, self.b1, U, np.zeros(U.shape[1]))


@dataclass(frozen=True, eq=False)
class Both:
    """The linear patch, and units for must-samples that it leaves wrong."""

    alike: Alike
    single: OneByOne
    name = "a linear patch, and a hidden unit for each must-sample that it leaves wrong"
    margin = 1.0

    @property
    def width(self) -> int:
        return self.alike.width + self.single.width

    @property
    def digest(self) -> str:
        return f"{self.alike.digest} {self.single.digest}"

    def features(self, T: np.ndarray) -> np.ndarray:
        return np.concatenate([self.alike.features(T), self.single.features(T)], axis=1)

    def patch(self, U: np.ndarray) -> DensePatch:
        linear, mlp = self.alike.patch(U[: self.alike.width]), self.single.patch(U[self.alike.width :])
        return added(linear, np.arange(len(self.single.w1)), mlp, len(self.single.w1))

    def silent_on(self, guarded: np.ndarray) -> Both:
        """Its units, silent on more guarded rows."""
        return replace(self, single=self.single.silent_on(guarded))
