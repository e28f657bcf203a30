"""Where a detector's class scores, levels and boxes are: found in the graph, and seen on samples."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

import onnxtweak
from onnxtweak.engine.answer.detections import settle_detector
from onnxtweak.engine.opened import open_model
from onnxtweak.errors import ModelError, UsageError
from onnxtweak.model.detector.layout import BoxNumbers
from onnxtweak.model.detector.search import find_detector
from onnxtweak.model.graph import GraphIndex
from onnxtweak.settings import EngineSettings, TapSettings
from tests.support.at_positions import model_at_positions
from tests.support.finders import CLASSES, KINDS, LATER, finder

CPU = EngineSettings(device="cpu")


TWO = ("two-anchors", "yolov5", "yolov5-suppressed")


@pytest.fixture(scope="module", params=(*KINDS, *LATER))
def made(request, tmp_path_factory):
    return request.param, finder(request.param, tmp_path_factory.mktemp(request.param), samples=12)


def settled(model, x):
    return settle_detector(open_model(model, TapSettings()), {"x": x}, CPU)


def test_scores_and_boxes_are_where_the_outputs_show_them(made):
    kind, found = made
    detector = settled(found.model, found.x).detector
    values = dict(zip(detector.outputs, found.outputs(), strict=True))
    if kind in ("apart", "background", "two-anchors", "suppressed", "agnostic", "level-sigmoids"):
        values = dict(zip(("scores", "boxes"), found.outputs(), strict=True))
    if kind == "yolox-suppressed":  # read before they are laid out as rows
        values = {name: value.transpose(0, 2, 1) for name, value in values.items()}
    shown = detector.read(values, CLASSES)
    scores, boxes = shown.scores, shown.numbers
    anchors = 40 if kind in TWO else 20
    assert (shown.objectness == 1).all() != kind.startswith("yolo")
    assert scores.shape == (12, anchors, CLASSES) and boxes.shape == (12, anchors, 4)
    assert (scores >= 0).all() and (scores <= 1).all()
    how = {"joined": "xywh", "rows": "xywh", "apart": "yxyx"}.get(kind, "xyxy")
    how = "cells" if kind in ("yolox", "yolox-suppressed") else "xywh" if kind.startswith("yolo") else how
    strides = (8, 16) if how == "cells" else ()
    assert detector.strides == ((8, 16) if anchors == 20 else ())
    placed = BoxNumbers(how, kind == "apart", strides).corners(boxes, (32, 32))
    last = -1 if anchors == 20 else -5 if kind.startswith("yolov5") else -2
    assert placed[0, 0].tolist() == [0, 0, 8, 8] and placed[0, last].tolist() == [16, 16, 32, 32]


def test_scores_cut_off_behind_boxes_are_read_as_they_are(tmp_path):
    """As an export shows what it suppresses by: boxes and scores, cut apart again."""
    found = finder("joined", tmp_path, samples=4)
    model = onnx.load(found.model)
    ints = {"zero": 0, "four": 4, "end": 99, "axis": 1}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(np.array([v]), k) for k, v in ints.items())
    model.graph.node.extend(
        helper.make_node("Slice", ["found", first, last, "axis"], [name])
        for first, last, name in (("zero", "four", "boxes"), ("four", "end", "scores"))
    )
    del model.graph.output[:]
    for name, wide in (("boxes", 4), ("scores", CLASSES)):
        shape = ["N", wide, 20]
        model.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    onnx.save(model, tmp_path / "cut.onnx")
    shown = find_detector(GraphIndex(model)).shown
    assert (shown.scores, shown.boxes, shown.class_axis, shown.first_score) == ("scores", "boxes", 1, 0)
    seen, whole = (
        onnxtweak.evaluate(path, data=found.data, device="cpu")
        for path in (tmp_path / "cut.onnx", found.model)
    )
    assert seen.metrics.overall == whole.metrics.overall


def test_levels_are_counted_and_the_background_is_known(made):
    kind, found = made
    opened = settled(found.model, found.x)
    several = 2 if kind in TWO else 1
    assert [level.anchors for level in opened.detector.levels] == [several, several]
    assert [level.neighbours for level in opened.detector.levels] == [not kind.startswith("yolov5")] * 2
    assert opened.detector.background == (0 if kind in ("background", "two-anchors") else None)
    assert opened.logits.layout == ("NCP" if kind == "joined" or kind.startswith("yolox") else "NPC")


def test_inspect_names_the_head_and_the_labels_it_wants(made):
    kind, found = made
    seen = onnxtweak.inspect(found.model)
    assert seen.kind == "boxes" and seen.classes == CLASSES + (kind in ("background", "two-anchors"))
    said = " ".join(seen.notes)
    assert "COCO JSON" in said and f"{40 if kind in TWO else 20} anchors on 2 levels" in said


def test_inspect_takes_labelled_boxes(made):
    seen = onnxtweak.inspect(made[1].model, data=made[1].data)
    assert seen.kind == "boxes" and seen.taps and {tap.pool for tap in seen.taps} == {"level0", "level1"}


def test_other_models_are_no_detectors(tmp_path):
    for kind in ("pixels", "tokens", "frames"):
        model = onnx.load(model_at_positions(kind, tmp_path, samples=2).model)
        assert find_detector(GraphIndex(model)) is None


def test_a_threshold_makes_no_sense(made):
    opened = open_model(made[1].model, TapSettings())
    with pytest.raises(UsageError, match="no single threshold"):
        settle_detector(opened, {"x": made[1].x}, CPU, threshold=0.5)


def test_outputs_that_do_not_show_the_anchors_are_refused(tmp_path):
    found = finder("apart", tmp_path, samples=4)
    model = onnx.load(found.model)
    twice = helper.make_node("Concat", ["boxes_", "boxes_"], ["boxes"], axis=1)
    next(node for node in model.graph.node if node.output[0] == "boxes").output[0] = "boxes_"
    model.graph.node.append(twice)
    onnx.save(model, tmp_path / "twice.onnx")
    with pytest.raises(ModelError, match="are not those of anchors"):
        settled(tmp_path / "twice.onnx", found.x)


def test_numbers_become_corners():
    numbers = np.array([[0.5, 0.25, 0.5, 0.5]])
    size = (100, 200)
    assert BoxNumbers("xywh", True).corners(numbers, size).tolist() == [[50, 0, 150, 50]]
    assert BoxNumbers("xyxy", True).corners(numbers, size).tolist() == [[100, 25, 100, 50]]
    assert BoxNumbers("yxyx", False).corners(numbers, size).tolist() == [[0.25, 0.5, 0.5, 0.5]]
