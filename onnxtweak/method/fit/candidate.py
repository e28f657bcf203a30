"""What is a candidate of `fit`? One way to patch, and how it does on samples held out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from onnxtweak.patch import Linear, Mlp


@dataclass(frozen=True, eq=False)
class FitCandidate:
    """One way to patch. name : for notes. columns (K,) int64 : the table's columns it reads.

    held_out (N, C) : logits of each sample under weights that have not seen it. loss : mean log-loss of those
    over the judged samples, calibrated. learn : the patch fitted to all samples, and notes on the fitting;
    called when either is first asked for, which happens for the best candidate alone. behind : for notes,
    what it was preferred to.
    """

    name: str
    columns: np.ndarray
    held_out: np.ndarray
    loss: float
    learn: Callable[[], tuple[Linear | Mlp, tuple[str, ...]]]
    behind: tuple[str, ...] = ()

    def warmed(self, temperature: float) -> FitCandidate:
        """The candidate for the base's own logits, learnt on those divided by the temperature."""

        def learn() -> tuple[Linear | Mlp, tuple[str, ...]]:
            return self.patch.scaled(temperature), self.notes

        held_out = self.held_out * self.held_out.dtype.type(temperature)
        return replace(self, held_out=held_out, learn=learn)

    @cached_property
    def _learnt(self) -> tuple[Linear | Mlp, tuple[str, ...]]:
        return self.learn()

    @property
    def patch(self) -> Linear | Mlp:
        """The patch on the candidate's columns, fitted to all samples."""
        return self._learnt[0]

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on fitting it."""
        return self._learnt[1]
