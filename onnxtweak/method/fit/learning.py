"""What does `fit` learn from? Samples in a table, and where it helps their mirrored copies (METHOD 7.1)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from onnxtweak.data.several.marks import rarest
from onnxtweak.engine.machine.large_arrays import chosen_rows
from onnxtweak.method.folds import Folds, KeptArrays, not_kept
from onnxtweak.method.table import Table, stacked
from onnxtweak.method.temperature import fit_temperature


@dataclass(frozen=True)
class Learning:
    """Samples to learn from.

    table : of N samples. judged (N,) bool : those that choices may be judged on. copies : the same
    samples in the same order, their images mirrored; None: there are none. They are learnt from where that
    lowers the held-out log-loss, with `always` in any case, and are never judged on. kept : as of `Folds`.
    Where the base knows the samples by heart, the two change places: see `judged_on_copies`.
    """

    table: Table
    judged: np.ndarray
    copies: Table | None = None
    always: bool = False
    kept: KeptArrays = not_kept

    @property
    def judged_on_copies(self) -> Learning:
        """The same with samples and copies exchanged: both are learnt from, and the copies are judged on.

        Of samples that the base knows by heart, nothing tells how far to go: hardly one is wrong.
        """
        assert self.copies is not None
        return replace(self, table=self.copies, copies=self.table)

    def folds(self, count: int | None, seed: int) -> Folds:
        """So many folds of the samples, groups whole; None: as many as the rarest class needs."""
        labels = self.table.labels
        labels = labels if labels.ndim == 1 else rarest(labels)
        return replace(Folds.of(labels, count, seed, self.judged, self.table.groups), kept=self.kept)

    def sliced(self, slices: np.ndarray) -> Learning:
        """The same with the groups (N,) int64 that a goal is about."""
        copies = None if self.copies is None else replace(self.copies, slices=slices)
        return replace(self, table=replace(self.table, slices=slices), copies=copies)

    def joined(self, kept: Table) -> Learning:
        """With samples to keep behind the others. They have no mirrored copies, and stand in for theirs."""
        kept = replace(kept, kept=np.ones(len(kept.labels), bool))
        whole, judged = self.keeping(np.zeros(len(self.table.labels), bool)), np.ones(len(kept.labels), bool)
        copies = None if whole.copies is None else stacked((whole.copies, kept))
        table, judged = stacked((whole.table, kept)), np.append(self.judged, judged)
        return replace(self, table=table, judged=judged, copies=copies)

    def keeping(self, kept: np.ndarray, labels: np.ndarray | None = None) -> Learning:
        """The same, some samples (N,) bool being kept. labels (N,) int64 : of all; None: as they are."""
        labels = self.table.labels if labels is None else labels
        copies = None if self.copies is None else replace(self.copies, kept=kept, labels=labels)
        return replace(self, table=replace(self.table, kept=kept, labels=labels), copies=copies)

    def cooled(self, folds: Folds) -> tuple[Learning, float]:
        """The same with logits divided by the base's temperature on the judged samples, and that."""
        table = self.table
        temperature = fit_temperature(chosen_rows(table.Z, folds.judged), table.labels[folds.judged])
        copies = None if self.copies is None else self.copies.cooled(temperature)
        return replace(self, table=table.cooled(temperature), copies=copies), temperature

    def rows(self, folds: Folds) -> tuple[Table, Folds]:
        """What is learnt from in any case, and its folds. folds : of the samples."""
        return self.with_copies(folds) if self.always and self.copies is not None else (self.table, folds)

    def with_copies(self, folds: Folds) -> tuple[Table, Folds]:
        """The samples with their copies behind them, and the folds of both."""
        assert self.copies is not None
        return stacked((self.table, self.copies)), folds.doubled
