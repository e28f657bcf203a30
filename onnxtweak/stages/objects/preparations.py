"""Does a detector find much more where pictures are prepared in another, likely way? Tried on a few."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace

import numpy as np

from onnxtweak.boxes.average_precision import Found, mean
from onnxtweak.data.dataset import Dataset
from onnxtweak.data.open_data import prepared_otherwise
from onnxtweak.data.splits import View, open_splits, unsplit
from onnxtweak.engine.answer.shown_boxes import detections, meaning_of, numbers_of, shown_anchors
from onnxtweak.errors import InputError
from onnxtweak.model.detector.layout import BoxNumbers
from onnxtweak.quantities import number_of
from onnxtweak.settings import Preprocess
from onnxtweak.stages.likely_mistake import Mistake, Preparation, told, ways_to_prepare
from onnxtweak.stages.open_job import Job
from onnxtweak.types import silent

_FIRST, _TRIED = 16, 64  # pictures on which every way is tried, and the best one
_POOR = 0.3  # mAP50 below which another way may be the right one
_BETTER = 0.1  # that it gives more, and twice as much
_CLOSE = 0.05  # to the best one, that one of fewer options is preferred by
_GRAY = 114.0  # that YOLO fills a letterbox with


def preparation_that_finds(job: Job, dataset: Dataset, samples: np.ndarray) -> Mistake | None:
    """What to change, where that makes a poor average precision much better; None where nothing tried does.

    samples (n,) int64 : of the dataset, ascending, with objects.
    """
    some = samples[np.linspace(0, len(samples) - 1, min(_TRIED, len(samples))).round().astype(np.int64)]
    now = _precision(job, dataset, some, numbers_of(job.subject))
    if not now < _POOR:
        return None
    few = some[:: max(len(some) // _FIRST, 1)]
    tried = []
    for way, other in _others(job, dataset, few):
        try:
            means = _meaning(job, other, few)
            tried.append((_precision(job, other, few, means), way, other, means))
        except InputError:  # the model cannot take them so
            continue
    if not tried:
        return None
    best = max(one[0] for one in tried)
    close = [one[1:] for one in tried if one[0] >= best - _CLOSE]
    way, other, means = min(close, key=lambda one: _options(one[0].preprocess))
    found = _precision(job, other, some, means)
    if not found >= max(2 * now, now + _BETTER):
        return None
    said, remedy = told(job, way)
    on = number_of(len(some), "picture")
    return Mistake(found, f"on {on}, {said} gives a mAP50 of {found:.1%} for {now:.1%}", remedy)


def _options(preprocess: Preprocess) -> int:
    return sum(value is not None for value in asdict(preprocess).values())


def _meaning(job: Job, dataset: Dataset, samples: np.ndarray) -> BoxNumbers:
    """What the numbers of a box mean, as it looks from some samples (n,)."""
    assert dataset.objects is not None and job.subject.detector is not None
    shown = shown_anchors(job.subject, dataset, samples, job.engine.unrecorded, "try")
    return meaning_of(shown, dataset.objects, job.subject.detector.meanings)


def _precision(job: Job, dataset: Dataset, samples: np.ndarray, means: BoxNumbers) -> float:
    """mAP50 on some samples (n,), the numbers of a box having a meaning."""
    assert dataset.objects is not None and job.subject.detector is not None
    subject = replace(job.subject, detector=replace(job.subject.detector, numbers=means))
    shown = detections(subject, dataset, samples, job.engine.unrecorded, "try")
    found = Found.of(shown, dataset.objects.some(samples), range(len(job.names)), (0.5,))
    return mean(found.average_precision()[0])


def _others(job: Job, dataset: Dataset, few: np.ndarray) -> Iterator[tuple[Preparation, Dataset]]:
    """The same samples with other values, colors, or sizes."""
    for way in ways_to_prepare(job, View(replace(dataset, sizes=()), few)):
        if way.step is not None:  # which boxes do not follow
            continue
        try:
            yield way, prepared_otherwise(dataset, job.opened.specs, way.preprocess)
        except InputError:
            continue
    for preprocess in _other_sizes(job.origin.data.preprocess):
        try:
            yield Preparation(preprocess), _read_again(job, preprocess)
        except InputError:
            continue


def _other_sizes(now: Preprocess) -> Iterator[Preprocess]:
    """Pictures that are stretched instead of padded, and the other way round."""
    if now.resize is None:
        return
    if now.resize_mode == "letterbox":
        yield replace(now, resize_mode="exact", pad_value=None)
    else:
        yield replace(now, resize_mode="letterbox", pad_value=_GRAY)


def _read_again(job: Job, preprocess: Preprocess) -> Dataset:
    """The samples that are learnt from, whose boxes follow the sizes of their pictures."""
    data = replace(job.origin.data, preprocess=preprocess)
    read = unsplit if job.origin.whole else open_splits
    return read(data, job.opened.specs, job.engine.settings.memory, silent).fit.dataset
