"""Missing, empty or misnamed data is reported before anything runs."""

import numpy as np
import pytest

from onnxtweak.data import InputSpec, open_data
from onnxtweak.errors import DataError
from onnxtweak.settings import Preprocess

FLAT = (InputSpec("input", "float32", (None, 2)),)
X, Y = np.zeros((4, 2), np.float32), np.arange(4)


def refusal(tmp_path, inputs=FLAT, key="", **arrays):
    path = tmp_path / "a.npz"
    np.savez(path, **arrays)
    with pytest.raises(DataError) as caught:
        open_data([f"{path}{key}"], inputs=inputs, preprocess=Preprocess())
    return caught.value


def test_no_labels(tmp_path):
    error = refusal(tmp_path, x=X)
    assert "no labels" in error.what and "`x`" in error.what
    assert "`y`" in error.hint


def test_wrong_name(tmp_path):
    error = refusal(tmp_path, features=X, y=Y)
    assert "`input`" in error.what and "`features`" in error.what
    assert "`x`" in error.hint


def test_one_of_two_inputs_missing(tmp_path):
    error = refusal(tmp_path, (*FLAT, InputSpec("mask", "float32", (None, 2))), input=X, y=Y)
    assert "`mask`" in error.what and "`input` and" not in error.what


@pytest.mark.parametrize("names", [("x_train", "y_train"), ("train_images", "train_labels")])
def test_a_key_is_hinted_and_taken(tmp_path, names):
    arrays = dict(zip(names, (X, Y), strict=True))
    assert refusal(tmp_path, **arrays).hint.endswith("a.npz#train")
    found = open_data([f"{tmp_path / 'a.npz'}#train"], inputs=FLAT, preprocess=Preprocess())
    assert found.labels.tolist() == [0, 1, 2, 3]
    assert "#train" in refusal(tmp_path, key="#test", **arrays).hint


def test_lengths_differ(tmp_path):
    error = refusal(tmp_path, x=X, y=Y[:3])
    assert error.what == "4 samples but 3 labels"


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_empty(tmp_path, save):
    path = tmp_path / "a.npz"
    save(path, x=X[:0], y=Y[:0])
    with pytest.raises(DataError, match="no samples"):
        open_data([str(path)], inputs=FLAT, preprocess=Preprocess())
    assert "are empty" in refusal(tmp_path, x=X[:, :0], y=Y).what


def test_single_numbers_are_no_arrays(tmp_path):
    assert "single number" in refusal(tmp_path, x=np.float32(1), y=Y).what
    assert "shape ()" in refusal(tmp_path, x=X, y=np.int64(1)).what


def test_unknown_kinds_and_empty_folders(tmp_path):
    (tmp_path / "a.mat").touch()
    with pytest.raises(DataError, match=r"`\.mat`"):
        open_data([str(tmp_path / "a.mat")], inputs=FLAT, preprocess=Preprocess())
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no images"):
        open_data([str(tmp_path / "empty")], inputs=FLAT, preprocess=Preprocess())
    with pytest.raises(DataError, match="no samples"):
        open_data([], inputs=FLAT, preprocess=Preprocess())


def test_preprocessing_needs_a_picture_among_several_inputs(tmp_path):
    np.savez(tmp_path / "a.npz", a=X, b=X, y=Y)
    specs = tuple(InputSpec(name, "float32", (None, 2)) for name in "ab")
    with pytest.raises(DataError, match="none of the model's inputs takes images"):
        open_data([str(tmp_path / "a.npz")], inputs=specs, preprocess=Preprocess(pixel_scale=2.0))


def test_preprocessing_goes_to_the_picture_among_several_inputs(tmp_path):
    pictures = np.full((4, 3, 2, 2), 3, np.uint8)
    np.savez(tmp_path / "a.npz", a=X + 1, b=pictures, y=Y)
    specs = (InputSpec("a", "float32", (None, 2)), InputSpec("b", "float32", (None, 3, 2, 2)))
    dataset = open_data([str(tmp_path / "a.npz")], inputs=specs, preprocess=Preprocess(pixel_scale=2.0))
    inputs, _, _ = next(dataset.batches(None, 4))
    assert inputs["a"].max() == 1 and inputs["b"].min() == 6
