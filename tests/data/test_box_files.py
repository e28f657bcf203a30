"""What is wrong in files of boxes is named or counted: nothing vanishes without a word."""

from __future__ import annotations

import json

import numpy as np
import pytest

from onnxtweak.data.open_data import read_sources
from onnxtweak.data.samples import InputSpec, Reading
from onnxtweak.data.sources.boxes.names_beside import names_beside
from onnxtweak.errors import DataError

PIL = pytest.importorskip("PIL.Image")
SPEC = InputSpec("x", "float32", (None, 3, 8, 8))
BOX = {"id": 5, "image_id": 0, "category_id": 3, "bbox": [1, 1, 4, 4]}


def read(source):
    return read_sources([str(source)], [SPEC], Reading(boxes=True))


def noted(source):
    return " | ".join(read(source).notes)


def pictures(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        PIL.new("RGB", (8, 8)).save(folder / f"{name}.png")


def coco(folder, *annotations, **image):
    pictures(folder, "a", "b")
    images = [{"id": k, "file_name": f"{name}.png"} | image for k, name in enumerate("ab")]
    held = {"images": images, "annotations": annotations, "categories": [{"id": 3, "name": "cat"}]}
    (folder / "set.json").write_text(json.dumps(held))
    return folder / "set.json"


def yolo(folder, **texts):
    folder.mkdir(parents=True)
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"bbox": [5, 5, -4, 4]}, "left out: 1 box without a width or height above 0"),
        ({"bbox": [50, 5, 4, 4]}, "left out: 1 of 2 boxes, outside of their pictures"),
        ({"image_id": 9}, "left out: 1 box of pictures that `images` does not list"),
        ({"iscrowd": 1}, "left out: 1 crowd"),
    ],
)
def test_boxes_that_are_left_out_are_counted(tmp_path, changed, said):
    assert said in noted(coco(tmp_path, BOX, BOX | changed))
    with pytest.raises(DataError, match=r"no sample has any box: left out: 1 (box|crowd|of 1 box)"):
        read(coco(tmp_path, BOX | changed))


def test_ids_of_pictures_may_be_texts_and_stand_once(tmp_path):
    path = coco(tmp_path, BOX | {"image_id": "b7"}, BOX | {"image_id": 0.0})
    held = json.loads(path.read_text())
    held["images"][1]["id"] = "b7"
    path.write_text(json.dumps(held))
    assert [len(one) for one in read(path).parts[0].labels] == [1, 1]
    for key, again in (("images", {"id": 0, "file_name": "b.png"}), ("categories", {"id": 3, "name": "dog"})):
        path.write_text(json.dumps(held | {key: [*held[key], again]}))
        with pytest.raises(DataError, match=r"the (picture|category) id \d stands twice"):
            read(path)


def test_lines_that_are_nearly_boxes(tmp_path):
    """A little beyond the picture, as rounding has it; without a width; the outline of a thing."""
    lines = ("0 1.000001 0.5 0.5 0.5", "0 0.5 0.5 0 0.2", "0 0.25 0.5 0.5 -0.0 0.75 0.5", "0 0.5 0.5 0.5 0.5")
    pictures(tmp_path / "images", "a")
    yolo(tmp_path / "labels", a="\r\n".join(lines))
    assert "left out: 1 box without a width or height above 0" in noted(tmp_path)
    assert "1 polygon read as the box around its points" in noted(tmp_path)
    assert read(tmp_path).parts[0].labels[0][:, 1:].round(4).tolist() == [
        [6, 2, 8, 6],
        [2, 0, 6, 4],
        [2, 2, 6, 6],
    ]
    for line in ("0 1.2 0.5 0.5 0.5", "0 0.5 0.5 0.5 -0.1", "0 0.5 0.5 0.5 0.5 0.9", "0 0.5 0.5 0.5"):
        (tmp_path / "labels" / "a.txt").write_text(line)
        with pytest.raises(DataError, match=r"is no box|no fractions of the picture"):
            read(tmp_path)


def test_pictures_of_another_size_are_counted(tmp_path):
    said = "2 of 2 pictures of another size than the JSON says, such as a.png, 8 x 8 rather than 16 x 8"
    assert said in noted(coco(tmp_path, BOX, width=16, height=8))
    assert "another size" not in noted(coco(tmp_path, BOX, width=8, height=8))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"category_id": 4}, "no category has the id 4"),
        ({"bbox": None}, "this is no annotation"),
        ({"bbox": [1, 1, float("nan"), 2]}, "are no corners of a box"),
    ],
)
def test_an_annotation_that_is_wrong_is_named(tmp_path, changed, said):
    with pytest.raises(DataError, match=said) as error:
        read(coco(tmp_path, BOX | {"id": 4}, BOX | changed))
    assert "annotation 1 (id 5) of" in str(error.value) and "npz" not in str(error.value.hint)


def test_a_json_without_a_box_or_with_fractions_says_so(tmp_path):
    bare = {name: value for name, value in BOX.items() if name != "bbox"}
    for some, said in (
        ([bare], "the annotation has no 'bbox'"),
        ([], "has no annotations"),
        ([BOX | {"bbox": [0.1, 0.1, 0.5, 0.5]}], "fractions of the picture"),
    ):
        with pytest.raises(DataError, match=said):
            read(coco(tmp_path, *some))
    with pytest.raises(DataError, match="has no keys"):
        read(f"{coco(tmp_path, BOX)}#val")


def test_files_without_a_partner_are_counted(tmp_path):
    pictures(tmp_path / "images", "a", "b", "c")
    yolo(tmp_path / "labels", a="0 0.5 0.5 0.2 0.2\n", d="", e="")
    said = noted(tmp_path)
    assert "no .txt, and so no objects: 2 of 3 pictures" in said
    assert "of no picture: 2 .txt files, such as" in said and "d.txt" in said


def test_splits_within_images_can_be_read_one_by_one(tmp_path):
    for split, names in (("train", "ab"), ("val", "c")):
        pictures(tmp_path / "images" / split, *names)
        yolo(tmp_path / "labels" / split, **dict.fromkeys(names, "0 0.5 0.5 0.2 0.2\n"))
    whole = read(tmp_path)
    assert len(whole) == 3 and any("train and val are taken together" in note for note in whole.notes)
    for one in (tmp_path / "images" / "val", f"{tmp_path}#val"):
        found = read(one)
        assert len(found) == 1 and len(found.objects.box) == 1
        assert not any("together" in note or "no .txt" in note for note in found.notes)
    with pytest.raises(DataError, match="no folder `test`"):
        read(f"{tmp_path}#test")


def test_names_of_classes_are_read_or_said_to_be_missing(tmp_path):
    pictures(tmp_path / "images", "a")
    yolo(tmp_path / "labels", a="0 0.5 0.5 0.2 0.2\n1 0.5 0.5 0.2 0.2\n")
    (tmp_path / "data.yaml").write_text("names: [cat, dog]\n")
    assert read(tmp_path).parts[0].offered == ("data.yaml", ("cat", "dog"))
    (tmp_path / "classes.txt").write_text("cat\n")
    with pytest.raises(DataError, match=r"class 1 is out of range: classes.txt has 1 name") as error:
        read(tmp_path)
    assert "line 2 of" in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "nc: 2\nnames: ['cat', \"dog, small\"]  # of the set\n",
        "names:\n  - cat\n  - 'dog, small'\nnc: 2\n",
        "train: images\nnames:\n  # by number\n  1: dog, small\n  0: cat  # first\ndownload: x\n",
        "names: {0: cat, 1: 'dog, small'}\n",
        "names: [cat,\n  'dog, small',\n]\n",
    ],
)
def test_names_in_every_spelling_of_yaml(tmp_path, text):
    (tmp_path / "other.yaml").write_text("path: .\n")
    (tmp_path / "set.yaml").write_text(text)
    assert names_beside([tmp_path]) == ("set.yaml", ("cat", "dog, small"))


@pytest.mark.parametrize(
    "text", ["names:\n", "names: {0: a, 2: b}\n", "names: [a, a]\n", "names: lost\n", "nc: 2\n"]
)
def test_what_gives_no_names_in_yaml(tmp_path, text):
    (tmp_path / "data.yaml").write_text(text)
    assert names_beside([tmp_path]) is None


def test_boxes_of_each_sample_may_be_an_array_of_arrays(tmp_path):
    boxes = np.empty(2, object)
    boxes[:] = [np.array([[0, 1, 1, 4, 4]]), np.empty((0, 5))]
    np.savez(tmp_path / "set.npz", x=np.zeros((2, 3, 8, 8), np.float32), boxes=boxes)
    assert len(read(tmp_path / "set.npz").objects.box) == 1


def test_boxes_for_a_model_that_is_no_detector(tmp_path):
    np.savez(tmp_path / "set.npz", x=np.zeros((2, 3, 8, 8), np.float32), boxes=np.zeros((0, 6)))
    with pytest.raises(DataError, match="this model is not taken for a detector") as error:
        read_sources([str(tmp_path / "set.npz")], [SPEC], Reading())
    assert "docs/howto/boxes.md" in error.value.hint
