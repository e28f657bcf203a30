"""Labelled boxes: rows, COCO JSON and YOLO's folders give the same, where the model sees them."""

from __future__ import annotations

import json

import numpy as np
import pytest

import onnxtweak
from onnxtweak.data.samples import ArrayColumn, InputSpec
from onnxtweak.data.sources.boxes.placing import placed
from onnxtweak.data.sources.boxes.rows import rows_of
from onnxtweak.errors import DataError
from onnxtweak.settings import Preprocess
from tests.support.finders import CLASSES, SIZE, finder

PIL = pytest.importorskip("PIL.Image")
SPEC = InputSpec("x", "float32", (None, 3, 20, 40))
OBJECT = np.array([[1, 4, 2, 12, 10]], np.float64)


def column(samples=2, shape=(3, 20, 40)):
    return ArrayColumn("x", np.zeros((samples, *shape), np.float32))


@pytest.mark.parametrize(
    ("preprocess", "wanted"),
    [
        (Preprocess(), [4, 2, 12, 10]),
        (Preprocess(resize=(40, 40)), [4, 4, 12, 20]),
        # 40 x 20 pixels, scaled by 2, with 20 rows above and below.
        (Preprocess(resize=(80, 80), resize_mode="letterbox"), [8, 24, 24, 40]),
        (Preprocess(resize=(40, 40), resize_mode="short", crop=(40, 40)), [0, 4, 4, 20]),
    ],
)
def test_boxes_move_with_their_picture(preprocess, wanted):
    assert placed(OBJECT, (20, 40), preprocess).tolist() == [[1, *wanted]]


def test_a_box_that_is_cut_off_is_dropped():
    far = np.array([[0, 0, 2, 5, 10]], np.float64)
    assert not len(placed(far, (20, 40), Preprocess(resize=(20, 40), crop=(20, 20))))


def test_rows_and_lists_are_read_alike():
    rows = np.array([(1, 1, 4, 2, 12, 10), (1, 0, 0, 0, 5, 5)], np.float32)
    of_rows, notes = rows_of(rows, column(), SPEC, Preprocess(), "boxes")
    listed, _ = rows_of([np.empty((0, 5)), rows[:, 1:]], column(), SPEC, Preprocess(), "boxes")
    assert not notes
    assert [len(one) for one in of_rows] == [0, 2]
    assert all(np.array_equal(one, other) for one, other in zip(of_rows, listed, strict=True))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([(2, 0, 0, 0, 5, 5)], "2 is none of the 2 samples"),
        ([(0, 0.5, 0, 0, 5, 5)], "0.5 is no class number"),
        ([(0, 0, 5, 0, 5, 5)], "5, 0, 5, 5 are no corners of a box"),
        ([(0, 0, np.nan, 0, 5, 5)], "are no corners of a box"),
        ([(0, 0, 0.1, 0.2, 0.5, 0.9), (1, 0, 0, 0, 1, 1)], "fractions of the picture"),
    ],
)
def test_what_is_no_box_is_named(rows, said):
    with pytest.raises(DataError, match=said):
        rows_of(np.array(rows, np.float32), column(), SPEC, Preprocess(), "boxes")


def test_a_list_that_is_too_short_is_refused_with_its_length():
    with pytest.raises(DataError, match="boxes of 1 sample, but there are 2"):
        rows_of([np.empty((0, 5))], column(), SPEC, Preprocess(), "boxes")


def test_boxes_outside_of_their_pictures_are_counted():
    rows = np.array([(0, 1, 4, 2, 12, 10), (1, 0, 100, 0, 110, 5)], np.float32)
    labels, notes = rows_of(rows, column(), SPEC, Preprocess(), "boxes")
    assert [len(one) for one in labels] == [1, 0]
    assert notes == ("left out: 1 of 2 boxes, outside of their pictures",)
    _, notes = rows_of(rows[:1], column(), SPEC, Preprocess(crop=(4, 4)), "boxes")
    assert "what --crop leaves" in notes[0]


def test_labels_that_are_no_boxes_are_refused():
    with pytest.raises(DataError, match=r"labels of shape \(3,\) are no boxes"):
        rows_of(np.zeros(3), column(), SPEC, Preprocess(), "y")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The same pictures as arrays, with a COCO JSON and as YOLO has them, in bytes."""
    folder = tmp_path_factory.mktemp("boxes")
    made = finder("joined", folder, samples=24)
    pixels = np.clip(made.x * 127, 0, 255).astype(np.uint8)
    np.savez(folder / "pixels.npz", x=pixels, boxes=made.boxes)
    folder = folder / "set"
    folder.mkdir()
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    images, annotations = [], []
    for k, picture in enumerate(pixels):
        PIL.fromarray(picture.transpose(1, 2, 0)).save(folder / "images" / f"{k:03}.png")
        images.append({"id": 100 - k, "file_name": f"{k:03}.png", "width": SIZE, "height": SIZE})
        lines = []
        for _, number, left, top, right, bottom in made.boxes[made.boxes[:, 0] == k].astype(float):
            wide, high = right - left, bottom - top
            middle = (left + right) / 2, (top + bottom) / 2
            lines.append(
                " ".join(f"{value}" for value in (int(number), *np.divide((*middle, wide, high), SIZE)))
            )
            annotations.append(
                {"image_id": 100 - k, "category_id": 10 + 5 * int(number), "bbox": [left, top, wide, high]}
            )
        if lines:
            (folder / "labels" / f"{k:03}.txt").write_text("\n".join(lines) + "\n")
    annotations.append({"image_id": 100, "category_id": 10, "bbox": [0, 0, 32, 32], "iscrowd": 1})
    categories = [{"id": 10 + 5 * k, "name": f"colour {k}"} for k in reversed(range(CLASSES))]
    held = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "labels.json").write_text(json.dumps(held))
    return folder, made


def evaluated(model, data, **options):
    return onnxtweak.evaluate(model, data=data, pixel_scale=1 / 127, device="cpu", **options)


def test_every_form_of_labels_gives_the_same_figures(folders):
    folder, made = folders
    forms = [str(made.data.parent / "pixels.npz"), str(folder / "labels.json"), str(folder)]
    of_rows, of_coco, of_yolo = (evaluated(made.model, form) for form in forms)
    assert of_rows.metrics.objects.tolist() == np.bincount(made.boxes[:, 1].astype(int)).tolist()
    for other in (of_coco, of_yolo):
        assert other.metrics.per_class == pytest.approx(of_rows.metrics.per_class)
        assert other.metrics.strict == pytest.approx(of_rows.metrics.strict)
    assert of_coco.classes == ("colour 0", "colour 1", "colour 2")
    assert any("left out: 1 crowd" in note for note in of_coco.notes)


def test_names_put_the_classes_in_the_models_order(folders, tmp_path):
    folder, made = folders
    names = ("colour 2", "colour 1", "colour 0")
    found = evaluated(made.model, str(folder / "labels.json"), names=names)
    plain = evaluated(made.model, str(folder / "labels.json"))
    assert found.metrics.objects.tolist() == plain.metrics.objects.tolist()[::-1]
    with pytest.raises(DataError, match="`colour 1` is not among the class names"):
        evaluated(made.model, str(folder / "labels.json"), names=("a", "b", "c"))


def test_arrays_of_a_program(folders):
    _, made = folders
    lists = [made.boxes[made.boxes[:, 0] == k, 1:] for k in range(24)]
    whole = onnxtweak.evaluate(made.model, data=(made.x, made.boxes), device="cpu")
    each = onnxtweak.evaluate(made.model, data=(made.x, lists), device="cpu")
    named = onnxtweak.evaluate(made.model, data={"x": made.x, "boxes": made.boxes}, device="cpu")
    assert whole.metrics.overall == each.metrics.overall == named.metrics.overall
    streamed = {
        "samples": zip(made.x, lists, strict=True),
        "pairs": list(zip(made.x, lists, strict=True)),
        "batches": ((made.x[k : k + 5], lists[k : k + 5]) for k in range(0, 24, 5)),
        "mappings": ({"x": made.x[k : k + 9], "boxes": lists[k : k + 9]} for k in range(0, 24, 9)),
        "rows": (made.x, made.boxes.tolist()),
    }
    for form, data in streamed.items():
        found = onnxtweak.evaluate(made.model, data=data, device="cpu")
        assert found.metrics.overall == whole.metrics.overall, form


def test_a_batch_of_what_is_no_box_is_named(folders):
    _, made = folders
    with pytest.raises(DataError, match="boxes of 4 samples, but there are 5") as error:
        onnxtweak.evaluate(made.model, data=[{"x": made.x[:5], "boxes": [np.empty((0, 5))] * 4}].__iter__())
    assert "batch 0" in error.value.where
    outside = np.array([[0, 99, 99, 120, 120], [1, 0, 0, 16, 16]])
    found = onnxtweak.evaluate(made.model, data=iter([(made.x[:1], [outside])]), device="cpu")
    assert any("1 of 2 boxes, outside of their pictures" in note for note in found.notes)


def test_a_line_that_is_no_box_is_named(folders, tmp_path):
    _, made = folders
    PIL.new("RGB", (SIZE, SIZE)).save(tmp_path / "a.png")
    for text, said in (("0 0.5 0.5 0.2", "is no box"), ("0 0.5 0.5 1.2 0.1", "no fractions of the picture")):
        (tmp_path / "a.txt").write_text(f"1 0.5 0.5 0.2 0.2\n{text}\n")
        with pytest.raises(DataError, match=said) as error:
            evaluated(made.model, str(tmp_path))
        assert "line 2 of" in str(error.value)


def test_a_json_of_something_else_is_refused(folders, tmp_path):
    _, made = folders
    (tmp_path / "other.json").write_text('{"images": []}')
    with pytest.raises(DataError, match="this is no COCO JSON"):
        evaluated(made.model, str(tmp_path / "other.json"))
