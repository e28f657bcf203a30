"""Does a detector more than guess? Whether labelled boxes are where it finds something, and of which class.

Asked of a few pictures: what is shown at their labelled boxes and, by chance, at those of other pictures?
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxtweak.boxes.answers import answers, found
from onnxtweak.data.splits import View
from onnxtweak.engine.answer.shown_boxes import numbers_of, shown_anchors
from onnxtweak.method.chance import standing, tells_apart
from onnxtweak.quantities import number_of
from onnxtweak.stages.likely_mistake import Doubt, numbered_otherwise
from onnxtweak.stages.objects.preparations import preparation_that_finds
from onnxtweak.stages.open_job import Job

_TRIED = 128  # pictures with objects
_ENOUGH = 20  # boxes, to tell anything
_FINDS = 0.2  # of the boxes, from which something is found
_WEAKLY = 0.5  # of the boxes, below which other ways to prepare pictures are tried
_WEAK = 0.6  # kappa, below which another order of the classes is tried
_PLACES = (
    "check pixel scale, mean and std, color order and resizing, and that boxes are those of these pictures,"
    " in pixels of the stored ones"
)
_CLASSES = "check that labels number the classes as the model does, and color order, mean and std"


@dataclass(frozen=True, eq=False)
class _AtBoxes:
    """What is shown at B labelled boxes.

    label, answer (B,) int64 : classes; an answer is -1 where no anchor is. score, elsewhere (B,) : the best
    of any class, at these boxes and at those of the next picture. found (B,) bool : as of `boxes.answers`.
    """

    label: np.ndarray
    answer: np.ndarray
    score: np.ndarray
    elsewhere: np.ndarray
    found: np.ndarray


def doubt_about_boxes(job: Job, view: View) -> Doubt | None:
    """What is to be doubted about a detector on the samples of a view; None for nothing, or too few boxes."""
    objects = view.dataset.objects
    assert objects is not None  # settled when the samples were
    holding = np.intersect1d(view.samples, objects.sample)
    drawn = np.random.Generator(np.random.PCG64(0)).permutation(holding)[:_TRIED]
    samples = np.sort(drawn)
    if len(samples) < 2:
        return None
    at = _at_boxes(job, view, samples)
    if len(at.label) < _ENOUGH:
        return None
    on = f"of {len(at.label):,} labelled boxes in {number_of(len(samples), 'sample')}"
    doubt = _of_places(at, on) or _of_classes(job, at.label[at.answer >= 0], at.answer[at.answer >= 0], on)
    if (doubt is None and at.found.mean() >= _WEAKLY) or (doubt is not None and doubt.mistake):
        return doubt
    mistake = preparation_that_finds(job, view.dataset, samples)
    if mistake is None:
        return doubt
    what = f"{on} {at.found.mean():.1%} are where the model finds objects" if doubt is None else doubt.found
    return Doubt(what, mistake.said, mistake.remedy, serious=True)


def _of_places(at: _AtBoxes, on: str) -> Doubt | None:
    there = np.repeat([1, 0], [len(at.score), len(at.elsewhere)])
    if at.found.mean() >= _FINDS or tells_apart(np.append(at.score, at.elsewhere), there):
        return None
    what = (
        f"{on} {at.found.mean():.1%} are where the model finds objects, and its scores there are no"
        " higher than at boxes of other pictures"
    )
    return Doubt(what, "", _PLACES, serious=True)


def _of_classes(job: Job, label: np.ndarray, answer: np.ndarray, on: str) -> Doubt | None:
    if len(label) < _ENOUGH:
        return None
    own = standing(answer, label, len(job.names))
    if own.most == 1 or (own.better and own.kappa >= _WEAK):
        return None
    mistake = numbered_otherwise(job.names, label, answer)
    if mistake is None and not own.guesses:
        return None
    chance = ", which is at chance level" if own.guesses else ""
    what = f"{on} {own.accuracy:.1%} get the right class{chance}"
    said, remedy = ("", _CLASSES) if mistake is None else (mistake.said, mistake.remedy)
    return Doubt(what, said, remedy, serious=True)


def _at_boxes(job: Job, view: View, samples: np.ndarray) -> _AtBoxes:
    """Of some samples (n,), ascending, which all have objects."""
    objects, means = view.dataset.objects, numbers_of(job.subject)
    assert objects is not None
    parts = []
    following = dict(zip(samples.tolist(), np.roll(samples, -1).tolist(), strict=True))
    for one in shown_anchors(job.subject, view.dataset, samples, job.engine.unrecorded, "try"):
        boxes = one.boxes(means)
        number, truth = objects.within(one.sample)
        _, other = objects.within(following[one.sample])
        answer, score = answers(boxes, one.scores, truth)
        _, elsewhere = answers(boxes, one.scores, other)
        parts.append((number, answer, score, elsewhere, found(boxes, one.scores, truth)))
    return _AtBoxes(*(np.concatenate(each) for each in zip(*parts, strict=True)))
