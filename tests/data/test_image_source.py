"""Images in folders and tables."""

import numpy as np
import pytest
from PIL import Image

from onnxtweak.data import InputSpec, open_data
from onnxtweak.errors import DataError
from onnxtweak.settings import Preprocess

RGB = (InputSpec("input", "uint8", (None, 3, 4, 4)),)
GRAY = (InputSpec("input", "uint8", (None, 1, 4, 4)),)


def opened(source, inputs=RGB, names=None, **options):
    return open_data([str(source)], inputs=inputs, preprocess=Preprocess(**options), names=names)


def paint(path, value, size=(4, 4), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)


def read(dataset):
    return np.concatenate([inputs["input"] for inputs, _, _ in dataset.batches(None, 2)])


def test_folders_are_classes_in_natural_order(tmp_path):
    for value, name in ((10, "c10/a.png"), (2, "c2/b.png"), (3, "c2/a10.png"), (4, "c2/a9.bmp")):
        paint(tmp_path / name, (value, 0, 255))
    (tmp_path / "c2" / "notes.txt").touch()
    (tmp_path / "c2" / ".hidden.png").touch()
    (tmp_path / ".cache").mkdir()
    dataset = opened(tmp_path)
    assert dataset.classes == ("c2", "c10")
    assert dataset.labels.tolist() == [0, 0, 0, 1]
    made = read(dataset)
    assert made.shape == (4, 3, 4, 4)
    assert made[:, 0, 0, 0].tolist() == [4, 3, 2, 10]
    assert (made[:, 2] == 255).all()


def test_numbers_and_the_names_file_decide(tmp_path):
    for folder in ("10", "2"):
        paint(tmp_path / folder / "a.png", 0)
    numbered = opened(tmp_path)
    assert numbered.labels.tolist() == [2, 10]
    assert numbered.classes is None
    assert opened(tmp_path, names=("10", "2")).labels.tolist() == [1, 0]


def test_an_empty_class_keeps_its_number(tmp_path):
    paint(tmp_path / "b" / "a.png", 0)
    (tmp_path / "a").mkdir()
    assert opened(tmp_path).labels.tolist() == [1]


def test_a_key_is_a_folder_of_classes(tmp_path):
    for part, value in (("train", 1), ("val", 2)):
        paint(tmp_path / part / "cat" / "a.png", (value, 0, 0))
    assert read(opened(f"{tmp_path}#val"))[0, 0, 0, 0] == 2
    with pytest.raises(DataError, match="but folders") as caught:
        opened(tmp_path)
    assert f"{tmp_path}#train" in caught.value.hint
    with pytest.raises(DataError, match="no subfolder `test`"):
        opened(f"{tmp_path}#test")


def test_loose_pictures_have_no_labels(tmp_path):
    paint(tmp_path / "a.png", 0)
    with pytest.raises(DataError, match="outside a class folder"):
        opened(tmp_path)


def test_files_of_many_sizes_are_resized_or_cropped(tmp_path):
    paint(tmp_path / "a" / "1.png", (9, 9, 9), (8, 6))
    paint(tmp_path / "a" / "2.png", (9, 9, 9), (5, 12))
    with pytest.raises(DataError, match="samples are"):
        opened(tmp_path)
    dataset = opened(tmp_path, resize=(6, 6), crop=(4, 4))
    assert "resized to 6 x 6" in dataset.describe() and "central 4 x 4" in dataset.describe()
    assert (read(dataset) == 9).all()
    cropped = opened(tmp_path, crop=(4, 4))
    assert "cropped at the centre to 4 x 4" in cropped.describe()
    assert read(cropped).shape == (2, 3, 4, 4)
    anything = opened(tmp_path, (InputSpec("input", "uint8", (None, 3, None, None)),))
    with pytest.raises(DataError, match="the first one is") as caught:
        read(anything)
    assert caught.value.where.endswith("2.png")


def test_gray_and_colour(tmp_path):
    paint(tmp_path / "a" / "1.png", 7, mode="L")
    assert (read(opened(tmp_path, GRAY)) == 7).all()
    assert (read(opened(tmp_path)) == 7).all()
    paint(tmp_path / "a" / "1.png", (10, 20, 30))
    assert read(opened(tmp_path, color="BGR"))[0, :, 0, 0].tolist() == [30, 20, 10]
    assert read(opened(tmp_path, GRAY, color="GRAY"))[0, 0, 0, 0] == 18
    with pytest.raises(DataError, match="expects") as caught:
        opened(tmp_path, GRAY)
    assert "GRAY" in caught.value.hint


def test_palettes_and_transparency_are_read_as_colours(tmp_path):
    paint(tmp_path / "a" / "1.png", (1, 2, 3, 0), mode="RGBA")
    Image.new("RGB", (4, 4), (1, 2, 3)).quantize(4).save(tmp_path / "a" / "2.png")
    assert read(opened(tmp_path))[:, :, 0, 0].tolist() == [[1, 2, 3], [1, 2, 3]]


@pytest.mark.parametrize("name", ["1.png", "2.png"])
def test_a_broken_picture_is_named(tmp_path, name):
    for other in ("1.png", "2.png"):
        paint(tmp_path / "a" / other, 0)
    path = tmp_path / "a" / name
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match="cannot be read") as caught:
        read(opened(tmp_path))
    assert caught.value.where == str(path)


def test_what_is_no_picture_and_what_is_too_deep(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_text("no picture")
    with pytest.raises(DataError, match="cannot be read"):
        opened(tmp_path)
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "a" / "1.png")
    with pytest.raises(DataError, match="more than 8 bits"):
        read(opened(tmp_path))


def test_a_picture_smaller_than_the_crop_is_named(tmp_path):
    paint(tmp_path / "a" / "1.png", 0, (3, 9))
    with pytest.raises(DataError, match="smaller than crop"):
        read(opened(tmp_path, crop=(4, 4)))


def test_pictures_feed_one_input(tmp_path):
    paint(tmp_path / "a" / "1.png", 0)
    with pytest.raises(DataError, match="the model has 2"):
        opened(tmp_path, (*RGB, InputSpec("other", "float32", (None, 1))))


def test_digest_follows_pixels_and_classes(tmp_path):
    paint(tmp_path / "one" / "a" / "1.png", 0)
    paint(tmp_path / "two" / "a" / "1.png", 0)
    paint(tmp_path / "three" / "b" / "1.png", 0)
    paint(tmp_path / "four" / "a" / "1.png", 1)
    one, two, three, four = (opened(tmp_path / name).digest for name in ("one", "two", "three", "four"))
    assert one == two
    assert len({one, three, four}) == 3


@pytest.mark.parametrize("heading", ["", "path,label\n"])
def test_a_table_of_paths_and_labels(tmp_path, heading):
    for value, name in ((1, "a.png"), (2, "deep/b.png")):
        paint(tmp_path / name, (value, 0, 0))
    (tmp_path / "t.csv").write_text(f"{heading}deep/b.png,dog\na.png,cat\n\n")
    dataset = opened(tmp_path / "t.csv")
    assert dataset.classes == ("cat", "dog")
    assert dataset.labels.tolist() == [1, 0]
    assert read(dataset)[:, 0, 0, 0].tolist() == [2, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("a.png\n", "no label"),
        ("a.png,\n", "no label"),
        ("absent.png,cat\n", "no such image file"),
    ],
)
def test_bad_tables_are_refused(tmp_path, text, message):
    paint(tmp_path / "a.png", 0)
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        opened(tmp_path / "t.csv")
