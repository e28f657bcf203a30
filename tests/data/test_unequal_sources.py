"""Samples of different sizes from every source that may hold them: each comes out as it was put in."""

from __future__ import annotations

import numpy as np
import pytest

from onnxtweak.api.samples import sources_of
from onnxtweak.data import InputSpec
from onnxtweak.data.open_data import read_sources
from onnxtweak.data.samples import Reading
from onnxtweak.errors import DataError
from onnxtweak.settings import Preprocess
from tests.support.unequal import objects

PIXELS = (InputSpec("picture", "float32", (None, 3, None, None)),)
FRAMES = (InputSpec("x", "float32", (None, None, 2), positions=True),)
RNG = np.random.default_rng(0)
SIZES = [(4, 6), (4, 6), (8, 6), (4, 6), (5, 3)]
XS = [RNG.normal(size=(3, *size)).astype(np.float32) for size in SIZES]
YS = [RNG.integers(0, 5, size).astype(np.uint8) for size in SIZES]


def opened(samples, inputs=PIXELS, **reading):
    return read_sources(sources_of(samples, "data"), inputs, Reading(Preprocess(), **reading))


def seen(dataset):
    """All samples in their order, and their labels."""
    (name,) = dataset.inputs
    xs = [x for feeds, _, _ in dataset.batches(None, 4) for x in feeds[name]]
    rows = dataset.pending.reshape(len(dataset), -1)
    counts = np.repeat(dataset.own, [len(part) for part in dataset.parts])
    return xs, [row[:count] for row, count in zip(rows, counts, strict=True)]


def numbered(folder, save, **more):
    path = folder / "numbered.npz"
    each = {f"x_{k}": x for k, x in enumerate(XS)} | {f"y_{k}": y for k, y in enumerate(YS)}
    save(path, **each, **more)
    return path


def of_npy(folder):
    np.save(folder / "x.npy", objects(XS), allow_pickle=True)
    np.save(folder / "y.npy", objects(YS), allow_pickle=True)
    return folder / "x.npy"


def one_a_file(folder):
    for k, (x, y) in enumerate(zip(XS, YS, strict=True)):
        np.savez(folder / f"s{k}.npz", x=x, y=y)
    return folder


FORMS = {
    "lists": lambda folder: (XS, YS),
    "pairs": lambda folder: [*zip(XS, YS, strict=True)],
    "pairs of lists": lambda folder: [(x.tolist(), y.tolist()) for x, y in zip(XS, YS, strict=True)],
    "batches": lambda folder: ((x[None], y[None]) for x, y in zip(XS, YS, strict=True)),
    "single samples": lambda folder: zip(XS, YS, strict=True),
    "mappings": lambda folder: ({"x": x, "y": y} for x, y in zip(XS, YS, strict=True)),
    "lists in batches": lambda folder: iter([(XS[:3], YS[:3]), (XS[3:], YS[3:])]),
    "numbered": lambda folder: numbered(folder, np.savez),
    "numbered and compressed": lambda folder: numbered(folder, np.savez_compressed),
    "objects in .npz": lambda folder: (
        np.savez(folder / "o.npz", x=objects(XS), y=objects(YS)),
        folder / "o.npz",
    )[1],
    "objects in .npy": of_npy,
    "a file each": one_a_file,
}


@pytest.mark.parametrize("form", FORMS)
def test_samples_come_out_as_they_were_put_in(form, tmp_path):
    found = opened(FORMS[form](tmp_path))
    xs, ys = seen(found)
    assert all(np.array_equal(*pair) for pair in zip(xs, XS, strict=True))
    assert all(np.array_equal(row, y.ravel()) for row, y in zip(ys, YS, strict=True))
    assert len(found.digest) == 64


def test_single_sequences_are_no_batches_of_numbers():
    tokens = (InputSpec("ids", "int64", (None, None), positions=True),)
    ids = [np.arange(3), np.arange(5), np.arange(4)]
    for inputs, xs in ((tokens, ids), (FRAMES, [np.stack([one, one], 1).astype(np.float32) for one in ids])):
        for samples in ([*zip(xs, ids, strict=True)], zip(xs, ids, strict=True)):
            back, labels = seen(opened(samples, inputs))
            assert all(np.array_equal(*pair) for pair in zip(back, xs, strict=True))
            assert all(np.array_equal(*pair) for pair in zip(labels, ids, strict=True))
    whole = (InputSpec("x", "float32", (None, None, 2)),)  # a class for each sample, of length 1
    assert opened((np.ones((4, 2), np.float32), np.arange(4)), whole).parts[0].columns["x"].shape == (4, 2)


def test_single_samples_with_a_class_each_and_a_group():
    flat = (InputSpec("x", "float32", (None, 2)),)
    each = ({"x": np.full(2, k, np.float32), "y": k % 3, "site": "pq"[k % 2]} for k in range(6))
    found = opened(each, flat, groups=("site",))
    assert len(found.parts) == 1 and found.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert found.groups["site"].names == ("p", "q")
    three = np.zeros((3, 8, 8), np.float32)  # gray pictures, not one of three channels
    with pytest.raises(DataError, match="set color to RGB"):
        opened((three, np.arange(3)))


def test_what_has_no_number_is_of_all(tmp_path):
    path = tmp_path / "n.npz"
    each = {f"x_{k:02}": x for k, x in enumerate(XS)}
    np.savez(
        path, **each, y=np.array(["a", "b", "a", "c", "b"]), site=np.arange(5) // 2, classes=["a", "b", "c"]
    )
    found = opened(str(path), groups=("site",))
    assert found.classes == ("a", "b", "c") and found.labels.tolist() == [0, 1, 0, 2, 1]
    assert found.groups["site"].names == ("0", "1", "2")
    assert "numbered arrays are read in the order of their numbers, of 5" in found.notes
    np.savez(path, **each)
    assert len(opened(str(path), unlabelled=True)) == 5
    np.savez(path, **each, y=np.arange(4))
    with pytest.raises(DataError, match="4 rows, but arrays of 5 numbers"):
        opened(str(path))
    np.savez(path, **each, **{f"y_{k:02}": y for k, y in enumerate(YS[:4])})
    with pytest.raises(DataError, match="no labels; found `x`") as raised:
        opened(str(path))
    assert raised.value.where == f"{path}#04"


def test_numbered_batches_are_shards_and_a_key_chooses_one(tmp_path):
    path = tmp_path / "n.npz"
    x, y = np.arange(24, dtype=np.float32).reshape(6, 2, 2), np.arange(12).reshape(6, 2)
    np.savez(path, x_0=x[:4], y_0=y[:4], x_1=x[4:], y_1=y[4:])
    assert np.array_equal(opened(str(path), FRAMES).labels, y.ravel())
    assert len(opened(f"{path}#1", FRAMES)) == 2 and len(opened(f"{path}#[3:5]", FRAMES)) == 2


def test_numbered_arrays_that_are_damaged_or_too_large_are_refused(tmp_path):
    path = numbered(tmp_path, np.savez_compressed)
    with pytest.raises(DataError, match="take more than") as raised:
        large = {f"x_{k}": np.zeros((3, 300, 300 + k), np.float32) for k in range(3)}
        np.savez_compressed(path, **large, y=np.arange(3))
        opened(str(path), memory=1 << 20)
    assert "numpy.savez" in raised.value.hint
    path = numbered(tmp_path, np.savez)
    whole = bytearray(path.read_bytes())
    whole[whole.index(XS[2].tobytes()) + 4] ^= 1
    path.write_bytes(whole)
    with pytest.raises(DataError, match="damaged"):
        opened(str(path))


def test_objects_that_are_no_arrays_are_refused_in_npy_too(tmp_path):
    np.save(tmp_path / "x.npy", objects([{}, *XS[1:]]), allow_pickle=True)
    np.save(tmp_path / "y.npy", objects(YS), allow_pickle=True)
    with pytest.raises(DataError, match="contains Python objects"):
        opened(str(tmp_path / "x.npy"))


def test_labels_beside_a_batch_of_lists_are_counted():
    with pytest.raises(DataError, match="5 samples but 4 labels"):
        opened(iter([(XS, YS[:4])]))
