"""Which anchors do methods decide about, and which classes of objects should be found better?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onnxtweak.data.splits import View
from onnxtweak.goal import ResolvedGoal, find_targets
from onnxtweak.settings import FitSettings, JoinSettings, TargetSettings
from onnxtweak.stages.boxes.measure import FoundObjects, box_targets
from onnxtweak.stages.open_job import Job

NOTHING = "nothing"  # the class that stands for no object


def decided_anchors(job: Job) -> Job:
    """The job without anchors that do not count for any class; of a model that is no detector, as it is.

    Where one class stands for no object, it has a name. Of test samples all anchors stay, by which they are
    known.
    """
    if job.subject.detector is None or job.head.several:
        return job
    fit, validation = (that_count(view) for view in (job.splits.fit, job.splits.validation))
    splits = replace(job.splits, fit=fit, validation=validation)
    return replace(job, splits=splits, names=(*job.names, NOTHING))


def measured_names(job: Job) -> tuple[str, ...]:
    """Of the classes that are measured: of a detector, those of objects."""
    named = job.splits.fit.dataset.classes if job.subject.detector is not None else None
    return job.names if named is None else named


def that_count(view: View) -> View:
    """Without anchors that do not count."""
    return replace(view, rows=view.rows[view.labels >= 0])


def goal_of_boxes(job: Job, targets: TargetSettings, settings: JoinSettings | FitSettings) -> ResolvedGoal:
    """The classes that should be found better: those named, the worst, or all."""
    fit, validation = (_classes(view) for view in (job.splits.fit, job.splits.validation))
    if targets.worst is not None and not targets.targets:
        made = FoundObjects.of(job.subject, job.splits.validation, job.engine, "find the worst")
        numbers = box_targets(targets, job.names, made.metrics(np.empty(0, np.int64)))
    elif targets == TargetSettings():
        numbers = np.intersect1d(fit, validation)
    else:
        numbers = find_targets(targets, job.names, fit, validation)
    return ResolvedGoal(numbers, job.head, settings.max_overall_drop, settings.max_class_drop)


def _classes(view: View) -> np.ndarray:
    """The classes of objects in the samples of a view."""
    assert view.dataset.objects is not None
    return np.unique(view.dataset.objects.some(view.samples).number)


def said_of_anchors(job: Job) -> tuple[str, ...]:
    """A note on what methods are compared by, of a detector."""
    if job.subject.detector is None:
        return ()
    return (
        "decisions at anchors are counted here; a file that is written (--write) is measured by average"
        " precision",
    )
