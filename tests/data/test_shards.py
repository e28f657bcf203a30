"""Memory-mapped .npy pairs, and folders of .npy or .npz shards."""

import os

import numpy as np
import pytest

from onnxtweak.data import InputSpec, open_data
from onnxtweak.data.sources.npy import MappedColumn
from onnxtweak.errors import DataError
from onnxtweak.settings import Preprocess

FLAT = (InputSpec("input", "float32", (None, 3)),)
X = np.arange(36, dtype=np.float32).reshape(12, 3)
Y = np.arange(12) % 2


def opened(source, inputs=FLAT):
    return open_data([str(source)], inputs=inputs, preprocess=Preprocess())


def read(dataset, rows=None, size=5):
    return np.concatenate([inputs["input"] for inputs, _, _ in dataset.batches(rows, size)])


@pytest.mark.parametrize(
    ("samples", "labels"),
    [
        ("x", "y"),
        ("x", "labels"),
        ("cifar_x", "cifar_y"),
        ("x_train", "y_train"),
        ("images", "labels"),
        ("train-images", "train-labels"),
        ("input", "y"),
        ("letters", "letters_y"),
    ],
)
def test_labels_are_found_beside_the_samples(tmp_path, samples, labels):
    np.save(tmp_path / f"{samples}.npy", X)
    np.save(tmp_path / f"{labels}.npy", Y)
    dataset = opened(tmp_path / f"{samples}.npy")
    assert isinstance(dataset.parts[0].columns["input"], MappedColumn)
    np.testing.assert_array_equal(dataset.labels, Y)
    np.testing.assert_array_equal(read(dataset, np.array([0, 1, 4, 11])), X[[0, 1, 4, 11]])


def test_pages_are_let_go_and_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr("onnxtweak.data.sources.npy._RELEASE_AFTER", 0)
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", Y)
    dataset = opened(tmp_path / "x.npy")
    np.testing.assert_array_equal(read(dataset), X)
    np.testing.assert_array_equal(read(dataset, size=1), X)


def test_no_labels_beside_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(DataError, match="no labels") as caught:
        opened(tmp_path / "x.npy")
    assert caught.value.hint.endswith("y.npy")


def test_a_file_cut_short_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", Y)
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:-1])
    with pytest.raises(DataError, match="truncated"):
        opened(tmp_path / "x.npy")


def test_a_key_on_a_single_array_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(DataError, match="no keys"):
        opened(f"{tmp_path / 'x.npy'}#train")


def test_a_model_of_two_inputs_needs_a_folder(tmp_path):
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(DataError, match="2 inputs"):
        opened(tmp_path / "x.npy", (*FLAT, InputSpec("b", "float32", (None, 3))))


def save_shards(folder, names=("000", "001", "010"), samples="x", labels="y"):
    for name, low in zip(names, range(0, 12, 4), strict=True):
        np.save(folder / f"{samples}-{name}.npy", X[low : low + 4])
        np.save(folder / f"{labels}-{name}.npy", Y[low : low + 4])


def test_numbered_npy_shards_follow_each_other(tmp_path):
    save_shards(tmp_path, ("1", "2", "10"))
    np.save(tmp_path / "classes.npy", np.array(["even", "odd"]))
    dataset = opened(tmp_path)
    assert len(dataset.parts) == 3
    assert dataset.classes == ("even", "odd")
    np.testing.assert_array_equal(read(dataset), X)
    np.testing.assert_array_equal(dataset.labels, Y)
    cut = opened(f"{tmp_path}#[3:9]")
    np.testing.assert_array_equal(read(cut, np.array([0, 1, 5])), X[[3, 4, 8]])


def test_train_and_test_in_one_folder_never_mix(tmp_path):
    for part, rows in (("train", slice(0, 8)), ("test", slice(8, 12))):
        np.save(tmp_path / f"x_{part}.npy", X[rows])
        np.save(tmp_path / f"y_{part}.npy", Y[rows])
    with pytest.raises(DataError) as caught:
        opened(tmp_path)
    assert "#train" in caught.value.hint and "#test" in caught.value.hint
    np.testing.assert_array_equal(read(opened(f"{tmp_path}#test")), X[8:])


def test_a_key_may_be_a_folder(tmp_path):
    (tmp_path / "val").mkdir()
    save_shards(tmp_path / "val")
    np.testing.assert_array_equal(read(opened(f"{tmp_path}#val")), X)


def test_inputs_by_tensor_name(tmp_path):
    np.save(tmp_path / "input_1.npy", X)
    np.save(tmp_path / "input_2.npy", X[:, :1])
    np.save(tmp_path / "labels.npy", Y)
    specs = (InputSpec("input_1", "float32", (None, 3)), InputSpec("input_2", "float32", (None, 1)))
    inputs, _, _ = next(opened(tmp_path, specs).batches(None, 12))
    np.testing.assert_array_equal(inputs["input_1"], X)
    np.testing.assert_array_equal(inputs["input_2"], X[:, :1])


def test_a_shard_without_labels_is_refused(tmp_path):
    save_shards(tmp_path)
    (tmp_path / "y-001.npy").unlink()
    with pytest.raises(DataError, match=r"no labels.*shard 001"):
        opened(tmp_path)


def test_npz_shards_follow_each_other(tmp_path):
    for number, low in ((2, 0), (10, 4)):
        np.savez_compressed(tmp_path / f"part{number}.npz", x_a=X[low : low + 4], y_a=Y[low : low + 4])
    dataset = opened(f"{tmp_path}#a")
    np.testing.assert_array_equal(read(dataset, size=3), X[:8])


def test_a_folder_of_both_kinds_is_refused(tmp_path):
    save_shards(tmp_path)
    np.savez(tmp_path / "a.npz", x=X, y=Y)
    with pytest.raises(DataError, match=r"\.npz and \.npy"):
        opened(tmp_path)


def test_shards_of_different_shapes_are_never_in_one_batch(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, y=Y)
    np.savez(tmp_path / "b.npz", x=X[:, :2], y=Y)
    dataset = opened(tmp_path, (InputSpec("input", "float32", (None, None)),))
    found = [inputs["input"] for inputs, _, _ in dataset.batches(None, 2 * len(X))]
    assert np.array_equal(found[0], X) and np.array_equal(found[1], X[:, :2]) and len(found) == 2
    every = np.arange(2 * len(X))
    assert dataset.by_part.unequal
    assert np.array_equal(dataset.by_part.largest_of(every), every[: len(X)])
    assert np.array_equal(dataset.by_part.smallest_of(every), every[len(X) :])


@pytest.mark.skipif(os.name == "nt", reason="pipes with names")
@pytest.mark.parametrize("kind", ["npz", "npy"])
@pytest.mark.parametrize("instead", ["a pipe", "a device"])
def test_a_shard_that_is_no_file_is_not_waited_for(tmp_path, kind, instead):
    for number in range(2):
        if kind == "npz":
            np.savez(tmp_path / f"{number}.npz", x=np.ones((4, 2), np.float32), y=np.arange(4))
        else:
            np.save(tmp_path / f"x-{number}.npy", np.ones((4, 2), np.float32))
            np.save(tmp_path / f"y-{number}.npy", np.arange(4))
    path = tmp_path / ("1.npz" if kind == "npz" else "y-1.npy")
    path.unlink()
    if instead == "a pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    inputs = (InputSpec("x", "float32", (None, 2)),)
    with pytest.raises(DataError, match="not a regular file"):
        open_data([str(tmp_path)], inputs=inputs, preprocess=Preprocess())
