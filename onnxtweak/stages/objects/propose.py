"""What is proposed for a detector? The classes to raise, what is learnt from its anchors, and the patch."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np

from onnxtweak.boxes.truth import Truth
from onnxtweak.errors import UsageError
from onnxtweak.method.fit.boxes import AnchorJudge, fit_boxes
from onnxtweak.method.fit.learning import Learning
from onnxtweak.settings import DataSettings, FitSettings, TapSettings, TargetSettings
from onnxtweak.stages.boxes.measure import NOT_BY_GROUPS, require_measured_whole
from onnxtweak.stages.choose_neurons import choose_neurons
from onnxtweak.stages.gather import gather_tables, learning_samples
from onnxtweak.stages.objects.anchors import goal_of_boxes
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


_FEW = "`join -n` and `retrain -n` give a class few synapses"
# What `fit` cannot do for a detector, and what to do instead.
_INSTEAD = {
    "--metric": "leave it out: classes are raised by their average precision",
    "--slice": NOT_BY_GROUPS,
    "--budget": _FEW,
    "--synapses": _FEW,
    "--certify": "leave it out: what is left after suppression is no decision of single anchors",
    "--mirror on": "leave it out: boxes would have to be mirrored, too",
}


def require_of_boxes(data: DataSettings, settings: FitSettings) -> None:
    """Raise UsageError for what `fit` cannot do for a detector."""
    asked = {
        "--metric": settings.metric is not None,
        "--slice": settings.slice is not None,
        "--budget": settings.budget is not None,
        "--synapses": settings.synapses is not None,
        "--certify": settings.certify is not None,
        "--mirror on": settings.mirror == "on",
    }
    for option, given in asked.items():
        if given:
            raise UsageError("not possible for a detector yet", where=option, hint=_INSTEAD[option])
    require_measured_whole(data)


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
    sample, at, box, there = (np.concatenate(each) for each in (samples, places, boxes, objectness))
    return AnchorJudge(job.head, Truth.of(truth), sample, at, box, there, learning.table.Z[at])
