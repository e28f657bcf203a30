"""What is proposed for a detector? The classes to raise, what is learnt from its anchors, and the patch."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np

from onnxtweak.boxes.truth import Truth
from onnxtweak.data.splits import View
from onnxtweak.errors import UsageError
from onnxtweak.goal import ResolvedGoal, find_targets
from onnxtweak.method.fit.boxes import AnchorJudge, fit_boxes
from onnxtweak.method.fit.learning import Learning
from onnxtweak.settings import DataSettings, FitSettings, JoinSettings, TapSettings, TargetSettings
from onnxtweak.stages.boxes.measure import FoundObjects, box_targets
from onnxtweak.stages.choose_neurons import choose_neurons
from onnxtweak.stages.gather import gather_tables, learning_samples
from onnxtweak.stages.open_job import Job
from onnxtweak.stages.proposal import Proposal
from onnxtweak.types import Progress


def propose_boxes(
    job: Job, taps: TapSettings, targets: TargetSettings, settings: FitSettings, progress: Progress
) -> Proposal:
    """The patch that `fit` makes for a detector, or the base.

    Raises UsageError for what cannot be asked of a detector, DataError for a target without an object.
    """
    require_of_boxes(job.origin.data, settings)
    goal = goal_of_boxes(job, targets, settings)
    watched = choose_neurons(job, taps, settings.neurons)
    tables = gather_tables(job, watched.neurons)
    learning, notes = learning_samples(job, tables, watched.neurons, settings)
    judge = _judge(job, learning)
    with job.timed("fit"):
        found = fit_boxes(learning, watched.families, goal, settings, judge, seed=job.seed, progress=progress)
    proposal = Proposal.of_fit(goal, watched, tables[1], found.patch, found.control, found.choice.trials)
    return replace(
        proposal,
        criterion="held-out average precision",
        settings=asdict(settings),
        notes=(*notes, *found.notes),
    )


def require_of_boxes(data: DataSettings, settings: FitSettings) -> None:
    """Raise UsageError for what `fit` cannot do for a detector."""
    asked = {
        "--metric": settings.metric is not None,
        "--slice": settings.slice is not None,
        "--budget": settings.budget is not None,
        "--synapses": settings.synapses is not None,
        "--certify": settings.certify is not None,
        "--mirror on": settings.mirror == "on",
        "--by": bool(data.by),
        "--keep": bool(data.sources("keep")),
    }
    for option, given in asked.items():
        if given:
            hint = "leave it out: classes of a detector are raised by their average precision"
            raise UsageError("not possible for a detector yet", where=option, hint=hint)


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


def _judge(job: Job, learning: Learning) -> AnchorJudge:
    """What judges logits of the learning samples: on pictures, by the base's boxes and the labelled ones."""
    truth, samples, places = list[np.ndarray](), list[np.ndarray](), list[np.ndarray]()
    boxes, objectness = list[np.ndarray](), list[np.ndarray]()
    start = 0
    for view in (job.splits.fit, job.splits.validation):
        if start >= len(learning.judged):
            break
        span, first = slice(start, start + len(view)), len(truth)
        start = span.stop
        objects, own = view.dataset.objects, view.samples
        assert objects is not None and objects.anchors is not None  # matched when the samples were opened
        if not learning.judged[span].any():
            continue
        known, anchors = objects.anchors.of(view.rows)
        truth += [np.column_stack(objects.within(int(one))) for one in own]
        samples.append(first + np.searchsorted(own, view.rows[known] // view.dataset.positions))
        places.append(span.start + known)
        boxes.append(anchors.box)
        objectness.append(anchors.objectness)
    joined = (np.concatenate(each) for each in (samples, places, boxes, objectness))
    return AnchorJudge(job.head, Truth.of(truth), *joined)
