"""What became of the objects? AP of base, file and best biases, each by a file's own output."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onnxtweak.boxes.average_precision import mean
from onnxtweak.engine.subject import Subject
from onnxtweak.method.metrics import harm, mcnemar
from onnxtweak.metric.bootstrap import interval
from onnxtweak.model.file.tweak_metadata import TweakInside
from onnxtweak.patch import Tweak, bias_patch
from onnxtweak.quantities import number_of
from onnxtweak.results import Measurement
from onnxtweak.sample_counts import LabelCounts
from onnxtweak.stages.boxes.measure import STRICT, SURE, FoundObjects, over_classes, weights_of
from onnxtweak.stages.checks import as_subject
from onnxtweak.stages.judge_promises import Shown, answer_of, depend_on_groups, judge_promises
from onnxtweak.stages.objects.anchors import measured_names
from onnxtweak.stages.objects.pictures import ChangedObjects
from onnxtweak.stages.on_samples.accuracy_check import recorded_targets
from onnxtweak.stages.open_job import Job
from onnxtweak.stages.proposal import Outcome, Proposal, splice_in
from onnxtweak.types import BoxMetrics, Check, MetricChange, MetricReading, Neurons


def boxes_outcome(job: Job, proposal: Proposal, tweaked: Subject) -> Outcome:
    """Measured on test if there is one, which is used here for the first and only time."""
    view, split = job.splits.test, "test"
    if view is None:
        view, split = job.splits.validation, "validation"
    subjects = {"base": job.subject, "tweaked": tweaked, "bias": _biased(job, proposal.bias)}
    made = {
        name: None if subject is None else FoundObjects.of(subject, view, job.engine, f"{split}: {name}")
        for name, subject in subjects.items()
    }
    base, after = made["base"], made["tweaked"]
    assert base is not None and after is not None  # both are files
    each = base, after, made["bias"] or base
    goal, groups = proposal.goal, view.groups(job.origin.data.group)
    rows = (
        None
        if groups is None
        else groups[np.unique(view.rows // job.subject.positions, return_index=True)[1]]
    )
    weights = weights_of(base.found.samples, rows)
    drawn = np.stack([one.found.drawn(weights) for one in each], axis=1)  # (R, 3, T, C)
    counts = replace(_counts(each, drawn[:, :, 0], _touched(job, proposal)), units=base.found.holding(rows))
    before, now, control = (one.metrics(goal.targets) for one in each)
    fixed, broken = int(counts.fixed.sum()), int(counts.broken.sum())
    answer = answer_of(proposal.command, proposal.patch.changes_logits, len(proposal.neurons))
    nothing = np.repeat(np.arange(base.classes), base.found.objects)
    shown = Shown(split, nothing, nothing, nothing, nothing, unit=job.subject.unit, counts=counts)
    cautions = depend_on_groups(job.origin.data.group, groups) if job.origin.data.group else ()
    verdict = judge_promises(shown, goal, measured_names(job), answer, cautions)
    E, p = harm(before, now), mcnemar(fixed, broken)
    measured = Measurement(split, before, now, control, fixed, broken, p, E, verdict)
    strict = _strict((before, now, control), drawn)
    said = (
        f"{strict.after.title}: {strict.before.value:.1%} -> {strict.after.value:.1%}"
        + (
            ""
            if strict.interval is None
            else f", better by {strict.interval[0]:.1f} to {strict.interval[1]:.1f} points"
        ),
        f"fixed, broken: objects that a box with a score of {SURE:g} or more finds, or no more",
    )
    check = Check("answer", True, f"measured by {', '.join(_outputs(job))} of the files themselves")
    changed = ChangedObjects(view, base, after).evidence
    return Outcome(measured, view, (view.labels, view.labels), None, check, said, None, None, None, changed)


def _outputs(job: Job) -> tuple[str, ...]:
    assert job.subject.detector is not None
    return tuple(f"`{output}`" for output in job.subject.detector.outputs)


def _biased(job: Job, bias: np.ndarray) -> Subject | None:
    """The base with the best biases in it; None where these change nothing.

    Of a sigmoid for each class a bias leaves the order of its scores, and so its average precision.
    """
    if job.head.several or not bias.any():
        return None
    subject = job.subject
    nobody = Neurons((), np.empty(0, np.int32), np.empty(0, np.int64))
    patch = bias_patch(bias).as_written(subject.dtype)
    tweak = Tweak("fit", subject.model.base_sha256, subject.logits, subject.classes, nobody, patch, {})
    return as_subject(subject, splice_in(subject, tweak))


def _touched(job: Job, proposal: Proposal) -> np.ndarray:
    """Classes whose scores the patch changes, (C,) bool: of a softmax all."""
    if not job.head.several:
        return np.full(len(measured_names(job)), proposal.patch.changes_logits)
    found: np.ndarray = (proposal.base != proposal.tweaked).any(axis=0)
    return found


def _counts(
    each: tuple[FoundObjects, FoundObjects, FoundObjects], drawn: np.ndarray, touched: np.ndarray
) -> LabelCounts:
    """What became of the objects of each class, in AP50. drawn (R, 3, C) : of resamples."""
    found = [one.found.found(SURE) for one in each]

    def only(one: int, other: int) -> np.ndarray:
        pairs = zip(found[one], found[other], strict=True)
        return np.array([int((here & ~there).sum()) for here, there in pairs])

    precision = np.array([one.found.average_precision()[0] for one in each])
    changes = only(1, 0), only(0, 1), only(1, 2), only(2, 1)
    known = np.nan_to_num(drawn)
    return LabelCounts(
        each[0].found.objects, *changes, f1=np.nan_to_num(precision), drawn=known, touched=touched
    )


def _strict(figures: tuple[BoxMetrics, BoxMetrics, BoxMetrics], drawn: np.ndarray) -> MetricChange:
    """What became of mAP50-95. drawn (R, 3, T, C)."""
    values = np.array([over_classes(drawn[:, number].mean(axis=1)) for number in range(3)])
    before, after, bias = (
        MetricReading(*STRICT, one.mean_strict, interval(of)) for one, of in zip(figures, values, strict=True)
    )
    return MetricChange(
        before,
        after,
        bias,
        100 * (after.value - before.value),
        interval(100 * (values[1] - values[0])),
        100 * (after.value - bias.value),
        interval(100 * (values[1] - values[2])),
    )


def boxes_verified(job: Job, base: Subject, inside: TweakInside) -> tuple[BoxMetrics, BoxMetrics, Check]:
    """How base and file find the objects of a job's samples, and whether the targets are found better.

    They may be found worse by two standard errors of resampled pictures.
    """
    view, own = job.splits.fit, np.array(recorded_targets(inside.provenance), np.int64)
    made = [
        FoundObjects.of(one, view, job.engine, what)
        for one, what in ((base, "base"), (job.subject, "tweaked"))
    ]
    before, after = (one.metrics(own) for one in made)
    chosen = own if len(own) else np.arange(made[0].classes)
    weights = weights_of(made[0].found.samples, view.groups(job.origin.data.group))
    drawn = [over_classes(one.found.drawn(weights)[:, 0][:, chosen]) for one in made]
    error = float(np.nanstd(drawn[1] - drawn[0]))
    values = [mean(one.per_class[chosen]) for one in (before, after)]
    who = "the targets" if len(own) else "all classes"
    detail = f"mAP50 of {who} {values[0]:.1%} -> {values[1]:.1%} on {number_of(before.samples, 'sample')}"
    return before, after, Check("accuracy", not values[1] < values[0] - 2 * error, detail)
