"""Which patch makes must-rows right and breaks no guarded one, and what is infeasible (METHOD 14)?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxtweak.head import ONE_LABEL
from onnxtweak.method.folds import fold_numbers
from onnxtweak.method.listed.disturbance import Disturbance
from onnxtweak.method.listed.forms import Alike, Both, OneByOne
from onnxtweak.method.solvers.squared_hinge import CLEAR, ListedRows, RepairForm, lead, separate
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

    feasible (m,) bool : must-rows that it was fitted to; the others are right for no penalty. held_out : None
    where rows were too few to tell. penalty : number of the one that it took.
    """

    patch: DensePatch
    form: RepairForm
    feasible: np.ndarray
    held_out: HeldOut | None
    penalty: int = 0


def repair(must: Table, guarded: Table, temperature: float, previous: Repair | None = None) -> Repair:
    """The patch of least disturbance that makes must-rows right and keeps guarded rows so.

    must : rows with the labels that they must get. guarded : rows that are right. temperature : logits are
    divided by it while learning. previous : of fewer guarded rows; the form is its, the penalty not less, and
    what was infeasible is not tried again.
    """
    cool = must.cooled(temperature), guarded.cooled(temperature)
    if _right(must).all():
        alike, none = (
            Alike(Disturbance.of(guarded.T, must.T)),
            np.zeros((must.T.shape[1] + 1, must.Z.shape[1])),
        )
        return Repair(alike.patch(none), alike, np.ones(len(must.labels), bool), None)
    held_out = _held_out(*cool) if previous is None else previous.held_out
    found, forms = None, _forms(must, guarded, held_out)
    for form in forms if previous is None else [form for form in forms if form.name == previous.form.name]:
        other = _solved(form, *cool, temperature, (held_out, previous))
        found = other if found is None or other.feasible.sum() > found.feasible.sum() else found
        if found.feasible.all():
            break
    assert found is not None  # there is a form
    return found


def _forms(must: Table, guarded: Table, held_out: HeldOut | None) -> list[RepairForm]:
    """What is tried, the preferred first."""
    disturbance, wrong = Disturbance.of(guarded.T, must.T), ~_right(must)
    alike = Alike(disturbance)
    if not guarded.T.size or not 0 < wrong.sum() <= _UNITS:
        return [alike]
    single = OneByOne.of(disturbance, must.T[wrong], guarded.T)
    both = Both(alike, single)
    return [alike, single, both] if held_out is not None and held_out.worth else [single, alike, both]


def _solved(
    form: RepairForm,
    must: Table,
    guarded: Table,
    temperature: float,
    known: tuple[HeldOut | None, Repair | None] = (None, None),
) -> Repair:
    """The repair of one form. Rows that no penalty makes right are left out, and the rest is solved again.

    known : what samples held out have shown, and the repair of fewer guarded rows.
    """
    kept, was = np.ones(len(must.labels), bool), _right(must)
    held_out, previous = known
    begin = 0 if previous is None else previous.penalty
    if previous is not None:  # rows that an earlier patch broke may have joined those of then
        kept[: len(previous.feasible)] = previous.feasible | was[: len(previous.feasible)]
    for _ in range(_REMOVALS):
        rows = stacked([must.rows(np.flatnonzero(kept)), guarded])
        first = np.arange(len(rows.labels)) < kept.sum()
        U, penalty = separate(ListedRows(rows.T, rows.Z, rows.labels, first, form), begin)
        patch = form.patch(U)
        right = lead(patch.applied(must.Z, must.T), must.labels) >= CLEAR * form.margin
        failing = kept & ~right
        if not failing.any():
            break
        # What is right without a patch is not given up for what no patch makes right.
        kept &= ~(failing & ~was if (failing & ~was).any() else failing)
    return Repair(patch.scaled(temperature), form, right, held_out, penalty)


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
        tried = _solved(Alike(Disturbance.of(stay.T, learn.T)), learn, stay, 1.0)
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
