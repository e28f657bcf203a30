"""What has to become right, what has to stay, and what was learnt for both? The problem of listed samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from onnxtweak.head import Head
from onnxtweak.method.folds import KeptArrays, not_kept
from onnxtweak.method.listed.imitation import Imitated
from onnxtweak.method.listed.repair import HeldOut, Lesson, Repair, repair
from onnxtweak.method.patch_sum import added, widened
from onnxtweak.method.solvers.squared_hinge import WORTH
from onnxtweak.method.table import Table, stacked
from onnxtweak.patch import DensePatch, Linear, bias_patch


@dataclass(frozen=True, eq=False)
class Earlier:
    """A patch that was fitted before, on which the repair comes. columns (k,) int64 : of the tables.

    inputs : how many of the tables' last columns are numbers of the model's input, which repairs do not read.
    """

    columns: np.ndarray
    patch: DensePatch
    inputs: int = 0

    def patched(self, table: Table) -> Table:
        """The table with its logits patched."""
        return replace(table, Z=table.patched(self.columns, self.patch))

    def over(self, table: Table) -> Table:
        """The same, as repairs read it."""
        return replace(self.patched(table), T=table.T[:, : table.T.shape[1] - self.inputs])

    def with_more(self, patch: DensePatch, neurons: int) -> Earlier:
        """With another patch added, which reads all `neurons` columns."""
        return replace(
            self, columns=np.arange(neurons), patch=added(self.patch, self.columns, patch, neurons)
        )

    @classmethod
    def of(cls, columns: np.ndarray, patch: DensePatch | None, classes: int) -> Earlier:
        """What a fit came to; None where nothing is changed."""
        if patch is None:
            return cls(np.empty(0, np.int64), bias_patch(np.zeros(classes)))
        return cls(columns, patch)


@dataclass(frozen=True, eq=False)
class Control:
    """Biases alone (C,). counts : must-samples "right" and guarded samples "broken" with them, of those in
    the tables."""

    bias: np.ndarray
    counts: dict[str, int]


@dataclass(frozen=True, eq=False)
class Repaired:
    """What was learnt. patch : reads all columns of the tables, what was fitted before included.

    control : the best biases for the same samples. lesson : what imitations taught before the repair was
    sought.
    """

    patch: DensePatch
    found: Repair
    control: Control
    lesson: Lesson | None = None

    @property
    def form(self) -> str:
        """Of the patch, in words."""
        if self.lesson is None:
            return self.found.form.name
        more = f", and {self.found.form.name}" if self.found.patch.parameters else ""
        return f"hidden units that imitations teach{more}"

    @property
    def held_out(self) -> HeldOut | None:
        """What the part that is for all samples does to samples held out."""
        return self.found.held_out if self.lesson is None else self.lesson.held_out

    @property
    def changes(self) -> bool:
        """Whether it changes anything: nothing has to where all must-samples are right."""
        return bool(self.patch.parameters)

    @property
    def notes(self) -> tuple[str, ...]:
        """Which form it took, and why."""
        found, lesson = self.found, self.lesson
        notes = [f"listed samples: {self.form}"]
        if self.held_out is not None:
            fixed, broken = self.held_out.fixed, self.held_out.broken
            which, verb = " in thirds, a linear patch makes", "breaks"
            if lesson is not None:
                which, verb = ", a third of all, they make", "break"
            notes.append(
                f"of samples held out{which} {fixed:.0%} of must-samples right, and"
                f" {verb} {broken:.2%} of those that should stay"
            )
        imitations = 0 if found.imitated is None else len(found.imitated.like)
        imitations = imitations if lesson is None else lesson.imitations
        if imitations:
            read = "" if lesson is None or not lesson.inputs else "; the model's input is read too"
            notes.append(
                f"learnt from {imitations:,} imitations as well: lock-samples as they would"
                f" look if the same befell them as the must-samples{read}"
            )
        if found.spared:
            notes.append(
                f"must-samples left wrong because each would break more than {WORTH} lock-samples:"
                f" {found.spared:,}; to have them right all the same, leave lock-samples that may break out"
            )
        return tuple(notes)


def of_labels(found: Sequence[Repaired], earlier: Earlier, neurons: int) -> Repaired:
    """What was learnt for each of C labels, with two classes: not there, and there; as one patch of all.

    earlier : of the C labels. neurons : K, of the tables. The form is that of the label that takes most.
    """
    patch, columns, classes = earlier.patch, earlier.columns, len(found)
    bias, counts = np.zeros(classes), dict[str, int]()
    for label, one in enumerate(found):
        bias[label] = one.control.bias[1] - one.control.bias[0]
        counts = {name: counts.get(name, 0) + count for name, count in one.control.counts.items()}
        if one.changes:
            own = cast(DensePatch, one.patch.for_single_logit()).placed(np.array([label]), classes)
            patch, columns = added(patch, columns, own, neurons), np.arange(neurons)
    most = max(found, key=lambda one: one.patch.parameters)
    whole = added(patch, columns, Linear(np.zeros((neurons, classes)), np.zeros(classes)), neurons)
    return replace(most, patch=whole, control=Control(bias, counts))


@dataclass(frozen=True, eq=False)
class ListedProblem:
    """Rows that have to become right, listed must-samples first, and rows that are right and stay so.

    temperature : logits are divided by it while learning. imitated : rows to learn from, like must-samples.
    kept : as of `repair`.
    """

    wanted: Table
    stays: Table
    temperature: float
    head: Head
    imitated: Imitated | None = None
    kept: KeptArrays = not_kept

    def with_guarded(self, table: Table, *, bound: bool) -> ListedProblem:
        """With more rows that have to stay.

        bound : those that an earlier patch broke have to become right again; else they are left out.
        """
        right = self.head.right(table.Z, table.labels)
        return replace(
            self,
            wanted=stacked([self.wanted, table.rows(np.flatnonzero(~right & bound))]),
            stays=stacked([self.stays, table.rows(np.flatnonzero(right))]),
        )

    def solved(self, previous: Repair | None = None) -> Repair:
        """The repair; previous : of fewer guarded rows."""
        return repair(self.wanted, self.stays, self.temperature, previous, self.imitated, self.kept)

    def control(self) -> Control:
        """The best biases for the same rows."""
        none = np.empty(0, np.int64)
        tables = self.wanted.columns(none), self.stays.columns(none)
        bias = repair(*tables, self.temperature, kept=self.kept).patch
        right = [
            int(self.head.right(bias.applied(table.Z, table.T[:, :0]), table.labels).sum())
            for table in (self.wanted, self.stays)
        ]
        assert bias.output_bias is not None  # which is all that is left without neurons
        return Control(bias.output_bias, {"right": right[0], "broken": len(self.stays.labels) - right[1]})

    def repaired(
        self, found: Repair, earlier: Earlier, control: Control, lesson: Lesson | None = None
    ) -> Repaired:
        """What was learnt, as one patch of all columns, with the best biases beside it."""
        width, classes = self.wanted.T.shape[1], self.wanted.Z.shape[1]
        own = widened(found.patch, width, width + earlier.inputs, classes)
        patch = added(earlier.patch, earlier.columns, own, width + earlier.inputs)
        return Repaired(patch, found, control, lesson)
