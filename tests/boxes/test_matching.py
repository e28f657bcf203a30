"""Which class an anchor has as its label, and where the boxes of samples stand."""

from __future__ import annotations

import numpy as np
import pytest

from onnxtweak.boxes.matching import IGNORED, NOTHING, as_marks, besides, matched
from onnxtweak.boxes.truth import AnchorBoxes, Truth

BOX = np.array([0, 0, 10, 10], np.float32)


def beside(*steps):
    """Boxes moved to the right: by 2 they overlap by two thirds, by 4 by 3/7, by 6 by 1/4."""
    return np.array([BOX + step * np.array([1, 0, 1, 0]) for step in steps], np.float32)


def labels(boxes, score, objects, number):
    return matched(boxes, np.array(score, np.float32), np.array(number), objects).tolist()


def test_the_best_anchor_has_the_class_and_those_beside_it_count_for_others_alone():
    found = labels(beside(2, 0, 4, 6, 50), [0.9, 0.9, 0.9, 0.9, 0.9], beside(0), [3])
    assert found == [besides(3), 3, besides(3), NOTHING, NOTHING]


def test_the_best_overlaps_most_times_the_root_of_its_score():
    # 2/3 against 1: the score has to be 9/4 times as high.
    assert labels(beside(2, 0), [0.9, 0.41], beside(0), [3]) == [besides(3), 3]
    assert labels(beside(2, 0), [0.9, 0.39], beside(0), [3]) == [3, besides(3)]
    assert labels(beside(4), [1.0], beside(0), [3]) == [besides(3)]  # not by a half
    assert labels(beside(0), [0.0], beside(0), [3]) == [besides(3)]


def test_two_objects_that_want_one_anchor_have_one_each():
    assert labels(beside(0, 2), [0.9, 0.5], beside(0, 1), [3, 4]) == [3, 4]
    assert labels(beside(0), [0.9], beside(1, 0), [4, 3]) == [3]
    # Beside objects of two classes an anchor counts for none; beside two of one, not for that.
    assert labels(beside(0, 2, 1), [0.9, 0.9, 0.1], beside(0, 2), [3, 4]) == [3, 4, IGNORED]
    assert labels(beside(0, 2, 1), [0.9, 0.9, 0.1], beside(0, 2), [3, 3]) == [3, 3, besides(3)]


def test_without_objects_or_anchors_there_is_nothing():
    assert labels(beside(0, 2), [0.9, 0.9], np.empty((0, 4), np.float32), []) == [NOTHING, NOTHING]
    assert labels(np.empty((0, 4), np.float32), [], beside(0), [1]) == []


def test_marks_of_anchors():
    found = as_marks(np.array([1, NOTHING, IGNORED, besides(0), besides(2)]), 3)
    assert found.tolist() == [[0, 1, 0], [0, 0, 0], [-1, -1, -1], [-1, 0, 0], [0, 0, -1]]
    assert found.dtype == np.int8


@pytest.fixture
def truth():
    """Of four samples the second has no object."""
    rows = [[(2, *BOX), (0, *(BOX + 1))], [], [(2, *(BOX + 2))], [(2, *(BOX + 3)), (1, *(BOX + 4))]]
    return Truth.of([np.array(each, np.float32).reshape(-1, 5) for each in rows])


def test_objects_of_a_sample_and_of_some_samples(truth):
    assert truth.sample.tolist() == [0, 0, 2, 3, 3] and truth.samples == 4
    assert [truth.within(sample)[0].tolist() for sample in range(4)] == [[2, 0], [], [2], [2, 1]]
    assert truth.within(3)[1].tolist() == [(BOX + 3).tolist(), (BOX + 4).tolist()]
    some = truth.some(np.array([3, 1, 0]))
    assert some.samples == 3 and some.rows[:, :2].tolist() == [[0, 2], [0, 1], [2, 2], [2, 0]]
    assert some.rows[0].tolist() == [0, 2, *(BOX + 3)]


def test_a_sample_is_dealt_out_by_its_rarest_class(truth):
    assert truth.rarest.tolist() == [0, 3, 2, 1]


def test_boxes_of_anchors_that_matter():
    known = AnchorBoxes(np.array([2, 5, 9]), np.array([BOX, BOX + 5, BOX + 9]), np.array([0.2, 0.5, 0.9]))
    places, found = known.of(np.array([9, 1, 2, 10, 3]))
    assert places.tolist() == [0, 2] and found.rows.tolist() == [9, 2]
    assert found.box.tolist() == [(BOX + 9).tolist(), BOX.tolist()] and found.objectness.tolist() == [
        0.9,
        0.2,
    ]
    nothing = AnchorBoxes(np.empty(0, np.int64), np.empty((0, 4)), np.empty(0))
    places, found = nothing.of(np.array([0, 4]))
    assert len(places) == len(found.rows) == 0
