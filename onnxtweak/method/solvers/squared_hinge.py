"""Which least weights make listed rows right by a margin? Squared hinges, penalised ever more (METHOD 14)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np

from onnxtweak.engine.machine.narrow_rows import row_max, row_sums
from onnxtweak.method.folds import Arrays, digest_of
from onnxtweak.method.solvers.lbfgs import lbfgs
from onnxtweak.method.table import Table
from onnxtweak.patch import DensePatch

# What is tried in turn until all rows are right: penalties of must-rows and of the others, against half the
# squared weights, and the part of the margin asked for. First both alike; where a must-row is still wrong
# then, must-rows go first.
_ALIKE = tuple((penalty, penalty, 1.0) for penalty in (0.01, 0.1, 1.0, 10.0, 100.0))
_MUST_FIRST = ((1e3, 10.0, 1.0), (1e4, 1.0, 1.0), (1e4, 0.1, 0.1), (1e6, 0.1, 0.1))
_STAGES = _ALIKE + _MUST_FIRST
# Rows to learn from count together as much as this share of the must-rows. Twice as much learns little more
# from them, and costs others twice as much.
_LEARNT_SHARE = 0.5
# A must-row that stays wrong counts as much as so many others that break.
WORTH = 10
# A row counts as right from this part of the margin on: what is written rounds.
CLEAR = 0.02
# Rows that the last solution pushed into the margin join the problem, this often at most for each penalty.
_ROUNDS = 8
# With so many rows that take part from the beginning, or more than ten times as many in all, float32 will do;
# and the next penalty comes where those that join are fewer than this part of the problem.
_MANY, _FEW = 1000, 0.01
# L-BFGS ends where less than this part of the loss without a patch is to be gained, of many rows the second;
# or after so many steps.
_TOLERANCE, _STEPS = (1e-8, 1e-6), 500


class RepairForm(Protocol):
    """A kind of patch that is linear in weights U (width, C) of its features."""

    @property
    def name(self) -> str:
        """For notes."""

    @property
    def margin(self) -> float:
        """By how much calibrated logits should lead."""

    @property
    def width(self) -> int:
        """A, the number of features."""

    @property
    def digest(self) -> str:
        """The features depend on it."""

    def features(self, T: np.ndarray) -> np.ndarray:
        """(n, A) float32 for T (n, K)."""

    def patch(self, U: np.ndarray) -> DensePatch:
        """The patch, which reads T."""

    def silent_on(self, guarded: np.ndarray, /) -> RepairForm:
        """The same form where T (n, K) of more guarded rows are known."""


@dataclass(frozen=True, eq=False)
class ListedRows:
    """Rows that have to be right. T (n, K). Z (n, C) : calibrated logits without a patch. labels (n,) int64.

    must (n,) bool : rows that have to become right; the others are right as they are, and may not become
    wrong, but for those of learnt (n,) bool : they are learnt from, and may be wrong. form : of the patch.
    """

    T: np.ndarray
    Z: np.ndarray
    labels: np.ndarray
    must: np.ndarray
    learnt: np.ndarray
    form: RepairForm

    @property
    def digest(self) -> str:
        """What is solved for depends on it."""
        return f"{digest_of(self.T, self.Z, self.labels, self.must, self.learnt)} {self.form.digest}"

    def penalties(self, order: np.ndarray, of_must: float, of_others: float) -> np.ndarray:
        """(len(order), 1): those of some rows, in this order."""
        share = _LEARNT_SHARE * self.must.sum() / max(int(self.learnt.sum()), 1)
        others = np.where(self.learnt[order], share * of_others, of_others)
        return np.where(self.must[order], of_must, others)[:, None]

    def lead(self, U: np.ndarray) -> np.ndarray:
        """By how much each row's own score exceeds its best rival's, (n,), under weights U (A, C)."""
        return lead(Table(self.T, self.Z, self.labels).patched(None, self.form.patch(U)), self.labels)

    def wrong(self, ahead: np.ndarray) -> tuple[int, int]:
        """Must-rows, and others, that do not lead clearly. ahead (n,) : by how much they lead.

        What was close before need not lead by more than half of that.
        """
        clear = CLEAR * self.form.margin
        need = np.where(self.must, clear, np.minimum(clear, lead(self.Z, self.labels) / 2))
        wrong = (ahead < need) & ~self.learnt
        return int((wrong & self.must).sum()), int((wrong & ~self.must).sum())


def lead(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """By how much each row's own score exceeds its best rival's, (n,), for scores (n, C)."""
    rows = np.arange(len(labels))
    rivals = scores.copy()
    own = rivals[rows, labels]
    rivals[rows, labels] = -np.inf
    return own - row_max(rivals)


@dataclass(frozen=True, eq=False)
class Separation:
    """Weights that were found. U (A, C). stage : the number of their penalties. must, others : rows that do
    not lead clearly. spared : of the must-rows, how many other penalties made right, at too high a price."""

    U: np.ndarray
    stage: int
    must: int
    others: int
    spared: int = 0

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All of it as arrays."""
        return {"U": self.U, "counts": np.array([self.stage, self.must, self.others, self.spared])}

    @classmethod
    def of_arrays(cls, found: Arrays) -> Separation:
        """What `arrays` gave."""
        return cls(found["U"], *found["counts"].tolist())

    @property
    def cost(self) -> int:
        """In rows that may break; the least is sought."""
        return WORTH * self.must + self.others

    @property
    def final(self) -> bool:
        """Whether no higher penalty is left for rows that are no must-rows."""
        return self.stage >= len(_ALIKE) - 1


def separate(rows: ListedRows, before: Separation | None = None, *, alike: bool = False) -> Separation:
    """Weights U (A, C) that minimise `|U|^2 / 2 + C sum over rows and i of max(0, margin - (s_y - s_i))^2`.

    s = Z + F U. C is raised until every row of `must` is right and no other is wrong; where that cannot be,
    for must-rows alone, and at last for a smaller margin; what costs least is taken. Rows that are no
    must-rows join once a solution has pushed them into the margin, so that of very many only those count
    that matter; those that are learnt from take part from the beginning, with penalties of their own.

    before : found for fewer rows. It is where this one begins, and if all must-rows are right, the penalty is
    raised once at most: higher ones fit rows that are known at the expense of those that are not yet.
    alike : must-rows do not go first.
    """
    C = rows.Z.shape[1]
    best = before or Separation(np.zeros((rows.form.width, C)), 0, len(rows.must) + 1, 0)
    if not rows.must.any():
        return replace(best, must=0)
    U, begin, active = best.U, best.stage, rows.must | rows.learnt
    if before is not None:
        active |= rows.lead(U) < rows.form.margin
        best = replace(best, must=len(rows.must) + 1)
    order = np.flatnonzero(active)
    many = (rows.must | rows.learnt).sum() >= _MANY or len(rows.labels) > 10 * _MANY
    kind = np.float32 if many else np.float64
    F, wrong = rows.form.features(rows.T[order]).astype(kind), (1, 1)
    fewest = len(rows.must)
    for number in range(begin, len(_ALIKE if alike else _STAGES)):
        if number >= len(_ALIKE) and not wrong[0] and number > begin:
            break
        of_must, of_others, part = _STAGES[number]
        margin = part * rows.form.margin
        for _ in range(_ROUNDS):
            Z, labels = rows.Z[order].astype(kind), rows.labels[order]
            penalty = rows.penalties(order, of_must, of_others).astype(kind)
            U = _minimised(_Hinges(F, Z, labels, margin, penalty), U)
            ahead = rows.lead(U)
            wrong = rows.wrong(ahead)
            joining = np.setdiff1d(np.flatnonzero(ahead < margin), order)
            if not len(joining):
                break
            F = np.concatenate([F, rows.form.features(rows.T[joining]).astype(kind)])
            order = np.append(order, joining)
            if many and len(joining) < _FEW * len(order):
                break
        found = Separation(U, number, *wrong)
        best = found if found.cost < best.cost else best
        fewest = min(fewest, found.must)
        if not any(wrong) or (before is not None and not wrong[0] and number > begin):
            break
    return replace(best, spared=max(best.must - fewest, 0))


def _minimised(problem: _Hinges, U: np.ndarray) -> np.ndarray:
    """The best weights (A, C), beginning at U; fewer rows than features are solved in the space they span."""
    basis = None
    if len(problem.F) < problem.F.shape[1]:  # the best weights are a mixture of the rows
        basis = np.linalg.qr(problem.F.T)[0]
        problem, U = replace(problem, F=problem.F @ basis), basis.T @ U
    start = problem.value(np.zeros_like(problem.Z), np.zeros_like(U))[0]
    found = lbfgs(problem, U, _TOLERANCE[problem.F.dtype == np.float32] * max(start, 1e-12), _STEPS).U
    return found if basis is None else basis @ found


@dataclass(frozen=True, eq=False)
class _Hinges:
    """The objective for `lbfgs`; its `p` are the hinges (n, C), 0 for a row's own class."""

    F: np.ndarray
    Z: np.ndarray
    labels: np.ndarray
    margin: float
    penalty: np.ndarray

    def scores(self, U: np.ndarray) -> np.ndarray:
        found: np.ndarray = self.F @ U.astype(self.F.dtype)
        return found

    def value(self, scores: np.ndarray, U: np.ndarray) -> tuple[float, np.ndarray]:
        hinges = np.ascontiguousarray(self.Z + scores)
        hinges -= hinges.reshape(-1)[self._own][:, None]
        hinges += self.margin
        hinges.reshape(-1)[self._own] = 0
        np.maximum(hinges, 0, out=hinges)
        return float((self.penalty * hinges**2).sum(dtype=np.float64) + (U**2).sum() / 2), hinges

    def gradient(self, p: np.ndarray, U: np.ndarray) -> np.ndarray:
        return (self.F.T @ self._against_own(2 * self.penalty * p)).astype(np.float64) + U

    def curvature(self, p: np.ndarray) -> np.ndarray:
        bent = self._against_own(2 * self.penalty * (p > 0))
        curved: np.ndarray = ((self.F**2).T @ np.abs(bent)).astype(np.float64) + 1
        return curved

    def _against_own(self, of_rivals: np.ndarray) -> np.ndarray:
        """What pushes rivals down pushes the row's own class up as much."""
        of_rivals.reshape(-1)[self._own] = -row_sums(of_rivals)
        return of_rivals

    @cached_property
    def _own(self) -> np.ndarray:
        """Where in a flat (n, C) each row's own class is."""
        return np.arange(0, self.Z.size, self.Z.shape[1]) + self.labels
