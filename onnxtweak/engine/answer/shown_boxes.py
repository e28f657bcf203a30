"""Which boxes and scores does a detector's own output show, sample by sample?"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice

import numpy as np

from onnxtweak.boxes.overlap import overlaps
from onnxtweak.boxes.suppression import Detections, suppressed
from onnxtweak.boxes.truth import Truth
from onnxtweak.data.dataset import Dataset
from onnxtweak.data.splits import View
from onnxtweak.engine.answer.detections import picture_size
from onnxtweak.engine.passes import Engine, plan_of
from onnxtweak.engine.session import open_session
from onnxtweak.engine.shared.kept_shards import Arrays, kept_by_shards
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
        settings = engine.settings
        for feeds, _, chunk in dataset.batches(samples, plan.batch, settings.shard, settings.cores):
            count = plan.batch if plan.fixed else len(chunk)
            whole = {name: filled(value, count) for name, value in feeds.items()}
            values = session.run(subject.feeding.fed(whole, names), outputs)
            found = detector.read(dict(zip(detector.outputs, values, strict=True)), classes)
            scores, there, size = found.scores, found.objectness, picture_size(whole)
            for row, sample in enumerate(chunk.tolist()):
                yield Anchors(sample, scores[row], there[row], found.numbers[row], size)
            engine.progress.advance(len(chunk))


def samples_alone(dataset: Dataset, samples: np.ndarray) -> View:
    """Some samples (n,) int64, ascending, each a row; without labels, whatever rows the dataset has."""
    no_labels = np.zeros(len(dataset), np.int64)
    return View(replace(dataset, labels=no_labels, sizes=(), coded=0), samples)


def shards_of_anchors(subject: Subject, view: View, engine: Engine, what: str) -> Iterator[Iterator[Anchors]]:
    """`shown_anchors` of each shard of a view of whole samples, which has to be read before the next one."""
    each = shown_anchors(subject, view.dataset, view.rows, engine, what)
    for first in each:
        yield chain((first,), islice(each, engine.settings.shard - 1))


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
    view = samples_alone(dataset, samples)
    shards = kept_by_shards(_left_over, subject, view, engine, what, "detections")
    empty = (
        np.empty(0, np.int64),
        np.empty(0, np.int64),
        np.empty(0, np.float32),
        np.empty((0, 4), np.float32),
    )
    parts = zip(empty, *([array.copy() for array in shard] for shard in shards), strict=True)
    counts, number, score, box = map(np.concatenate, parts)
    return Detections(np.repeat(np.arange(len(counts)), counts), number, score, box, len(counts))


def _left_over(subject: Subject, view: View, engine: Engine, what: str) -> Iterator[Arrays]:
    """Of each shard how many boxes each sample has, and class, score and box of all."""
    means = numbers_of(subject)
    for shard in shards_of_anchors(subject, view, engine, what):
        found = Detections.joined(suppressed(one.boxes(means), one.scores) for one in shard)
        yield np.bincount(found.sample, minlength=found.samples), found.number, found.score, found.box


def numbers_of(subject: Subject) -> BoxNumbers:
    """What the four numbers of a detector's boxes mean, once that is known."""
    assert subject.detector is not None and subject.detector.numbers is not None
    return subject.detector.numbers
