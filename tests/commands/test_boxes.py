"""Detectors: objects are found, learnt, written, verified and taken out like classes of samples."""

from __future__ import annotations

import numpy as np
import pytest

import onnxtweak
from onnxtweak.boxes.average_precision import Found
from onnxtweak.boxes.suppression import Detections, suppressed
from onnxtweak.boxes.truth import Truth
from onnxtweak.errors import DataError, UsageError
from tests.support.finders import CLASSES, KINDS, LACKING, SIZE, finder

QUICK = {"backend": "numpy", "device": "cpu"}


@pytest.fixture(scope="module", params=KINDS)
def made(request, tmp_path_factory):
    return request.param, finder(request.param, tmp_path_factory.mktemp(request.param))


def by_hand(kind, outputs):
    """Corners (N, A, 4) and scores (N, A, 3) of a file's outputs."""
    if kind in ("joined", "rows"):
        rows = outputs[0].transpose(0, 2, 1) if kind == "joined" else outputs[0]
        centre, size, scores = rows[..., :2], rows[..., 2:4], rows[..., 4:]
        return np.concatenate([centre - size / 2, centre + size / 2], axis=-1), scores
    scores, boxes = outputs
    if kind == "apart":
        return boxes[..., [1, 0, 3, 2]] * SIZE, scores
    return (boxes, scores) if kind == "suppressed" else (boxes, scores[..., 1:])


def precision(kind, made, path=None):
    """AP of each class at each overlap, (T, C), of a file's own output."""
    boxes, scores = by_hand(kind, made.outputs(path))
    shown = Detections.joined(suppressed(*each) for each in zip(boxes, scores, strict=True))
    truth = Truth.of([made.boxes[made.boxes[:, 0] == k, 1:] for k in range(len(made.x))])
    return Found.of(shown, truth, CLASSES).average_precision()


def test_the_files_own_output_is_what_is_evaluated(made):
    kind, found = made
    seen = onnxtweak.evaluate(found.model, data=found.data, target="2", device="cpu")
    wanted = precision(kind, found)
    assert seen.metrics.per_class == pytest.approx(wanted[0])
    assert seen.metrics.strict == pytest.approx(wanted.mean(axis=0))
    assert seen.metrics.overall == pytest.approx(wanted[0].mean())
    assert seen.metrics.target == pytest.approx(wanted[0, LACKING])
    assert [reading.value for reading in seen.readings] == pytest.approx([wanted[0].mean(), wanted.mean()])
    assert seen.metrics.per_class[LACKING] < 0.8 and seen.unit == "objects"


def test_the_worst_classes_are_those_found_worst(made):
    seen = onnxtweak.evaluate(made[1].model, data=made[1].data, worst=1, device="cpu")
    assert seen.targets == (str(int(np.argmin(seen.metrics.per_class))),)


def test_other_measures_are_refused(made):
    for asked in ({"metric": "f1"}, {"by": "camera"}):
        with pytest.raises((UsageError, DataError)):
            onnxtweak.evaluate(made[1].model, data=made[1].data, device="cpu", **asked)


def test_boxes_that_fit_nothing_are_refused(made, tmp_path):
    away = made[1].boxes.copy()
    away[:, 4:] = away[:, 2:4] + 1
    with pytest.raises(DataError, match="fit none of the labelled ones"):
        onnxtweak.evaluate(made[1].model, data=(made[1].x, away), device="cpu")


def test_classes_that_the_model_lacks_are_refused(made):
    other = made[1].boxes.copy()
    other[3, 1] = CLASSES
    with pytest.raises(DataError, match="class 3 is out of range: the model has 3 classes of objects"):
        onnxtweak.evaluate(made[1].model, data=(made[1].x, other), device="cpu")


def test_labels_of_another_kind_are_refused(made):
    with pytest.raises(DataError, match="are no boxes"):
        onnxtweak.evaluate(made[1].model, data=(made[1].x, np.zeros(160, int)), device="cpu")
