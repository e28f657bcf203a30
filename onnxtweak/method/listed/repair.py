"""Which patch makes must-rows right and breaks no guarded one, and what is infeasible (METHOD 14)?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxtweak.head import ONE_LABEL
from onnxtweak.method.folds import fold_numbers
from onnxtweak.method.listed.disturbance import Disturbance
from onnxtweak.method.listed.forms import Alike, Both, OneByOne
from onnxtweak.method.solvers.squared_hinge import (
    CLEAR,
    WORTH,
    ListedRows,
    RepairForm,
    Separation,
    lead,
    separate,
)
from onnxtweak.method.table import Table, stacked
from onnxtweak.patch import DensePatch

# A hidden unit each is given to so many must-rows at most.
_UNITS = 1000
# Fewer rows than these cannot show, held out in folds, what a linear patch does to others.
_FEWEST_MUST, _FEWEST_GUARDED, _FOLDS = 6, 30, 3
# A linear patch has to be worth it even where one sample in this many is like the must-rows.
_ONE_IN = 20
# Of more rows so many, evenly from all, are held out in folds: must-rows and guarded ones.
_MOST_MUST, _MOST_GUARDED = 1_500, 6_000
# Rows that are infeasible are left out, and the rest solved again, this often.
_REMOVALS = 3


@dataclass(frozen=True)
class HeldOut:
    """What a linear patch does to rows that it was not fitted to: shares of must-rows that become right, and
    of guarded rows that become wrong."""

    fixed: float
    broken: float

    @property
    def worth(self) -> bool:
        """Whether the linear patch is to be preferred to units that leave other samples alone."""
        return self.fixed > _ONE_IN * self.broken


@dataclass(frozen=True, eq=False)
class Repair:
    """The answer. patch : reads all columns, in the units of the raw logits. form : in words.

    feasible (m,) bool : must-rows that it was fitted to; the others are right for no penalty, or at the price
    of too many guarded rows. held_out : None where rows were too few to tell. solved : the weights.
    """

    patch: DensePatch
    form: RepairForm
    feasible: np.ndarray
    held_out: HeldOut | None
    solved: Separation

    @property
    def cost(self) -> int:
        """Of must-rows that are infeasible and guarded rows that break, in these; the least is sought."""
        return WORTH * int((~self.feasible).sum()) + self.solved.others


def repair(must: Table, guarded: Table, temperature: float, previous: Repair | None = None) -> Repair:
    """The patch of least disturbance that makes must-rows right and keeps guarded rows so.

    must : rows with the labels that they must get. guarded : rows that are right. temperature : logits are
    divided by it while learning. previous : of the first of these rows; the form is its, and what was
    infeasible is not tried again.
    """
    problem = _Problem(must, guarded, temperature)
    if previous is not None:
        return problem.solved(previous.form.silent_on(guarded.T), previous.held_out, previous)
    alike = Alike(Disturbance.of(guarded.T, must.T))
    wrong = ~_right(must)
    if not wrong.any():
        none = np.zeros((alike.width, must.Z.shape[1]))
        done = Separation(none, 0, 0, 0)
        return Repair(alike.patch(none), alike, ~wrong, None, done)
    held_out = _held_out(must.cooled(temperature), guarded.cooled(temperature))
    units = bool(guarded.T.size)
    if units and wrong.sum() <= _UNITS and not (held_out is not None and held_out.worth):
        single = OneByOne.of(alike.disturbance, must.T[wrong], guarded.T)
        found = problem.solved(single, held_out)
        return found if found.feasible.all() else min(found, problem.together(alike, held_out), key=_cost)
    return problem.together(alike, held_out) if units else problem.solved(alike, held_out)


def _cost(found: Repair) -> int:
    return found.cost


@dataclass(frozen=True, eq=False)
class _Problem:
    """Rows that must become right, and rows that are, with raw logits; learnt on logits / temperature."""

    must: Table
    guarded: Table
    temperature: float

    def together(self, alike: Alike, held_out: HeldOut | None) -> Repair:
        """The linear patch, with units for what it leaves wrong, unless that is too much."""
        found = self._separated(alike, np.ones(len(self.must.labels), bool), None, alike=True)
        left = ~self._made_right(alike, found)
        if not left.any() or left.sum() > _UNITS:
            return self.solved(alike, held_out)
        single = OneByOne.of(alike.disturbance, self.must.T[left], self.guarded.T)
        return self.solved(Both(alike, single), held_out)

    def solved(self, form: RepairForm, held_out: HeldOut | None, previous: Repair | None = None) -> Repair:
        """The repair of one form. Rows that no penalty makes right are left out, the rest is solved again.

        previous : of the first of these rows.
        """
        kept, was = np.ones(len(self.must.labels), bool), _right(self.must)
        if previous is not None:  # rows that an earlier patch broke may have joined those of then
            kept[: len(previous.feasible)] = previous.feasible | was[: len(previous.feasible)]
        for _ in range(_REMOVALS):
            found = self._separated(form, kept, None if previous is None else previous.solved)
            right = self._made_right(form, found)
            failing = kept & ~right
            if not failing.any():
                break
            # What is right without a patch is not given up for what no patch makes right.
            kept &= ~(failing & ~was if (failing & ~was).any() else failing)
        return Repair(form.patch(found.U).scaled(self.temperature), form, right, held_out, found)

    def _separated(
        self, form: RepairForm, kept: np.ndarray, before: Separation | None, *, alike: bool = False
    ) -> Separation:
        """kept (m,) bool : must-rows that take part."""
        rows = stacked([self.must.rows(np.flatnonzero(kept)), self.guarded]).cooled(self.temperature)
        first = np.arange(len(rows.labels)) < kept.sum()
        return separate(ListedRows(rows.T, rows.Z, rows.labels, first, form), before, alike=alike)

    def _made_right(self, form: RepairForm, found: Separation) -> np.ndarray:
        """Which must-rows (m,) lead clearly."""
        cool = self.must.cooled(self.temperature)
        return lead(form.patch(found.U).applied(cool.Z, cool.T), cool.labels) >= CLEAR * form.margin


def _held_out(must: Table, guarded: Table) -> HeldOut | None:
    """What a linear patch does to rows held out in folds; None where there are too few to tell."""
    was = _right(must)
    if (~was).sum() < _FEWEST_MUST or len(guarded.labels) < _FEWEST_GUARDED:
        return None
    must, guarded = _thinned(must, _MOST_MUST), _thinned(guarded, _MOST_GUARDED)
    was = _right(must)
    folds = [fold_numbers(table.labels, _FOLDS, 0) for table in (must, guarded)]
    fixed = broken = 0
    for fold in range(_FOLDS):
        learn, stay = (
            table.rows(np.flatnonzero(k != fold)) for table, k in zip((must, guarded), folds, strict=True)
        )
        tried = _Problem(learn, stay, 1.0).solved(Alike(Disturbance.of(stay.T, learn.T)), None)
        for table, k in zip((must, guarded), folds, strict=True):
            held = table.rows(np.flatnonzero(k == fold))
            before, after = _right(held), ONE_LABEL.right(tried.patch.applied(held.Z, held.T), held.labels)
            change = int(after.sum()) - int(before.sum())
            fixed, broken = (fixed + change, broken) if table is must else (fixed, broken - change)
    return HeldOut(max(fixed, 0) / int((~was).sum()), broken / len(guarded.labels))


def _thinned(table: Table, most: int) -> Table:
    """At most so many rows, evenly from all."""
    rows = np.arange(len(table.labels))
    return table if len(rows) <= most else table.rows(rows[np.linspace(0, len(rows) - 1, most).astype(int)])


def _right(table: Table) -> np.ndarray:
    return ONE_LABEL.right(table.Z, table.labels)
