"""What has to become right, what has to stay, and what was learnt for both? The problem of listed samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from onnxtweak.head import Head
from onnxtweak.method.listed.imitation import Imitated
from onnxtweak.method.listed.repair import Repair, repair
from onnxtweak.method.patch_sum import added
from onnxtweak.method.solvers.squared_hinge import WORTH
from onnxtweak.method.table import Table, stacked
from onnxtweak.patch import DensePatch, Linear, bias_patch


@dataclass(frozen=True, eq=False)
class Earlier:
    """A patch that was fitted before, on which the repair comes. columns (k,) int64 : of the tables."""

    columns: np.ndarray
    patch: DensePatch

    def over(self, table: Table) -> Table:
        """The table with its logits patched."""
        return replace(table, Z=table.patched(self.columns, self.patch))

    @classmethod
    def of(cls, columns: np.ndarray, patch: DensePatch | None, classes: int) -> Earlier:
        """What a fit came to; None where nothing is changed."""
        if patch is None:
            return cls(np.empty(0, np.int64), bias_patch(np.zeros(classes)))
        return cls(columns, patch)


@dataclass(frozen=True, eq=False)
class Repaired:
    """What was learnt. patch : reads all columns of the tables, what was fitted before included.

    bias (C,) : the best biases for the same samples; control : must-samples "right" and guarded samples
    "broken" with them, of those in the tables.
    """

    patch: DensePatch
    found: Repair
    bias: np.ndarray
    control: dict[str, int]

    @property
    def changes(self) -> bool:
        """Whether it changes anything: nothing has to where all must-samples are right."""
        return bool(self.patch.parameters)

    @property
    def notes(self) -> tuple[str, ...]:
        """Which form it took, and why."""
        found = self.found
        notes = [f"listed samples: {found.form.name}"]
        if found.held_out is not None:
            fixed, broken = found.held_out.fixed, found.held_out.broken
            notes.append(
                f"of samples held out in thirds, a linear patch makes {fixed:.0%} of must-samples right, and"
                f" breaks {broken:.2%} of those that should stay"
            )
        if found.imitated is not None:
            notes.append(
                f"learnt from {len(found.imitated.like):,} imitations as well: lock-samples as they would"
                " look if the same befell them as the must-samples"
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
    bias, control = np.zeros(classes), dict[str, int]()
    for label, one in enumerate(found):
        bias[label] = one.bias[1] - one.bias[0]
        control = {name: control.get(name, 0) + count for name, count in one.control.items()}
        if one.changes:
            own = cast(DensePatch, one.patch.for_single_logit()).placed(np.array([label]), classes)
            patch, columns = added(patch, columns, own, neurons), np.arange(neurons)
    most = max(found, key=lambda one: one.patch.parameters)
    nothing = Linear(np.zeros((neurons, classes)), np.zeros(classes))
    return replace(most, patch=added(patch, columns, nothing, neurons), bias=bias, control=control)


@dataclass(frozen=True, eq=False)
class ListedProblem:
    """Rows that have to become right, listed must-samples first, and rows that are right and stay so.

    temperature : logits are divided by it while learning. imitated : rows to learn from, like must-samples.
    """

    wanted: Table
    stays: Table
    temperature: float
    head: Head
    imitated: Imitated | None = None

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
        return repair(self.wanted, self.stays, self.temperature, previous, self.imitated)

    def repaired(self, found: Repair, earlier: Earlier) -> Repaired:
        """What was learnt, with the best biases for the same rows beside it."""
        none = np.empty(0, np.int64)
        bias = repair(self.wanted.columns(none), self.stays.columns(none), self.temperature).patch
        right = [
            int(self.head.right(bias.applied(table.Z, table.T[:, :0]), table.labels).sum())
            for table in (self.wanted, self.stays)
        ]
        control = {"right": right[0], "broken": len(self.stays.labels) - right[1]}
        patch = added(earlier.patch, earlier.columns, found.patch, self.wanted.T.shape[1])
        assert bias.output_bias is not None  # which is all that is left without neurons
        return Repaired(patch, found, bias.output_bias, control)
