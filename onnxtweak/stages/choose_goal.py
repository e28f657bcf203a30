"""Which classes or group of samples should do better, and what may it cost? The goal, for one job."""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches
from statistics import NormalDist

import numpy as np

from onnxtweak.data.groups import Groups, require_shared
from onnxtweak.data.splits import View
from onnxtweak.engine.machine.large_arrays import by_rows
from onnxtweak.engine.shared.logits import logits_pass
from onnxtweak.errors import DataError, UsageError
from onnxtweak.goal import ResolvedGoal, Slice, every_class, find_targets
from onnxtweak.method.fit.learning import Learning
from onnxtweak.metric.asked import OPTION, metric_of, require_metric
from onnxtweak.metric.rate import RecallAt, require_samples
from onnxtweak.quantities import number_of
from onnxtweak.settings import NOTHING, DataSettings, FitSettings, JoinSettings, TargetSettings
from onnxtweak.stages.objects.anchors import goal_of_boxes
from onnxtweak.stages.open_job import Job

_OPTION = "--slice"
_ALONE = ("budget", "synapses", "certify", "slice")  # that a metric cannot be combined with
# Samples that a group must have on average: with fewer there is nothing to learn about it.
_SHARED = 2.0


def choose_goal(
    job: Job,
    targets: TargetSettings,
    drops: JoinSettings | FitSettings,
    *,
    all_unless_named: bool = False,
) -> ResolvedGoal:
    """The goal of a job; `--worst` runs the base over validation first.

    drops : what may get worse. all_unless_named : whether no target means all classes that have
    samples, instead of a UsageError.
    """
    if job.subject.detector is not None and (all_unless_named or targets != TargetSettings()):
        return goal_of_boxes(job, targets, drops)
    fit, validation = job.splits.fit.labels, job.splits.validation.labels
    if all_unless_named and targets == TargetSettings():
        numbers = every_class(fit, validation)
    else:
        predicted = None
        if targets.worst is not None and not targets.targets:
            logits = logits_pass(job.subject, job.splits.validation, job.engine, "find the worst")
            predicted = by_rows(job.head.predict, logits)
        numbers = find_targets(targets, job.names, fit, validation, predicted)
    stay, positions = job.origin.data.keep != NOTHING, bool(job.subject.sizes)
    limits = drops.max_overall_drop, drops.max_class_drop
    return ResolvedGoal(numbers, job.head, *limits, unnamed_stay=stay, at_positions=positions)


def with_slice_read(data: DataSettings, settings: FitSettings, targets: TargetSettings) -> DataSettings:
    """`data` with the column of the slice. Raises UsageError for options that exclude each other.

    Of a metric, too, what can be told without the model.
    """
    check_metric(settings, targets)
    if settings.slice is None:
        return data
    if targets != TargetSettings():
        raise UsageError(
            "--slice excludes --target and --worst",
            where=_OPTION,
            hint="a slice is of whatever class; leave them out",
        )
    if settings.budget is not None or settings.synapses is not None:
        raise UsageError("--slice excludes --budget and --synapses", where=_OPTION, hint="leave them out")
    column = _column(settings.slice)
    return replace(data, by=tuple(dict.fromkeys((*data.by, column))))


def choose_slice(
    job: Job, goal: ResolvedGoal, settings: FitSettings, learning: Learning
) -> tuple[ResolvedGoal, Learning, tuple[str, ...]]:
    """The goal with its slice, what is learnt from with the groups of its rows, and a note.

    Where no slice is asked for, goal and samples stay as they are.
    """
    if settings.slice is None:
        return goal, learning, ()
    learnt = learning.table
    chosen, codes = _named_slice(job, settings.slice, len(learnt.labels))
    if chosen is None:
        column, decided = (
            _column(settings.slice),
            goal.head.decisions(by_rows(goal.head.predict, learnt.Z), learnt.labels),
        )
        names = job.splits.fit.dataset.groups[column].names
        chosen = Slice.worst(column, names, codes[decided.of], decided.right)
    _require_samples(job, chosen, codes)
    count = int((codes == chosen.wanted).sum())
    which = "" if chosen.named else f", the worst of {number_of(len(np.unique(codes)), 'group')}"
    note = f"slice: {chosen}, {count:,} of {len(codes):,} learning samples{which}"
    return replace(goal, slice=chosen), learning.sliced(codes), (note,)


def check_slice(job: Job, settings: FitSettings) -> None:
    """Raise as `choose_slice` would, before the model runs."""
    if settings.slice is not None:
        samples = len(job.splits.fit) + len(job.splits.validation)
        chosen, codes = _named_slice(job, settings.slice, samples)
        if chosen is not None:
            _require_samples(job, chosen, codes)


def _named_slice(job: Job, text: str, samples: int) -> tuple[Slice | None, np.ndarray]:
    """The slice that is named, None for the worst of a column; and the group of each learning sample.

    samples : how many these are, those of fit first.
    """
    column, named, value = text.partition("=")
    names = job.splits.fit.dataset.groups[column].names
    views = [job.splits.fit, job.splits.validation]
    codes = np.concatenate([_codes(view, column) for view in views])[:samples]
    require_shared(Groups(codes, names), column, _SHARED, _OPTION)
    return Slice(column, names, _place(value, names, column), named=True) if named else None, codes


def choose_metric(job: Job, goal: ResolvedGoal, settings: FitSettings) -> ResolvedGoal:
    """The goal with its metric, where one is asked for.

    Raises ModelError for a metric that the model does not have, UsageError for costs or drops that do not
    fit, DataError where samples are too few for its limit.
    """
    if settings.metric is None:
        return goal
    metric = metric_of(settings.metric, job.names, several=job.head.several)
    splits = job.splits
    if isinstance(metric, RecallAt):
        for name in ("max_overall_drop", "max_class_drop"):
            if getattr(settings, name) not in (getattr(FitSettings, name), None):
                raise UsageError(
                    f"{metric.name} has a limit of its own: accuracy falls as far as that takes",
                    where=f"--{name.replace('_', '-')}",
                    hint="leave it out",
                )
        goal = replace(goal, max_overall_drop=100.0, max_class_drop=None)
    learnt = np.concatenate([splits.fit.labels, splits.validation.labels])
    require_samples(metric, learnt, "learning", NormalDist().cdf(settings.margin))
    if splits.test is not None:
        require_samples(metric, splits.test.labels, "test")
    return replace(goal, metric=metric)


def check_metric(settings: FitSettings, targets: TargetSettings) -> None:
    """Raise UsageError for words that mean no metric, and for options that a metric excludes."""
    if settings.metric is None:
        return
    require_metric(settings.metric)
    given = [name for name in _ALONE if getattr(settings, name) is not None]
    if targets != TargetSettings():
        given.insert(0, "target" if targets.targets else "worst")
    if given:
        hint = "a metric is about all classes; leave one of the two out"
        raise UsageError(f"--metric excludes --{given[0]}", where=OPTION, hint=hint)


def _column(text: str) -> str:
    return text.partition("=")[0]


def _codes(view: View, column: str) -> np.ndarray:
    found = view.groups(column)
    assert found is not None  # a column was named
    return found


def _place(value: str, names: tuple[str, ...], column: str) -> int:
    if value in names:
        return names.index(value)
    near = get_close_matches(value, names, n=3, cutoff=0.5)
    known = ", ".join(f"{column}={name}" for name in near or names[:8])
    raise UsageError(
        f"`{column}` has no group `{value}`",
        where=_OPTION,
        hint=f"did you mean {known.replace(', ', ' or ')}?" if near else f"there are: {known}",
    )


def _require_samples(job: Job, chosen: Slice, codes: np.ndarray) -> None:
    """Raise DataError where there are none to learn from, or none to report on."""
    test = job.splits.test
    roles = {"learning": codes}
    if test is not None:
        roles["test"] = _codes(test, chosen.column)
    for role, found in roles.items():
        if not (found == chosen.wanted).any():
            raise DataError(
                f"the slice {chosen} has no {role} sample",
                where=_OPTION,
                hint=f"give {role} samples of it, or name another group",
            )
