"""Which patch makes must-samples right, and breaks nothing that should stay (METHOD 14)?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxtweak.data.splits import View
from onnxtweak.engine.passes import capture
from onnxtweak.head import ONE_LABEL
from onnxtweak.method.listed.problem import Earlier, ListedProblem, Repaired, of_labels
from onnxtweak.method.solvers.squared_hinge import lead
from onnxtweak.method.table import Table, most_neurons, stacked
from onnxtweak.method.temperature import fit_temperature
from onnxtweak.patch import DensePatch
from onnxtweak.stages.gather import gather_table
from onnxtweak.stages.lists.base_decisions import BaseDecisions
from onnxtweak.stages.lists.imitate import imitate
from onnxtweak.stages.open_job import Job
from onnxtweak.types import Neurons

# Guarded samples of the first table, at most; passes over the others keep those that a patch breaks, so many
# each time, the worst first. Of both fewer where the memory allows less, but at least this many in all.
_FIRST, _VIOLATED, _LEAST = 20_000, 20_000, 1_000
# Passes, at most; and how many in a row may find no better patch once the penalty is the highest.
_ROUNDS, _NO_BETTER = 12, 2


def make_right(
    job: Job, neurons: Neurons, decided: BaseDecisions, data: Table | None, earlier: Earlier
) -> Repaired:
    """The patch that makes must-samples right and leaves guarded ones so, on top of an earlier one.

    data : rows of the fit split, of which those that are right are guarded too.
    """
    if job.head.several:
        return _labels_right(job, neurons, decided, data, earlier)
    listed = job.splits.listed
    guards = {role: decided.guarded(role, listed[role]) for role in ("lock", "keep") if role in listed}
    others = sum(map(len, (listed.get("must", ()), () if data is None else data.labels)))
    room = max(most_neurons(len(neurons), job.engine) - others, _LEAST)
    first = [view.spread_out(max(min(room // 2, _FIRST) // len(guards), 1)) for view in guards.values()]
    must = gather_table(job, listed["must"], neurons, "must") if "must" in listed else None
    tables = [gather_table(job, view, neurons, "guarded") for view in first]
    known = stacked([table for table in (must, *tables, data) if table is not None])
    temperature = fit_temperature(known.Z, known.labels)
    none = known.rows(np.empty(0, np.int64))
    imitated = None
    if must is not None and "lock" in guards:
        imitated = imitate(job, neurons, listed["must"], guards["lock"], room // 8)
    if imitated is not None:
        imitated = replace(imitated, table=earlier.over(imitated.table))
    problem = ListedProblem(earlier.over(must or none), earlier.over(none), temperature, job.head, imitated)
    for role, table in zip(guards, tables, strict=True):
        problem = problem.with_guarded(earlier.over(table), bound=role == "lock")
    if data is not None:
        problem = problem.with_guarded(earlier.over(data), bound=False)
    rest = {role: _without(view, part.rows) for (role, view), part in zip(guards.items(), first, strict=True)}
    found = best = problem.solved()
    least, since = -1, 0
    for number in range(_ROUNDS if any(map(len, rest.values())) else 0):
        each = max(min((room - len(problem.stays.labels)) // 2, _VIOLATED) // len(guards), 1)
        tried = found.patch, problem.temperature * found.form.margin / 2
        violated = {
            role: _violated(job, view, neurons, earlier, tried, each)
            for role, view in rest.items()
            if len(view)
        }
        cost = found.cost + sum(broken for _, broken in violated.values())
        best, least, since = (found, cost, 0) if least < 0 or cost < least else (best, least, since + 1)
        outside = any(broken for _, broken in violated.values())
        settled = not outside and (not found.solved.others or found.solved.final)
        if settled or (since >= _NO_BETTER and found.solved.final) or number == _ROUNDS - 1:
            break
        for role, (worst, _) in violated.items():
            problem = problem.with_guarded(worst.table, bound=role == "lock")
            rest[role] = _without(rest[role], worst.rows)
        found = problem.solved(found)
    return problem.repaired(best, earlier)


def _labels_right(
    job: Job, neurons: Neurons, decided: BaseDecisions, data: Table | None, earlier: Earlier
) -> Repaired:
    """The same for several labels at once: each label by itself, on guarded samples of the first table."""
    listed = job.splits.listed
    must = gather_table(job, listed["must"], neurons, "must") if "must" in listed else None
    tables = []
    if "lock" in listed and len(guarded := decided.guarded("lock", listed["lock"])):
        tables.append(gather_table(job, guarded.spread_out(_FIRST), neurons, "guarded"))
    known = stacked([table for table in (must, *tables, data) if table is not None])
    none = known.rows(np.empty(0, np.int64))
    found = []
    for label in range(job.subject.classes):
        of = known.of_label(label)
        temperature = fit_temperature(of.Z, of.labels)
        wanted, empty = (earlier.over(table).of_label(label) for table in (must or none, none))
        problem = ListedProblem(wanted, empty, temperature, ONE_LABEL)
        for table in tables:
            problem = problem.with_guarded(earlier.over(table).of_label(label), bound=True)
        if data is not None:
            problem = problem.with_guarded(earlier.over(data).of_label(label), bound=False)
        nothing = Earlier.of(np.empty(0, np.int64), None, 2)
        found.append(problem.repaired(problem.solved(), nothing))
    return of_labels(found, earlier, len(neurons))


def _without(view: View, rows: np.ndarray) -> View:
    return replace(view, rows=np.setdiff1d(view.rows, rows))


def _violated(
    job: Job, view: View, neurons: Neurons, earlier: Earlier, repair: tuple[DensePatch, float], most: int
) -> tuple[_MostBroken, int]:
    """At most so many samples that a patch breaks or nearly so, the worst first; and how many it breaks.

    repair : the patch, and the lead of the logits below which a sample that it moved down is nearly broken.
    No samples where it breaks none: nothing is left to be done then.
    """
    patch, near = repair
    broken = 0
    chosen = neurons if len(neurons) else None
    found: list[_MostBroken] = []
    for got in capture(job.subject, view, job.engine, "look for broken samples", neurons=chosen):
        T = got.V[0] if chosen is not None else np.empty((len(got.labels), 0), np.float32)
        table = earlier.over(Table(T, got.Z, got.labels))
        ahead = lead(patch.applied(table.Z, T), got.labels)
        low = np.flatnonzero((ahead <= 0) | ((ahead < near) & (ahead < lead(table.Z, got.labels))))
        broken += int((ahead <= 0).sum())
        found.append(_MostBroken(table.rows(low), got.rows[low], ahead[low]))
        if sum(len(one.rows) for one in found) > 2 * most:
            found = [_MostBroken.of(found, most)]
    worst = _MostBroken.of(found, most)
    return worst if broken else worst.first(0), broken


@dataclass(frozen=True, eq=False)
class _MostBroken:
    """Samples, the worst first. rows (n,) int64 : in the data. ahead (n,) : their leads."""

    table: Table
    rows: np.ndarray
    ahead: np.ndarray

    @classmethod
    def of(cls, parts: Sequence[_MostBroken], most: int) -> _MostBroken:
        """So many of some parts at most."""
        rows, ahead = (np.concatenate([getattr(part, key) for part in parts]) for key in ("rows", "ahead"))
        order = np.argsort(ahead, kind="stable")[:most]
        return cls(stacked([part.table for part in parts]).rows(order), rows[order], ahead[order])

    def first(self, count: int) -> _MostBroken:
        """Only so many."""
        chosen = np.arange(count)
        return _MostBroken(self.table.rows(chosen), self.rows[chosen], self.ahead[chosen])
