"""Which patch makes must-samples right, and breaks nothing that should stay (METHOD 14)?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from onnxtweak.data.splits import View
from onnxtweak.engine.passes import Engine
from onnxtweak.engine.shared.kept_shards import Arrays, kept_by_shards
from onnxtweak.engine.shared.shards import captured_shards
from onnxtweak.engine.subject import Subject
from onnxtweak.head import ONE_LABEL, Head
from onnxtweak.method.folds import KeptArrays, digest_of
from onnxtweak.method.listed.imitation import Imitated
from onnxtweak.method.listed.problem import Earlier, ListedProblem, Repaired, of_labels
from onnxtweak.method.listed.repair import HeldOut, Lesson, teach
from onnxtweak.method.selection.numbering import digest_of_neurons
from onnxtweak.method.solvers.squared_hinge import lead
from onnxtweak.method.table import Table, most_neurons, stacked
from onnxtweak.method.temperature import fit_temperature
from onnxtweak.patch import DensePatch
from onnxtweak.stages.choose_neurons import TableNeurons
from onnxtweak.stages.gather import gather_table, kept_from_tables
from onnxtweak.stages.lists.base_decisions import BaseDecisions
from onnxtweak.stages.lists.imitate import IMITATIONS, LESSONS, imitate
from onnxtweak.stages.open_job import Job
from onnxtweak.types import Neurons

# Guarded samples of the first table, at most; passes over the others keep those that a patch breaks, so many
# each time, the worst first. Of both fewer where the memory allows less, but at least this many in all.
_FIRST, _VIOLATED, _LEAST = 20_000, 20_000, 1_000
# Imitations of each lock-sample that hidden units learn from, at most.
_EACH = 3
# Passes, at most; and how many in a row may find no better patch once the penalty is the highest.
_ROUNDS, _NO_BETTER = 12, 2


def make_right(
    job: Job, watched: TableNeurons, decided: BaseDecisions, data: Table | None, earlier: Earlier
) -> Repaired:
    """The patch that makes must-samples right and leaves guarded ones so, on top of an earlier one.

    data : rows of the fit split, of which those that are right are guarded too.
    """
    neurons = watched.neurons
    if job.head.several:
        return _labels_right(job, neurons, decided, data, earlier)
    listed, earlier = job.splits.listed, replace(earlier, inputs=watched.inputs)
    guards = {role: decided.guarded(role, listed[role]) for role in ("lock", "keep") if role in listed}
    others = sum(map(len, (listed.get("must", ()), () if data is None else data.labels)))
    room = max(most_neurons(len(neurons), job.engine) - others, _LEAST)
    first = {
        role: view.spread_out(max(min(room // 2, _FIRST) // len(guards), 1)) for role, view in guards.items()
    }
    must = gather_table(job, listed["must"], neurons, "must") if "must" in listed else None
    tables = {role: gather_table(job, view, neurons, "guarded") for role, view in first.items()}
    kept = kept_from_tables(job, neurons, "listed samples")
    known = _Known(must, tables, data, job.head, kept)
    some = None
    if must is not None and "lock" in guards:
        some = imitate(job, neurons, listed["must"], guards["lock"], min(IMITATIONS, room // 8))
    narrow = None if some is None else replace(some, table=earlier.over(some.table))
    problem = asked = known.problem(earlier, narrow)
    found = best = problem.solved()
    lesson = None
    if some is not None and found.held_out is not None and found.held_out.good > 0:
        count = min(LESSONS, room // 4, _EACH * len(guards["lock"]))
        more = imitate(job, neurons, listed["must"], guards["lock"], count) or some
        lesson = known.lesson(earlier, more, found.held_out)
    if lesson is not None:
        earlier = earlier.with_more(lesson.patch, len(neurons))
        problem = known.problem(earlier, None)
        found = best = problem.solved()
    rest = {role: _without(view, first[role].rows) for role, view in guards.items()}
    least, since = -1, 0
    for number in range(_ROUNDS if any(map(len, rest.values())) else 0):
        each = max(min((room - len(problem.stays.labels)) // 2, _VIOLATED) // len(guards), 1)
        near = problem.temperature * found.form.margin / 2
        search = _BreakSearch(neurons, earlier, found.patch, near, each)
        violated = {role: search.over(view, job) for role, view in rest.items() if len(view)}
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
    control = (problem if lesson is None else asked).control()
    return problem.repaired(best, earlier, control, lesson)


@dataclass(frozen=True, eq=False)
class _Known:
    """Tables of listed samples, of all columns. guards : by role. data : rows of the fit split. kept : as of
    `repair`."""

    must: Table | None
    guards: Mapping[str, Table]
    data: Table | None
    head: Head
    kept: KeptArrays

    @cached_property
    def whole(self) -> Table:
        """All of them."""
        return stacked(
            [table for table in (self.must, *self.guards.values(), self.data) if table is not None]
        )

    @cached_property
    def temperature(self) -> float:
        return fit_temperature(self.whole.Z, self.whole.labels)

    def problem(self, earlier: Earlier, imitated: Imitated | None) -> ListedProblem:
        """What has to become right and what stays, on top of an earlier patch. imitated : patched already."""
        none = self.whole.rows(np.empty(0, np.int64))
        wanted = earlier.over(none if self.must is None else self.must)
        problem = ListedProblem(wanted, earlier.over(none), self.temperature, self.head, imitated, self.kept)
        for role, table in self.guards.items():
            problem = problem.with_guarded(earlier.over(table), bound=role == "lock")
        if self.data is not None:
            problem = problem.with_guarded(earlier.over(self.data), bound=False)
        return problem

    def lesson(self, earlier: Earlier, imitated: Imitated, least: HeldOut) -> Lesson | None:
        """What imitations teach hidden units beside an earlier patch. least : what a linear patch does."""
        assert self.must is not None
        guarded = earlier.patched(
            stacked([table for table in (*self.guards.values(), self.data) if table is not None])
        )
        guarded = guarded.rows(np.flatnonzero(self.head.right(guarded.Z, guarded.labels)))
        width = self.must.T.shape[1]
        more = replace(imitated, table=earlier.patched(imitated.table))
        widths = dict.fromkeys((width - earlier.inputs, width))
        must, temperature = earlier.patched(self.must), self.temperature
        return teach(must, guarded, temperature, more, tuple(widths), least, self.kept)


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
    none, kept = known.rows(np.empty(0, np.int64)), kept_from_tables(job, neurons, "listed samples")
    found = []
    for label in range(job.subject.classes):
        of = known.of_label(label)
        temperature = fit_temperature(of.Z, of.labels)
        wanted, empty = (earlier.over(table).of_label(label) for table in (must or none, none))
        problem = ListedProblem(wanted, empty, temperature, ONE_LABEL, kept=kept)
        for table in tables:
            problem = problem.with_guarded(earlier.over(table).of_label(label), bound=True)
        if data is not None:
            problem = problem.with_guarded(earlier.over(data).of_label(label), bound=False)
        nothing = Earlier.of(np.empty(0, np.int64), None, 2)
        found.append(problem.repaired(problem.solved(), nothing, problem.control()))
    return of_labels(found, earlier, len(neurons))


def _without(view: View, rows: np.ndarray) -> View:
    return replace(view, rows=np.setdiff1d(view.rows, rows))


@dataclass(frozen=True, eq=False)
class _BreakSearch:
    """Looks for samples that a patch on top of an earlier one breaks, or nearly so.

    near : the lead of the logits below which a sample that it moved down is nearly broken. most : how many of
    the worst are wanted.
    """

    neurons: Neurons
    earlier: Earlier
    patch: DensePatch
    near: float
    most: int

    def over(self, view: View, job: Job) -> tuple[_MostBroken, int]:
        """Those of a view, and how many are broken; no samples where none is: then nothing is left to do."""
        patches = [part for one in (self.patch, self.earlier.patch) for part in vars(one).values()]
        facts = f"{digest_of(*patches, self.earlier.columns)} {self.earlier.inputs} {self.near} {self.most}"
        made = f"broken by {facts} {digest_of_neurons(self.neurons)}"
        found: list[_MostBroken] = []
        broken, what = 0, "look for broken samples"
        for *table, rows, ahead, count in kept_by_shards(
            self.shards, job.subject, view, job.engine, what, made
        ):
            part = _MostBroken(Table(*table), rows, ahead)
            found, broken = [_MostBroken.of([*found, part], self.most)], broken + int(count)
        return found[0] if broken else found[0].first(0), broken

    def shards(self, subject: Subject, view: View, engine: Engine, what: str) -> Iterator[Arrays]:
        """Of each shard T, Z, labels, rows and leads of the worst, and how many are broken."""
        chosen = self.neurons if len(self.neurons) else None
        for shard in captured_shards(subject, view, engine, what, neurons=chosen):
            found, broken = [], 0
            for got in shard:
                T = got.V[0] if chosen is not None else np.empty((len(got.labels), 0), np.float32)
                table = self.earlier.over(Table(T, got.Z, got.labels))
                ahead = lead(self.patch.applied(table.Z, table.T), got.labels)
                moved_down = (ahead < self.near) & (ahead < lead(table.Z, got.labels))
                low = np.flatnonzero((ahead <= 0) | moved_down)
                broken += int((ahead <= 0).sum())
                found.append(_MostBroken(table.rows(low), got.rows[low], ahead[low]))
            worst = _MostBroken.of(found, self.most)
            own = worst.table
            yield own.T, own.Z, own.labels, worst.rows, worst.ahead, np.array(broken)


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
