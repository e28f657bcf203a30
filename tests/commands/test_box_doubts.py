"""Labelled boxes that are not what a detector finds: `evaluate` says so, and nothing is learnt from them."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

import onnxtweak
from onnxtweak.errors import DataError
from tests.support.finders import finder


@pytest.fixture(scope="module", params=("joined", "background"))
def each(request, tmp_path_factory):
    return finder(request.param, tmp_path_factory.mktemp("doubts"), samples=40)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Where boxes are is found alike in every kind."""
    return finder("background", tmp_path_factory.mktemp("doubts"), samples=24)


def doubted(made, boxes, **options):
    """What `evaluate` says about labelled boxes, beyond how they are read."""
    seen = onnxtweak.evaluate(made.model, data=(made.x, boxes), device="cpu", **options)
    return " | ".join(note for note in seen.notes if "labelled boxes in" in note)


def refused(made, boxes, tmp_path, **options):
    with pytest.raises(DataError) as error:
        onnxtweak.fit(
            made.model,
            data=(made.x, boxes),
            target="0",
            output=tmp_path / "n.onnx",
            backend="numpy",
            **options,
        )
    assert not list(tmp_path.iterdir())
    return error.value


def test_good_labels_are_not_doubted(each):
    assert doubted(each, each.boxes) == ""


def test_classes_in_another_order_are_suggested(each, tmp_path):
    boxes = each.boxes.copy()
    boxes[:, 1] = (boxes[:, 1] + 1) % 3
    said = "numbering the classes in another order gives"
    assert said in doubted(each, boxes)
    found = refused(each, boxes, tmp_path)
    assert said in found.what and "number the labels as the model" in found.hint and "--anyway" in found.hint


def test_boxes_elsewhere_and_of_other_pictures_are_doubted(made):
    moved = made.boxes + np.array([0, 0, 8, 8, 8, 8], np.float32)
    said = "its scores there are no higher than at boxes of other pictures"
    assert said in doubted(made, moved)
    other = made.boxes.copy()
    other[:, 0] = (other[:, 0] + 1) % 24
    assert "labelled boxes in" in doubted(made, other)  # which are where objects may be, of any class


def test_boxes_that_fit_nothing_are_doubted(made, tmp_path):
    away = made.boxes.copy()
    away[:, 4:] = away[:, 2:4] + 1
    found = refused(made, away, tmp_path)
    assert "its scores there are no higher" in found.what and "check pixel scale" in found.hint


def test_another_way_to_prepare_pictures_is_suggested(made, tmp_path):
    said = r"its scores there are no higher .* without --pixel-scale gives a mAP50 of \d\d\.\d% for 0.0%"
    said += r"|leaving out --pixel-scale gives a mAP50 of \d\d\.\d% for 0.0%"
    found = refused(made, made.boxes, tmp_path, pixel_scale=1e-9)
    assert re.search(said, found.what) and "--pixel-scale" in found.hint
    wide = made.boxes * np.array([1, 1, 2, 1, 2, 1], np.float32)
    stretched = replace(made, x=np.repeat(made.x, 2, axis=3))
    asked = {"resize": "32x32", "resize_mode": "letterbox"}
    assert "--resize-mode exact gives a mAP50 of" in doubted(stretched, wide, **asked)


def test_a_few_boxes_tell_nothing(made):
    few = made.boxes[:10].copy()
    few[:, 1] = (few[:, 1] + 1) % 3
    assert doubted(made, few) == ""
