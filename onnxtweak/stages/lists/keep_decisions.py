"""Which decisions of the base should stay, where no label says what is right? They are learnt as labels.

Those on samples that are listed to be kept, or, without such a list, those for classes that no label names: a
patch must not unlearn what it was not shown (METHOD 7.6).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from onnxtweak.data.splits import View
from onnxtweak.engine.machine.large_arrays import by_rows
from onnxtweak.goal import ResolvedGoal, every_class
from onnxtweak.method.fit.learning import Learning
from onnxtweak.method.table import Table
from onnxtweak.stages.gather import gather_table, learnt_kept
from onnxtweak.stages.lists.base_decisions import BaseDecisions
from onnxtweak.stages.open_job import Job
from onnxtweak.types import Neurons

_OF_LINES = (
    "every position is labelled, most characters in none of them: how others are read may change, spaces of"
    " prose for example. Give --keep LINES, which need no text: some hundred like those that will be read"
)
_GROUP = "kept samples"  # what they are among the groups of a slice


@dataclass(frozen=True, eq=False)
class LearntFrom:
    """What is learnt from, decisions that should stay among it.

    job, decided : with the list of samples to keep. goal : of learning.
    """

    job: Job
    decided: BaseDecisions | None
    learning: Learning
    goal: ResolvedGoal
    notes: tuple[str, ...] = ()


def keep_decisions(
    kept: LearntFrom, tables: tuple[Table, Table], neurons: Neurons, *, every_class_wanted: bool
) -> LearntFrom:
    """The same with the base's decisions on the list `--keep`, or else for classes that no label names.

    kept : with what is learnt from labels. tables : of fit and validation. every_class_wanted : whether the
    goal is about all classes there are.
    """
    fit, validation = kept.job.splits.fit, kept.job.splits.validation
    if kept.job.head.several:  # a label that no mark names gets no weights
        listed = kept.decided is not None and "keep" in kept.decided.shown
        return _with_list(kept, kept.decided, neurons) if listed and kept.decided is not None else kept
    named = every_class(fit.labels, validation.labels)
    if kept.decided is not None and "keep" in kept.decided.shown:
        kept = _with_list(kept, kept.decided, neurons)
    elif not kept.job.origin.data.keep and len(named) < kept.job.subject.classes:
        lines = fit.dataset.lines
        kept = _with_unnamed(kept, named, tables) if lines is None else replace(kept, notes=(_OF_LINES,))
    labels = kept.learning.table.labels
    goal = replace(kept.goal, targets=np.unique(labels)) if every_class_wanted else kept.goal
    return replace(kept, goal=goal)


def _with_list(kept: LearntFrom, decided: BaseDecisions, neurons: Neurons) -> LearntFrom:
    """With samples of the list behind the others: as many as there are of these at most, evenly from all."""
    job, learning, goal = kept.job, kept.learning, kept.goal
    view = decided.guarded("keep", job.splits.listed["keep"]).spread_out(learnt_kept(job))
    more, groups = gather_table(job, view, neurons, "keep"), learning.table.groups
    if groups is not None and more.groups is not None:
        alone = np.arange(len(more.labels)) + max(groups.max(), more.groups.max(initial=-1)) + 1
        more = replace(more, groups=np.where(more.groups < 0, alone, more.groups))
    if goal.slice is not None:
        names = (*goal.slice.names, _GROUP)
        more = replace(more, slices=np.full(len(more.labels), len(names) - 1))
        goal = replace(goal, slice=replace(goal.slice, names=names))
    return replace(kept, learning=learning.joined(more), goal=goal)


def _with_unnamed(kept: LearntFrom, named: np.ndarray, tables: tuple[Table, Table]) -> LearntFrom:
    """With the base's decisions for classes that no label names in place of labels, and these as a list.

    Samples of the targets are what should change, and keep their labels.
    """
    job, table, decided, goal = kept.job, kept.learning.table, kept.decided, kept.goal
    fit, validation = job.splits.fit, job.splits.validation
    every_class = goal.all_are_targets(table.labels)

    def stay(table: Table) -> tuple[np.ndarray, np.ndarray]:
        """Which decisions (N,) bool stay; and all of them (N,) int64."""
        shown = by_rows(job.head.predict, table.Z)
        wanted = False if every_class else goal.wanted(table.labels)
        return ~(np.isin(shown, named) | wanted), shown

    unnamed, shown = stay(table)
    learning = kept.learning.keeping(unnamed, np.where(unnamed, shown, table.labels))
    pairs = [(fit, tables[0])]
    if validation is not fit and validation.dataset is fit.dataset:
        pairs.append((validation, tables[1]))
    rows = np.concatenate([view.rows for view, _ in pairs])
    found = [stay(table) for _, table in pairs]
    shown = np.concatenate([each for _, each in found])
    chosen = np.flatnonzero(np.concatenate([stays for stays, _ in found]))
    chosen = chosen[np.argsort(rows[chosen])]
    note = (
        f"labels name {len(named):,} of {job.subject.classes:,} classes: nothing is shown about samples of"
        " the others. What the base decides for these classes on the samples at hand"
        f"{'' if every_class else ' that are of no target'} stands in for a label;"
        " more is kept with --keep SAMPLES, which need no labels, and nothing with --keep none"
    )
    if not len(chosen):
        return replace(kept, learning=learning, notes=(note,))
    listed = {**job.splits.listed, "keep": View(fit.dataset, rows[chosen])}
    known = {} if decided is None else decided.shown
    return replace(
        kept,
        job=replace(job, splits=replace(job.splits, listed=listed)),
        decided=BaseDecisions({**known, "keep": shown[chosen]}),
        learning=learning,
        notes=(note,),
    )
