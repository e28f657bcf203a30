"""The stream of batches, the digest, and the errors for bad samples."""

import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onnxtweak.data import InputSpec, open_data
from onnxtweak.errors import DataError
from onnxtweak.settings import Preprocess

FLAT = (InputSpec("input", "float32", (None, 2)),)


def opened(*sources, names=None, inputs=FLAT):
    return open_data([str(source) for source in sources], inputs=inputs, preprocess=Preprocess(), names=names)


def save(path, samples, seed=0, compressed=False, labels=None):
    x = np.random.default_rng(seed).normal(size=(samples, 2)).astype(np.float32)
    y = np.arange(samples) % 3 if labels is None else labels
    (np.savez_compressed if compressed else np.savez)(path, x=x, y=y)
    return x, y


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_batches_run_across_parts(tmp_path, data):
    sizes = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    saved = [save(tmp_path / f"{i}.npz", n, i, compressed=i % 2 == 1) for i, n in enumerate(sizes)]
    x, y = (np.concatenate(arrays) for arrays in zip(*saved, strict=True))
    dataset = open_data(
        [str(tmp_path / f"{i}.npz") for i in range(len(sizes))],
        inputs=FLAT,
        preprocess=Preprocess(),
        memory=0,
    )
    rows = np.array(sorted(data.draw(st.sets(st.integers(0, len(x) - 1)))), np.int64)
    for inputs, labels, numbers in dataset.batches(rows, data.draw(st.integers(1, 12))):
        np.testing.assert_array_equal(inputs["input"], x[numbers])
        np.testing.assert_array_equal(labels, y[numbers])
        assert inputs["input"].flags.c_contiguous


@pytest.mark.parametrize("rows", [[3, 1], [1, 1], [-1, 0], [0, 8]])
def test_rows_must_ascend_inside_the_data(tmp_path, rows):
    save(tmp_path / "a.npz", 8)
    with pytest.raises(ValueError, match="ascend"):
        next(opened(tmp_path / "a.npz").batches(np.array(rows), 4))


def test_an_abandoned_pass_leaves_nothing_open(tmp_path):
    save(tmp_path / "a.npz", 8, compressed=True)
    dataset = open_data([str(tmp_path / "a.npz")], inputs=FLAT, preprocess=Preprocess(), memory=0)
    batches = dataset.batches(None, 2)
    next(batches)
    batches.close()  # an open file would warn, and warnings are errors
    assert sum(len(labels) for _, labels, _ in dataset.batches(None, 3)) == 8


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_value_names_its_file_and_row(tmp_path, bad):
    save(tmp_path / "a.npz", 10)
    x, y = save(tmp_path / "b.npz", 10)
    x[7, 1] = x[9, 0] = bad
    np.savez(tmp_path / "b.npz", x=x, y=y)
    dataset = opened(tmp_path / "a.npz", f"{tmp_path / 'b.npz'}#[2:]")
    with pytest.raises(DataError, match="NaN or infinity") as caught:
        list(dataset.batches(np.arange(1, 18, 2), 4))
    assert caught.value.where == f"row 7 of x in {tmp_path / 'b.npz'}"


def test_a_sample_without_a_file_of_its_own_is_a_row(tmp_path):
    save(tmp_path / "a.npz", 4)
    dataset = opened(tmp_path / "a.npz", f"{tmp_path / 'a.npz'}#[2:]")
    assert dataset.place(4) == f"row 2 of x in {tmp_path / 'a.npz'}"


def test_a_value_too_large_for_the_model_is_infinite(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([[1, 2], [1e39, 0]]), y=np.arange(2))
    with pytest.raises(DataError, match="NaN or infinity") as caught:
        list(opened(tmp_path / "a.npz").batches(None, 2))
    assert caught.value.where.startswith("row 1 of x")


def test_digest_follows_contents_rows_and_classes_not_paths(tmp_path):
    save(tmp_path / "a.npz", 8)
    shutil.copy(tmp_path / "a.npz", tmp_path / "copy.npz")
    save(tmp_path / "other.npz", 8, seed=1)
    digest = opened(tmp_path / "a.npz").digest
    assert len(digest) == 64
    assert opened(tmp_path / "copy.npz").digest == digest
    others = [
        opened(tmp_path / "other.npz"),
        opened(f"{tmp_path / 'a.npz'}#[1:]"),
        opened(f"{tmp_path / 'a.npz'}#[:7]"),
        opened(tmp_path / "a.npz", tmp_path / "copy.npz"),
    ]
    assert len({digest, *(other.digest for other in others)}) == 5
    save(tmp_path / "named.npz", 2, labels=np.array(["cat", "dog"]))
    assert (
        opened(tmp_path / "named.npz", names=("cat", "dog")).digest
        != opened(tmp_path / "named.npz", names=("dog", "cat")).digest
    )


def test_description_says_where_from_and_what_is_done(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((5, 64), np.uint8), y=np.arange(5))
    text = opened(tmp_path / "a.npz", inputs=(InputSpec("input", "float32", (None, 64)),)).describe()
    assert text.splitlines()[0] == f"5 samples of 5 classes from {tmp_path / 'a.npz'}"
    assert "`input`: (64,) uint8 -> (64,) float32: cast to float32" in text
    assert "note: the float input `input` gets bytes" in text


def test_bytes_in_the_columns_of_a_table_are_no_unscaled_picture(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((5, 2), np.uint8), y=np.arange(5))
    assert "note: the float input `input` gets bytes" not in opened(tmp_path / "a.npz").describe()


def test_mirrored_samples_are_another_data_set_of_the_same_rows(tmp_path):
    x = np.random.default_rng(0).normal(size=(6, 3, 4, 5)).astype(np.float32)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(6) % 2)
    images = opened(tmp_path / "a.npz", inputs=(InputSpec("input", "float32", (None, 3, 4, 5)),))
    (inputs, labels, _), *_ = images.mirrored.batches(None, 6)
    np.testing.assert_array_equal(inputs["input"], x[..., ::-1])
    np.testing.assert_array_equal(labels, images.labels)
    assert images.mirrored.digest != images.digest  # or a cached table of one were taken for the other's
    save(tmp_path / "b.npz", 6)
    assert opened(tmp_path / "b.npz").mirrored is None
