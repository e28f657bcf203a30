"""Which boxes and scores does a detector's own output show, sample by sample?"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from onnxtweak.boxes.overlap import overlaps
from onnxtweak.boxes.suppression import Detections, suppressed
from onnxtweak.boxes.truth import Truth
from onnxtweak.data.dataset import Dataset
from onnxtweak.engine.answer.detections import picture_size
from onnxtweak.engine.passes import Engine, plan_of
from onnxtweak.engine.session import open_session
from onnxtweak.engine.subject import Subject, filled
from onnxtweak.model.detector.layout import BoxNumbers
from onnxtweak.model.edit.expose import expose_tensors


@dataclass(frozen=True, eq=False)
class Anchors:
    """What is shown of a sample. scores (A, C) : of the classes of objects, between 0 and 1. numbers (A, 4).

    objectness (A,) : what scores are multiplied with already. size : height and width of its picture, as the
    model is fed.
    """

    sample: int
    scores: np.ndarray
    objectness: np.ndarray
    numbers: np.ndarray
    size: tuple[int, int]

    def boxes(self, means: BoxNumbers) -> np.ndarray:
        """Left, top, right, bottom in pixels, (A, 4) float32."""
        with np.errstate(over="ignore", invalid="ignore"):  # of pictures prepared wrongly
            return means.corners(self.numbers, self.size)


def shown_anchors(
    subject: Subject, dataset: Dataset, samples: np.ndarray, engine: Engine, what: str
) -> Iterator[Anchors]:
    """Of some samples (n,) int64, ascending, by the file's own outputs.

    what : the pass's name in the progress and in the statistics.
    """
    detector = subject.detector
    assert detector is not None  # the caller has a detector
    begin, classes = time.perf_counter(), subject.classes - (detector.background is not None)
    proto, outputs = expose_tensors(subject.model.graph, detector.outputs)
    session = open_session(proto, subject.model.folder, engine.settings, subject.model.path)
    names = [port.name for port in session.inputs]
    plan = plan_of(subject, engine, subject.classes + 4, len(samples), session.device)
    with engine.passing(what, len(samples), session, begin):
        for feeds, _, chunk in dataset.batches(samples, plan.batch, threads=engine.settings.cores):
            count = plan.batch if plan.fixed else len(chunk)
            whole = {name: filled(value, count) for name, value in feeds.items()}
            values = session.run(subject.feeding.fed(whole, names), outputs)
            found = detector.read(dict(zip(detector.outputs, values, strict=True)), classes)
            scores, there, size = found.scores, found.objectness, picture_size(whole)
            for row, sample in enumerate(chunk.tolist()):
                yield Anchors(sample, scores[row], there[row], found.numbers[row], size)
            engine.progress.advance(len(chunk))


def meaning_of(each: Iterable[Anchors], objects: Truth, meanings: Sequence[BoxNumbers]) -> BoxNumbers:
    """What the numbers of a box mean: that by which anchors of a high score overlap labelled boxes most."""
    fits = {means: np.zeros(2) for means in meanings}
    for anchors in each:
        _, truth = objects.within(anchors.sample)
        best = anchors.scores.max(axis=1, keepdims=True)  # of any class: labels may number them otherwise
        for means, fit in fits.items():
            found = overlaps(anchors.boxes(means), truth)
            fit += (found * best).max(axis=0).sum(), found.max(axis=0).sum()
    return max(fits, key=lambda means: tuple(fits[means]))


def detections(
    subject: Subject, dataset: Dataset, samples: np.ndarray, engine: Engine, what: str
) -> Detections:
    """What is found in some samples (n,), numbered from 0 on, after suppression of what overlaps."""
    means = numbers_of(subject)
    each = shown_anchors(subject, dataset, samples, engine, what)
    return Detections.joined(suppressed(one.boxes(means), one.scores) for one in each)


def numbers_of(subject: Subject) -> BoxNumbers:
    """What the four numbers of a detector's boxes mean, once that is known."""
    assert subject.detector is not None and subject.detector.numbers is not None
    return subject.detector.numbers
