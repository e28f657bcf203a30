"""Labels of every form, and every form that is refused."""

import numpy as np
import pytest

from onnxtweak.data import InputSpec, check_labels, open_data, open_splits, read_names
from onnxtweak.data.labels import labels_at_positions, number_by_labels
from onnxtweak.data.samples import Part
from onnxtweak.errors import DataError
from onnxtweak.settings import DataSettings, Preprocess

FLAT = (InputSpec("input", "float32", (None, 2)),)


def opened(tmp_path, labels, names=None, file="a.npz", **more):
    path = tmp_path / file
    np.savez(path, x=np.zeros((len(labels), 2), np.float32), y=labels, **more)
    return open_data([str(path)], inputs=FLAT, preprocess=Preprocess(), names=names)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "int64", "uint64", ">i4"])
def test_integers_of_any_width(tmp_path, dtype):
    labels = opened(tmp_path, np.array([3, 0, 7], dtype)).labels
    assert labels.dtype == np.int64
    assert labels.tolist() == [3, 0, 7]


def test_bools_columns_and_one_hot(tmp_path):
    assert opened(tmp_path, np.array([True, False])).labels.tolist() == [1, 0]
    assert opened(tmp_path, np.array([[2], [1]])).labels.tolist() == [2, 1]
    dataset = opened(tmp_path, np.eye(3, dtype=np.float32)[[2, 0]])
    assert dataset.labels.tolist() == [2, 0]
    assert "one-hot" in dataset.describe()


def test_names_are_looked_up(tmp_path):
    labels = np.array(["dog", "cat", "dog"])
    assert opened(tmp_path, labels, names=("cat", "cow", "dog")).labels.tolist() == [2, 0, 2]
    assert opened(tmp_path, labels, classes=np.array(["dog", "cat"])).labels.tolist() == [0, 1, 0]
    sorted_ones = opened(tmp_path, labels)
    assert sorted_ones.labels.tolist() == [1, 0, 1]
    assert sorted_ones.classes == ("cat", "dog")
    assert "sorting" in sorted_ones.describe()


def test_numbers_as_text_are_numbers(tmp_path):
    dataset = opened(tmp_path, np.array(["10", "2"]))
    assert dataset.labels.tolist() == [10, 2]
    assert dataset.classes is None


def test_two_sources_share_their_names(tmp_path):
    opened(tmp_path, np.array(["cat", "eel"]), file="a.npz")
    opened(tmp_path, np.array(["dog"]), file="b.npz")
    both = open_data([str(tmp_path / "a.npz"), str(tmp_path / "b.npz")], inputs=FLAT, preprocess=Preprocess())
    assert both.classes == ("cat", "dog", "eel")
    assert both.labels.tolist() == [0, 2, 1]


def test_sources_that_number_differently_are_refused(tmp_path):
    opened(tmp_path, np.array([0, 1]), file="a.npz", classes=np.array(["cat", "dog"]))
    opened(tmp_path, np.array([0, 1]), file="b.npz", classes=np.array(["dog", "cat"]))
    with pytest.raises(DataError, match="number their classes differently"):
        open_data([str(tmp_path / "a.npz"), str(tmp_path / "b.npz")], inputs=FLAT, preprocess=Preprocess())


def test_the_same_names_in_another_order_are_refused(tmp_path):
    classes = np.array(["cat", "dog"])
    assert opened(tmp_path, np.array([0, 1]), names=("chat", "chien"), classes=classes).classes == (
        "chat",
        "chien",
    )
    with pytest.raises(DataError, match="another order"):
        opened(tmp_path, np.array([0, 1]), names=("dog", "cat"), classes=classes)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0.0, 1.0]), "not integers"),
        (np.array([np.nan, 1.0]), r"missing .NaN. .row 0 of y in "),
        (np.array([0.5, 1.5]), "not integers"),
        (np.array([[0.2, 0.8], [0.5, 0.5]]), "labels are probabilities, such as 0.2 in row 0"),
        (np.array([[2.0, 0.8], [0.5, 0.5]]), "neither class numbers nor one-hot: row 0 has 2"),
        (np.full((2, 3, 4), 0.25), "labels are probabilities, such as 0.25 in row 0"),
        (np.array([[0.0, 1], [1, 1]]), r"shape \(2, 2\) mark 2 classes in row 1: several labels at once"),
        (np.zeros((2, 3, 4)), r"labels of shape \(2, 3, 4\) are float64"),
        (np.full((2, 3, 4), 1.5), "neither class numbers nor one-hot"),
        (np.array([2**63, 1], np.uint64), "out of range"),
        (np.array([1j, 0]), "unsupported dtype"),
    ],
)
def test_other_labels_are_refused(tmp_path, labels, message):
    with pytest.raises(DataError, match=message) as caught:
        opened(tmp_path, labels)
    assert "y in " in str(caught.value)
    assert caught.value.hint


def test_a_single_number_is_no_sample(tmp_path):
    np.savez(tmp_path / "one.npz", x=np.float32(1), y=np.int64(1))
    with pytest.raises(DataError, match="single numbers are no samples"):
        open_data([str(tmp_path / "one.npz")], inputs=FLAT, preprocess=Preprocess())


def test_a_class_without_a_name_is_refused(tmp_path):
    with pytest.raises(DataError, match="`eel` is not among"):
        opened(tmp_path, np.array(["cat", "eel"]), names=("cat", "dog"))


@pytest.mark.parametrize(("labels", "bad", "row"), [([0, 1, 2, 3, 9], 3, 3), ([0, -1], -1, 1)])
def test_labels_out_of_range_are_named(tmp_path, labels, bad, row):
    dataset = opened(tmp_path, np.array(labels))
    with pytest.raises(DataError, match=f"label {bad} is out of range") as caught:
        check_labels(dataset, 3)
    assert f"row {row} of y in " in str(caught.value)
    assert "0 to 2" in caught.value.hint


def test_labels_in_range_and_the_wrong_number_of_names(tmp_path):
    dataset = opened(tmp_path, np.array([0, 1]), names=("cat", "dog"))
    check_labels(dataset, 2)
    with pytest.raises(DataError, match="2 class names, but the model has 3"):
        check_labels(dataset, 3)


def test_names_file(tmp_path):
    path = tmp_path / "names.txt"
    path.write_bytes("\ufeffcat\nsea lion \r\n\n".encode())
    assert read_names(path) == ("cat", "sea lion")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"cat\n\ndog\n", "empty line"),
        (b"cat\ncat\n", "duplicate class name `cat`"),
        (b"\xff\xfe\xff", "is not UTF-8 .line 1"),
    ],
)
def test_bad_names_files_are_refused(tmp_path, content, message):
    path = tmp_path / "names.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_names(path)


def test_absent_names_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_names(tmp_path / "absent.txt")


def test_numbers_that_the_names_file_lists_are_names(tmp_path):
    dataset = opened(tmp_path, np.array([30, 10, 20]), names=("10", "20", "30"))
    assert dataset.labels.tolist() == [2, 0, 1]
    assert "labels 10, 20, 30 are what classes 0 to 2 are called" in dataset.describe()
    assert opened(tmp_path, np.array([0, 2, 1]), names=("10", "20", "30")).labels.tolist() == [0, 2, 1]
    digits = opened(tmp_path, np.array([2, 0]), names=("0", "1", "2"))
    assert digits.labels.tolist() == [2, 0] and digits.written is None


def test_the_other_splits_read_numbers_as_the_first_did(tmp_path):
    for name, y in (("a", [1, 2, 3] * 4), ("b", [1, 2] * 4)):
        np.savez(tmp_path / f"{name}.npz", x=np.zeros((len(y), 2), np.float32), y=np.array(y))
    (tmp_path / "names.txt").write_text("1\n2\n3\n")
    settings = DataSettings((f"{tmp_path}/a.npz",), (f"{tmp_path}/b.npz",), names=str(tmp_path / "names.txt"))
    splits = open_splits(settings, FLAT)
    assert splits.fit.labels.tolist() == [0, 1, 2] * 4
    assert splits.validation.labels.tolist() == [0, 1] * 4


def test_the_models_labels_are_read_alike_in_all_splits(tmp_path):
    fit, test = (
        opened(tmp_path, np.array([0, 1, 2]), file="a.npz"),
        opened(tmp_path, np.array([1, 2]), file="b.npz"),
    )
    present = np.array([0, 1, 2])
    assert number_by_labels(fit, (1, 2, 3), present).labels.tolist() == [0, 1, 2]
    assert number_by_labels(test, (1, 2, 3), present).labels.tolist() == [1, 2]  # counted, as in the other
    assert number_by_labels(test, (1, 2, 3), test.labels).labels.tolist() == [0, 1]
    named = opened(tmp_path, np.array([20, 30]), names=("10", "20", "30"), file="c.npz")
    assert number_by_labels(named, (2, 1, 3), named.labels).labels.tolist() == [
        1,
        2,
    ]  # the names file said so


def test_names_that_the_model_does_not_have_are_not_numbered_by_sorting(tmp_path):
    dataset = opened(tmp_path, np.array(["Ash", "birch", "Ash"]))
    assert dataset.by_sorting
    with pytest.raises(DataError, match="`Ash` is not one of the model's classes") as caught:
        number_by_labels(dataset, ("ash", "birch"), dataset.labels)
    assert "ash, birch" in caught.value.hint
    told = opened(tmp_path, np.array(["Ash", "birch", "Ash"]), names=("Ash", "birch"))
    assert number_by_labels(told, ("ash", "birch"), told.labels).labels.tolist() == [0, 1, 0]


def test_class_numbers_of_bytes_are_held_in_a_byte_where_they_fit():
    def held(values, ignored=None):
        part = Part("here", "here", {}, np.array(values, np.uint8)[None], "y", ())
        return labels_at_positions([part], None, ignored).numbers

    assert held([3, 127, 255, 0]).tolist() == [3, 127, -1, 0] and held([3, 127, 255]).dtype == np.int8
    assert held([3, 128, 255]).tolist() == [3, 128, -1] and held([3, 128, 255]).dtype == np.int16
    assert held([3, 200, 1], 200).tolist() == [3, -1, 1] and held([3, 200, 1], 200).dtype == np.int8
    assert held([3, 255, 1], 3).tolist() == [-1, 255, 1]
