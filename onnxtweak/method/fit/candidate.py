"""What is a candidate of `fit`? One way to patch, and how it does on samples held out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from onnxtweak.engine.machine.large_arrays import by_rows
from onnxtweak.method.table import Table
from onnxtweak.patch import DensePatch

# What a larger patch saves beyond a smaller one has to be worth its size: this share of all that it saves,
# or of the log-loss that is left if that is less, for of a poor base any patch saves nearly all. More is
# asked of further columns, which each run of the model has to read, than of hidden units on the same.
WORTH_READING, WORTH_HIDDEN = 0.1, 0.02
# The name of the candidate without a neuron.
ALL_BIASES = "a bias for every class"


def simplest(losses: Sequence[np.ndarray], base: np.ndarray, worth: float) -> int:
    """The first, from simple to complex, that does about as well as the best: its place.

    losses : of the same samples (n,) under each. base (n,) : without any. A mean loss is about as low as the
    lowest within a standard error of the paired difference, or within `worth` of what the best saves or
    leaves, whichever is less.
    """
    if not len(base):
        return 0
    lowest = min(losses, key=lambda each: float(each.mean()))
    behind = (each - lowest for each in losses)
    room = worth * float(min(base.mean() - lowest.mean(), lowest.mean()))
    return next(
        place
        for place, each in enumerate(behind)
        if each.mean() <= max(room, float(each.std()) / np.sqrt(len(base)))
    )


@dataclass(frozen=True, eq=False)
class FitCandidate:
    """One way to patch. name : for notes. columns (K,) int64 : the table's columns it reads.

    held_out (N, C) : logits of each sample under weights that have not seen it. loss : mean log-loss of those
    over the judged samples, calibrated. learn : the patch fitted to all samples, and notes on the fitting,
    made once, when either is first asked for, which happens for the best candidate alone. behind : for
    notes, what it was preferred to.
    """

    name: str
    columns: np.ndarray
    held_out: np.ndarray
    loss: float
    learn: Callable[[], tuple[DensePatch, tuple[str, ...]]]
    behind: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "learn", cache(self.learn))

    def of_first(self, samples: int) -> FitCandidate:
        """The candidate with held-out logits of the first so many samples alone, without their copies."""
        return replace(self, held_out=self.held_out[:samples])

    def warmed(self, temperature: float) -> FitCandidate:
        """The candidate for the base's own logits, learnt on those divided by the temperature."""
        cool = self.learn  # and no more of this one: its logits are let go

        def learn() -> tuple[DensePatch, tuple[str, ...]]:
            patch, notes = cool()
            return patch.scaled(temperature), notes

        held_out = by_rows(lambda Z: Z * Z.dtype.type(temperature), self.held_out)
        return replace(self, held_out=held_out, learn=learn)

    @property
    def patch(self) -> DensePatch:
        """The patch on the candidate's columns, fitted to all samples."""
        return self.learn()[0]

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on fitting it."""
        return self.learn()[1]


def weakened(candidate: FitCandidate, strength: float, table: Table) -> FitCandidate:
    """The candidate at part of its strength."""
    if strength == 1.0:
        return candidate
    held_out = by_rows(
        lambda Z, patched: Z + ((patched - Z) * strength).astype(Z.dtype), table.Z, candidate.held_out
    )
    name = f"{candidate.name}, at {strength:.0%} of its strength"

    def learn() -> tuple[DensePatch, tuple[str, ...]]:
        return candidate.patch.scaled(strength), candidate.notes

    return replace(candidate, name=name, held_out=held_out, learn=learn)
