"""Does the base answer better than by guessing? Asked before anything is learnt, and by `evaluate`.

What is learnt on samples that were prepared wrongly looks like a success: the base is at chance level, and
any patch beats it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onnxtweak.data.splits import View
from onnxtweak.errors import DataError
from onnxtweak.method.chance import standing, tells_apart
from onnxtweak.quantities import number_of
from onnxtweak.stages.likely_mistake import TRIED, Doubt, few_logits, likely_mistake, predictions, spread
from onnxtweak.stages.lists.base_decisions import contents
from onnxtweak.stages.objects.doubts import doubt_about_boxes
from onnxtweak.stages.open_job import Job

_ADVICE = (
    "check pixel scale, mean and std, color order and layout, and that labels number the classes as the"
    " model does"
)
_OF_LINES = (
    "check that the alphabet is the model's, in its order, which class is the blank (--blank), and pixel"
    " scale, mean and std"
)
_MISREAD = 0.9  # who reads nothing at all has 1
# From this skill on the scores of two classes show that samples are prepared rightly, however they are cut.
_CLEAR_SKILL = 0.5
# Below this kappa a base that does not guess is still compared with likely ways to prepare its samples.
_WEAK = 0.6
# Samples that a label has to have, and as many without it, for its scores to tell anything.
_ENOUGH_MARKS = 5


def require_sound_base(job: Job) -> Job:
    """The job, with a note where the base is hardly better than one class alone.

    Runs the base over at most 512 fit samples, or lock-samples where there are no others. Raises DataError
    where it guesses, or where a likely mistake explains how bad it is; with `DataSettings.anyway` that is a
    note.
    """
    judged = job.splits.fit if job.has_data else job.splits.listed.get("lock")
    if judged is None or not judged.dataset.labelled:  # must-samples are wrong by intention
        return job
    view = spread(judged, TRIED)
    on = f"on {number_of(len(view), 'fit sample' if job.has_data else 'lock-sample')}, "
    if job.subject.detector is not None:
        doubt, on = doubt_about_boxes(job, judged), ""
    else:
        doubt = doubt_about(job, view, predictions(job, view))
    if doubt is None:
        return job
    said = f"{on}{doubt.found}" + (f": {doubt.mistake}" if doubt.mistake else "")
    if doubt.serious and not job.has_data and "must" in job.splits.listed:
        must = set(contents(job.splits.listed["must"]))
        both = sum(one in must for one in contents(view))
        if both > len(view) / 2:
            raise DataError(
                f"of {number_of(len(view), 'lock-sample')} looked at, {both:,} are must-samples too",
                where=job.origin.data.lock[0],
                hint="lock-samples should be right: give samples that the model has right",
            )
    if doubt.serious and not job.origin.data.anyway:
        hint = f"{doubt.remedy}; or go on with --anyway"
        raise DataError(said, where=(*job.origin.data.data, *job.origin.data.lock)[0], hint=hint)
    note = f"learnt from all the same, because of --anyway: {said}" if doubt.serious else said
    return replace(job, splits=replace(job.splits, notes=(note, *job.splits.notes)))


def doubts(job: Job, view: View, predicted: np.ndarray) -> tuple[str, ...]:
    """The same judgement as notes, for commands that only measure. predicted : as in `doubt_about`."""
    doubt = doubt_about(job, view, predicted)
    return () if doubt is None else (doubt.said,)


def _cut_is_off(job: Job, view: View) -> bool:
    """Whether it is two classes that the base tells apart, but for the place where it cuts between them."""
    if job.subject.classes != 2:
        return False
    some = spread(view, TRIED)
    Z = few_logits(job, some)
    return tells_apart(Z[:, 1].astype(np.float64) - Z[:, 0], some.labels, _CLEAR_SKILL)


def doubt_about(job: Job, view: View, predicted: np.ndarray) -> Doubt | None:
    """What is to be doubted, None for nothing. predicted (n,) : what the base answers on `view`."""
    if job.head.several:
        return _doubt_about_labels(job, view)
    lines = view.dataset.lines
    if lines is not None and lines.misread > _MISREAD:
        return Doubt(f"the model's character error rate is {lines.misread:.0%}", "", _OF_LINES, serious=True)
    found = standing(predicted, view.labels, job.subject.classes)
    if found.most == 1 or (found.better and found.kappa >= _WEAK):
        return None
    low = (
        f"accuracy {found.accuracy:.1%} is not clearly above the {found.most:.1%} of the most frequent class"
    )
    if not found.better and _cut_is_off(job, view):
        return Doubt(f"{low}, though its scores tell the two classes apart", "", _ADVICE, serious=False)
    whole = job.subject.sizes == ()  # at positions nothing else is tried
    mistake = likely_mistake(job, view, predicted, weak=found.better) if whole else None
    if found.better:
        said = f"accuracy {found.accuracy:.1%} is low"
        return None if mistake is None else Doubt(said, mistake.said, mistake.remedy, serious=True)
    why, remedy = ("", _ADVICE) if mistake is None else (mistake.said, mistake.remedy)
    if found.guesses:
        return Doubt(f"accuracy {found.accuracy:.1%} is at chance level", why, remedy, serious=True)
    if mistake is None:
        return Doubt(f"{low}, though the answers do depend on the labels", why, remedy, serious=False)
    return Doubt(low, why, remedy, serious=True)


def _doubt_about_labels(job: Job, view: View) -> Doubt | None:
    """The same of several labels at once: do the scores of any label tell who has it?

    Nothing is doubted where no label has enough samples with and without it to tell.
    """
    some = spread(view, TRIED)
    Z, labels = few_logits(job, some), some.labels
    with_it, without = (labels == 1).sum(axis=0), (labels == 0).sum(axis=0)
    countable = np.flatnonzero(np.minimum(with_it, without) >= _ENOUGH_MARKS)
    for c in countable:
        known = labels[:, c] >= 0
        if tells_apart(Z[known, c], labels[known, c]):
            return None
    if not len(countable):
        return None
    found = "the scores of no label tell the samples that have it from the others"
    return Doubt(found, "", _ADVICE, serious=True)
