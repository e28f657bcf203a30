"""Average precision: by hand, and as COCO's own tools compute it where they are installed."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest

from onnxtweak.boxes.average_precision import THRESHOLDS, Found, mean
from onnxtweak.boxes.overlap import overlaps
from onnxtweak.boxes.suppression import Detections, suppressed
from onnxtweak.boxes.truth import Truth
from onnxtweak.head import ONE_LABEL, SEVERAL_LABELS
from onnxtweak.method.fit.boxes import AnchorJudge

BOX = np.array([0, 0, 10, 10], np.float32)


def found(rows, truth, classes=1, samples=1):
    """rows : sample, class, score, box. truth : sample, class, box."""
    rows = np.array(rows, np.float32).reshape(-1, 7)
    each = [truth_rows[:, 1:] for truth_rows in split(np.array(truth, np.float32).reshape(-1, 6), samples)]
    made = Detections(rows[:, 0].astype(int), rows[:, 1].astype(int), rows[:, 2], rows[:, 3:], samples)
    return Found.of(made, Truth.of(each), range(classes))


def split(rows, samples):
    return [rows[rows[:, 0] == k] for k in range(samples)]


def test_overlap_is_intersection_over_union():
    other = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [0, 0, 0, 0]], np.float32)
    assert overlaps(BOX[None], other)[0].tolist() == pytest.approx([1, 50 / 150, 0, 0])


def test_one_object_found_first_is_all_there_is():
    made = found([(0, 0, 0.9, *BOX), (0, 0, 0.8, 50, 50, 60, 60)], [(0, 0, *BOX)])
    assert made.average_precision()[:, 0].tolist() == pytest.approx([1.0] * 10)


def test_a_false_one_before_it_halves_precision():
    made = found([(0, 0, 0.9, 50, 50, 60, 60), (0, 0, 0.8, *BOX)], [(0, 0, *BOX)])
    assert made.average_precision()[0, 0] == pytest.approx(0.5)


def test_half_of_the_objects_found_is_half_of_the_recalls():
    # Recalls 0, 0.01, ... 0.5 are reached, with precision 1: 51 of 101.
    made = found([(0, 0, 0.9, *BOX)], [(0, 0, *BOX), (0, 0, 40, 40, 50, 50)])
    assert made.average_precision()[0, 0] == pytest.approx(51 / 101)


def test_an_object_is_found_once():
    # The second counts as wrong; behind it the other object: precision 2/3 at recalls above a half.
    rows = [(0, 0, 0.9, *BOX), (0, 0, 0.8, *BOX), (0, 0, 0.7, 40, 40, 50, 50)]
    made = found(rows, [(0, 0, *BOX), (0, 0, 40, 40, 50, 50)])
    assert made.average_precision()[0, 0] == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_a_box_whose_object_is_found_already_finds_another_that_it_overlaps():
    """Of what is free by the most, and by enough: the third box overlaps the last object by a third alone."""
    rows = [(0, 0, 0.9, *BOX), (0, 0, 0.8, 0, 0, 10, 11), (0, 0, 0.7, 0, 0, 10, 9)]
    made = found(rows, [(0, 0, *BOX), (0, 0, 0, 2, 10, 12), (0, 0, 5, 0, 15, 10)])
    assert made.average_precision()[0, 0] == pytest.approx(67 / 101)
    assert [each.tolist() for each in made.found(0.8)] == [[True, True, False]]
    assert [each.tolist() for each in made.found(0.85)] == [[True, False, False]]


def test_overlaps_from_which_it_counts():
    made = found([(0, 0, 0.9, 0, 0, 10, 8)], [(0, 0, *BOX)])  # IoU 0.8
    each = made.average_precision()[:, 0]
    assert [float(value) for value in each] == [1.0 if least <= 0.8 + 1e-9 else 0.0 for least in THRESHOLDS]


def test_classes_and_samples_do_not_mix():
    rows = [(0, 0, 0.9, *BOX), (1, 1, 0.9, *BOX)]
    made = found(rows, [(1, 0, *BOX), (1, 1, *BOX)], classes=3, samples=2)
    assert made.average_precision()[0].tolist()[:2] == [0.0, 1.0]
    assert np.isnan(made.average_precision()[0, 2]) and mean(made.average_precision()[0]) == 0.5
    assert made.objects.tolist() == [1, 1, 0]


def test_weights_count_samples_as_often():
    rows = [(0, 0, 0.9, *BOX), (1, 0, 0.8, 50, 50, 60, 60)]
    made = found(rows, [(0, 0, *BOX), (1, 0, *BOX)], samples=2)
    once, three, none = made.drawn(np.array([[1.0, 1.0], [3.0, 1.0], [0.0, 0.0]]))[:, 0, 0]
    assert once == pytest.approx(51 / 101) and three == pytest.approx(76 / 101) and np.isnan(none)


def test_a_class_without_objects_has_none_whatever_is_found():
    made = found([(0, 0, 0.9, *BOX), (0, 1, 0.8, *BOX)], [(0, 0, *BOX)], classes=3)
    assert made.average_precision()[0].tolist() == pytest.approx([1, np.nan, np.nan], nan_ok=True)


def test_suppression_keeps_the_best_of_each_class():
    boxes = np.array([BOX, BOX + 1, BOX + 20], np.float32)
    scores = np.array([[0.5, 0.9], [0.9, 0.1], [0.2, 0.0005]])
    number, score, box = suppressed(boxes, scores)
    assert number.tolist() == [0, 0, 1] and score.tolist() == [0.9, 0.2, 0.9]
    assert box.tolist() == [boxes[1].tolist(), boxes[2].tolist(), boxes[0].tolist()]


def test_a_box_that_is_left_out_leaves_others_and_does_not_come_back():
    """The second overlaps the first; the fourth overlaps the second alone, and stays."""
    boxes = np.array([BOX, BOX + np.array([2, 0, 2, 0]), BOX + 30, BOX + np.array([4, 0, 4, 0])], np.float32)
    scores = np.array([[0.9], [0.7], [0.8], [0.6]])
    number, score, _ = suppressed(boxes, scores)
    assert number.tolist() == [0, 0, 0] and score.tolist() == [0.9, 0.8, 0.6]


def test_of_many_boxes_a_hundred_are_left_and_none_that_cannot_matter():
    apart = BOX + 20 * np.arange(104)[:, None]
    scores = np.linspace(0.9, 0.1, 104)[:, None]
    assert len(suppressed(apart, scores)[0]) == 100
    scores[50:, 0] = [0.001] * 27 + [0.002] * 27
    assert suppressed(apart, scores)[1].min() == 0.002 and len(suppressed(apart, scores)[0]) == 77


def test_what_is_found_from_a_score_and_in_a_sample():
    parts = [(np.array(number), np.array(score), np.array([BOX] * len(number))) for number, score in (
        ([1, 0], [0.5, 0.4]), ([], []), ([2], [0.9]))]  # fmt: skip
    every = Detections.joined([(number, score, box.reshape(-1, 4)) for number, score, box in parts])
    assert every.sample.tolist() == [0, 0, 2] and every.samples == 3
    assert every.from_score(0.5).score.tolist() == [0.5, 0.9] and every.from_score(0.5).samples == 3
    assert [every.within(sample)[0].tolist() for sample in range(3)] == [[1, 0], [], [2]]


def drawn(seed, samples=20, classes=3):
    """Objects, and what is found of them: moved, missed, of another class, and made up."""
    rng, truth, rows = np.random.default_rng(seed), [], []
    for sample in range(samples):
        for _ in range(rng.integers(0, 6)):
            low = rng.uniform(0, 80, 2)
            box = np.concatenate([low, low + rng.uniform(6, 40, 2)])
            number = int(rng.integers(classes))
            truth.append((sample, number, *box))
            for _ in range(rng.integers(0, 3)):
                moved = box + rng.normal(0, 2, 4)
                shown = number if rng.random() < 0.8 else int(rng.integers(classes))
                rows.append((sample, shown, rng.random(), *moved))
        for _ in range(rng.integers(0, 4)):
            low = rng.uniform(0, 80, 2)
            rows.append(
                (sample, int(rng.integers(classes)), rng.random(), *low, *(low + rng.uniform(6, 40, 2)))
            )
    return rows, truth


@pytest.mark.parametrize("seed", range(5))
def test_as_cocos_own_tools_have_it(seed):
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed")
    evaluate = pytest.importorskip("pycocotools.cocoeval").COCOeval
    rows, truth = drawn(seed)
    wanted, shown = (
        [
            {
                "id": k + 1,
                "image_id": int(row[0]) + 1,
                "category_id": int(row[1]) + 1,
                "bbox": [*row[-4:-2], row[-2] - row[-4], row[-1] - row[-3]],
                "area": (row[-2] - row[-4]) * (row[-1] - row[-3]),
                "iscrowd": 0,
                **({"score": row[2]} if len(row) == 7 else {}),
            }
            for k, row in enumerate(each)
        ]
        for each in (truth, rows)
    )
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = coco.COCO()
        theirs.dataset = {
            "info": {},
            "images": [{"id": k + 1} for k in range(20)],
            "annotations": wanted,
            "categories": [{"id": k + 1} for k in range(3)],
        }
        theirs.createIndex()
        judged = evaluate(theirs, theirs.loadRes(shown), "bbox")
        judged.evaluate()
        judged.accumulate()
    precision = judged.eval["precision"][:, :, :, 0, 2].mean(axis=1)  # (T, C), all areas, 100 a picture
    own = found(rows, truth, classes=3, samples=20).average_precision()
    assert own == pytest.approx(precision, abs=1e-6)


@pytest.mark.parametrize("head", [SEVERAL_LABELS, ONE_LABEL])
def test_some_classes_are_judged_as_they_are_among_all(head):
    rng = np.random.default_rng(0)
    sample = np.repeat(np.arange(6), 8)
    corner = rng.uniform(0, 30, (len(sample), 2))
    box = np.concatenate([corner, corner + 20], axis=1)
    number = rng.integers(0, 4, len(sample))
    truth = Truth.of([np.column_stack([number, box])[sample == k][:4] for k in range(6)])
    Z = rng.normal(size=(len(sample), 4 if head.several else 5)).astype(np.float32)
    judge = AnchorJudge(head, truth, sample, np.arange(len(Z)), box, np.ones(len(Z)), Z)
    every, some = judge.precision(Z), np.array([3, 1])
    assert len(set(every.tolist())) == 4
    assert np.array_equal(judge.precision(Z, some), every[some])
    assert np.array_equal(judge.found(Z).of_some(some).average_precision()[0], every[some])
