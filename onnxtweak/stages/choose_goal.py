"""Which classes should do better, and what may it cost? The goal that the options name, for one job."""

from __future__ import annotations

from onnxtweak.engine.passes import logits_pass
from onnxtweak.goal import Goal, every_class, find_targets
from onnxtweak.settings import FitSettings, JoinSettings, TargetSettings
from onnxtweak.stages.open_job import Job


def choose_goal(
    job: Job,
    targets: TargetSettings,
    drops: JoinSettings | FitSettings,
    *,
    all_unless_named: bool = False,
) -> Goal:
    """The goal of a job; `--worst` runs the base over validation first.

    drops : what may get worse. all_unless_named : whether no target means all classes that have
    samples, instead of a UsageError.
    """
    fit, validation = job.splits.fit.labels, job.splits.validation.labels
    if all_unless_named and targets == TargetSettings():
        numbers = every_class(fit, validation)
    else:
        predicted = None
        if targets.worst is not None and not targets.targets:
            logits = logits_pass(job.subject, job.splits.validation, job.engine, "find the worst")
            predicted = job.head.predict(logits)
        numbers = find_targets(targets, job.names, fit, validation, predicted)
    return Goal(numbers, job.head, drops.max_overall_drop, drops.max_class_drop)
