"""Which patch makes must-rows right and breaks no guarded one, and what is infeasible (METHOD 14)?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxtweak.head import ONE_LABEL
from onnxtweak.method.folds import KeptArrays, digest_of, fold_numbers, not_kept
from onnxtweak.method.listed.disturbance import Disturbance
from onnxtweak.method.listed.forms import Alike, Both, OneByOne
from onnxtweak.method.listed.imitation import Imitated
from onnxtweak.method.listed.taught import taught
from onnxtweak.method.patch_sum import widened
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
from onnxtweak.patch import DensePatch, Mlp

_Learn = Callable[[np.ndarray, np.ndarray], DensePatch]

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
    def good(self) -> float:
        """What it is to be judged by: above 0 it is worth it, rather than units that leave others alone."""
        return self.fixed - _ONE_IN * self.broken


@dataclass(frozen=True, eq=False)
class Repair:
    """The answer. patch : reads all columns, in the units of the raw logits. form : in words.

    feasible (m,) bool : must-rows that it was fitted to; the others are right for no penalty, or at the price
    of too many guarded rows. held_out : None where rows were too few to tell. solved : the weights.
    imitated : what it was learnt from beside them; None: nothing. spared : how many that are infeasible could
    be right, if more than `WORTH` guarded rows might break for each.
    """

    patch: DensePatch
    form: RepairForm
    feasible: np.ndarray
    held_out: HeldOut | None
    solved: Separation
    imitated: Imitated | None = None
    spared: int = 0

    @property
    def cost(self) -> int:
        """Of must-rows that are infeasible and guarded rows that break, in these; the least is sought."""
        return WORTH * int((~self.feasible).sum()) + self.solved.others


def repair(
    must: Table,
    guarded: Table,
    temperature: float,
    previous: Repair | None = None,
    imitated: Imitated | None = None,
    kept: KeptArrays = not_kept,
) -> Repair:
    """The patch of least disturbance that makes must-rows right and keeps guarded rows so.

    must : rows with the labels that they must get. guarded : rows that are right. temperature : logits are
    divided by it while learning. previous : of the first of these rows; the form is its, and what was
    infeasible is not tried again. imitated : rows to learn from as well, where that is better for must-rows
    held out. kept : what hands out weights that an earlier run found, and stores those of this one.
    """
    if previous is not None:
        problem = _Problem(must, guarded, temperature, previous.imitated, kept)
        return problem.solved(previous.form.silent_on(guarded.T), previous.held_out, previous)
    problem = _Problem(must, guarded, temperature, kept=kept)
    alike = Alike(Disturbance.of(guarded.T, must.T))
    wrong = ~_right(must)
    if not wrong.any():
        none = np.zeros((alike.width, must.Z.shape[1]))
        done = Separation(none, 0, 0, 0)
        return Repair(alike.patch(none), alike, ~wrong, None, done)
    held_out = problem.held_out()
    if held_out is not None and imitated is not None:
        other = replace(problem, imitated=imitated)
        also = other.held_out()
        # About as good on few rows will do: imitations have taught it more than these can show.
        least = held_out.good - 0.5 / np.sqrt(wrong.sum())
        if also is not None and also.good > max(least, 0.0):
            problem, held_out = other, also
    units = bool(guarded.T.size)
    if units and wrong.sum() <= _UNITS and not (held_out is not None and held_out.good > 0):
        single = OneByOne.of(alike.disturbance, must.T[wrong], guarded.T)
        found = problem.solved(single, held_out)
        return found if found.feasible.all() else min(found, problem.together(alike, held_out), key=_cost)
    return problem.together(alike, held_out) if units else problem.solved(alike, held_out)


@dataclass(frozen=True, eq=False)
class Lesson:
    """What imitations taught hidden units. patch : reads all columns of the tables, in the units of the raw
    logits. held_out : what it does to rows held out. imitations : how many. inputs : whether numbers of the
    model's input are among what it reads."""

    patch: DensePatch
    held_out: HeldOut
    imitations: int
    inputs: bool


def teach(
    must: Table,
    guarded: Table,
    temperature: float,
    imitated: Imitated,
    widths: Sequence[int],
    least: HeldOut,
    kept: KeptArrays = not_kept,
) -> Lesson | None:
    """What imitations teach hidden units; None where a linear patch does as well on rows held out.

    Tables and kept as of `repair`. widths : how many of the first columns are read, each tried. least : of
    the linear patch.
    """
    best, shown, columns = None, least, must.T.shape[1]
    for width in widths:
        tables = [_first_columns(table, width) for table in (must, guarded, imitated.table)]
        problem = _Problem(tables[0], tables[1], temperature, replace(imitated, table=tables[2]), kept)
        found = problem.held_out(problem.taught, folds=1)
        if found is not None and found.good > shown.good:
            best, shown = problem, found
    if best is None:
        return None
    patch = best.taught(np.arange(len(must.labels)), np.arange(len(guarded.labels))).scaled(temperature)
    read = best.must.T.shape[1]
    wide = widened(patch, read, columns, must.Z.shape[1])
    return Lesson(wide, shown, len(imitated.like), inputs=read > min(widths))


def _first_columns(table: Table, count: int) -> Table:
    return replace(table, T=table.T[:, :count])


def _cost(found: Repair) -> int:
    return found.cost


@dataclass(frozen=True, eq=False)
class _Problem:
    """Rows that must become right, and rows that are, with raw logits; learnt on logits / temperature.

    imitated : rows to learn from as well; None: none. kept : as of `repair`.
    """

    must: Table
    guarded: Table
    temperature: float
    imitated: Imitated | None = None
    kept: KeptArrays = not_kept

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
        spared = 0 if previous is None else previous.spared
        for _ in range(_REMOVALS):
            found = self._separated(form, kept, None if previous is None else previous.solved)
            right = self._made_right(form, found)
            failing = kept & ~right
            spared += found.spared
            if not failing.any():
                break
            # What is right without a patch is not given up for what no patch makes right.
            kept &= ~(failing & ~was if (failing & ~was).any() else failing)
        patch = form.patch(found.U).scaled(self.temperature)
        return Repair(patch, form, right, held_out, found, self.imitated, min(spared, int((~right).sum())))

    def held_out(self, learn: _Learn | None = None, folds: int = _FOLDS) -> HeldOut | None:
        """What a patch does to rows held out in folds; None without neurons, or for too few rows.

        learn : gives the patch of some of the rows; None: a linear one. folds : how many of them are tried.
        """
        tables = [self.must.cooled(self.temperature), self.guarded.cooled(self.temperature)]
        was = [_right(table) for table in tables]
        few = (~was[0]).sum() < _FEWEST_MUST or len(was[1]) < _FEWEST_GUARDED
        if few or not self.must.T.shape[1]:
            return None
        spread = [
            _spread(table, most) for table, most in zip(tables, (_MOST_MUST, _MOST_GUARDED), strict=True)
        ]
        numbers = [
            fold_numbers(table.labels[rows], _FOLDS, 0) for table, rows in zip(tables, spread, strict=True)
        ]
        gained, count = [0, 0], [0, 0]
        for fold in range(folds):
            patch = (learn or self._linear)(
                *(rows[k != fold] for rows, k in zip(spread, numbers, strict=True))
            )
            for side, (table, rows, k) in enumerate(zip(tables, spread, numbers, strict=True)):
                held, before = table.rows(rows[k == fold]), was[side][rows[k == fold]]
                after = ONE_LABEL.right(held.patched(None, patch), held.labels)
                gained[side] += int(after.sum()) - int(before.sum())
                count[side] += int((before == bool(side)).sum())
        return HeldOut(max(gained[0], 0) / max(count[0], 1), -gained[1] / max(count[1], 1))

    def taught(self, must: np.ndarray, guarded: np.ndarray) -> DensePatch:
        """What imitations teach of some of the rows, for logits / temperature. must, guarded : numbers."""
        assert self.imitated is not None
        stays = self.guarded.rows(guarded).cooled(self.temperature)
        learnt = self.imitated.of(must).cooled(self.temperature)
        what = "taught"
        if self.kept is not not_kept:
            what += f" {digest_of(stays.T, learnt.T, learnt.Z, learnt.labels)}"
        return Mlp(**self.kept(what, lambda: taught(stays, learnt).arrays))

    def _linear(self, must: np.ndarray, guarded: np.ndarray) -> DensePatch:
        """A linear patch of some of the rows, of logits / temperature. must, guarded : their numbers."""
        tables = (
            self.must.rows(must).cooled(self.temperature),
            self.guarded.rows(guarded).cooled(self.temperature),
        )
        imitated = None
        if self.imitated is not None:
            rows = np.flatnonzero(np.isin(self.imitated.like, must))
            like = np.searchsorted(must, self.imitated.like[rows])
            imitated = Imitated(self.imitated.table.rows(rows).cooled(self.temperature), like)
        alike = Alike(Disturbance.of(tables[1].T, tables[0].T))
        return _Problem(*tables, 1.0, imitated, self.kept).solved(alike, None).patch

    def _separated(
        self, form: RepairForm, kept: np.ndarray, before: Separation | None, *, alike: bool = False
    ) -> Separation:
        """kept (m,) bool : must-rows that take part."""
        number = np.flatnonzero(kept)
        parts = [self.must.rows(number), self.guarded]
        parts += [] if self.imitated is None else [self.imitated.of(number)]
        rows = stacked(parts).cooled(self.temperature)
        kind = np.repeat(np.arange(len(parts)), [len(part.labels) for part in parts])
        listed = ListedRows(rows.T, rows.Z, rows.labels, kind == 0, kind == 2, form)
        what = "separated"
        if self.kept is not not_kept:
            start = None if before is None else digest_of(*before.arrays.values())
            what += f" {listed.digest} from {start}{', alike' * alike}"
        found = self.kept(what, lambda: separate(listed, before, alike=alike).arrays)
        return Separation.of_arrays(found)

    def _made_right(self, form: RepairForm, found: Separation) -> np.ndarray:
        """Which must-rows (m,) lead clearly."""
        cool = self.must.cooled(self.temperature)
        return lead(form.patch(found.U).applied(cool.Z, cool.T), cool.labels) >= CLEAR * form.margin


def _spread(table: Table, most: int) -> np.ndarray:
    """Numbers of at most so many rows, evenly from all."""
    rows = np.arange(len(table.labels))
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(int)]


def _right(table: Table) -> np.ndarray:
    return ONE_LABEL.right(table.Z, table.labels)
