"""Rows made by several threads are the same for every source; the first bad row is the one that is named."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from onnxtweak.data.open_data import open_data
from onnxtweak.data.preprocess import parallel_rows
from onnxtweak.data.samples import InputSpec
from onnxtweak.errors import DataError
from onnxtweak.settings import Preprocess

SPEC = InputSpec("x", "float32", (None, 3, 8, 8))


@pytest.fixture(autouse=True)
def small_batches_are_worth_it(monkeypatch):
    monkeypatch.setattr(parallel_rows, "_WORTH_THREADS", 1)


def pixels(n):
    return np.random.default_rng(0).integers(0, 256, (n, 8, 8, 3), np.uint8)


def stored(folder, kind, n=50):
    """Where samples lie, and how many are expected of them."""
    x, y = pixels(n), np.arange(n) % 4
    if kind == "folder":
        image = pytest.importorskip("PIL.Image")
        for i, picture in enumerate(x):
            path = folder / "root" / str(y[i]) / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.fromarray(picture).save(path)
        return str(folder / "root")
    path = folder / f"{kind}.npz"
    {"npz": np.savez, "compressed": np.savez_compressed}[kind](path, x=x, y=y)
    return str(path)


@pytest.mark.parametrize("kind", ["npz", "compressed", "folder"])
@pytest.mark.parametrize("threads", [2, 5])
def test_batches_are_the_same(tmp_path, kind, threads):
    options = Preprocess(pixel_scale=1 / 255, mean=(0.5,), resize=(8, 8) if kind == "folder" else None)
    data = open_data([stored(tmp_path, kind)], inputs=(SPEC,), preprocess=options)
    rows = np.r_[0:9, 11:50]
    expected = list(data.batches(rows, 20, every=30))
    made = list(data.batches(rows, 20, every=30, threads=threads))
    assert [len(labels) for _, labels, _ in made] == [20, 10, 18]
    for (feeds, *rest), (feeds2, *rest2) in zip(made, expected, strict=True):
        assert feeds["x"].flags.c_contiguous and feeds["x"].dtype == np.float32
        for a, b in zip([feeds["x"], *rest], [feeds2["x"], *rest2], strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_first_bad_row_is_named(tmp_path):
    x = np.zeros((64, 5), np.float32)
    x[[21, 40, 63]] = np.nan
    np.savez(tmp_path / "t.npz", x=x, y=np.zeros(64, np.int64))
    data = open_data(
        [str(tmp_path / "t.npz")], inputs=(InputSpec("x", "float32", (None, 5)),), preprocess=Preprocess()
    )
    for threads in (1, 4):
        with pytest.raises(DataError, match="row 21 of"):
            list(data.batches(None, 64, threads=threads))


def test_every_row_is_made_once_and_in_its_place():
    calls = []

    def make(first, last):
        calls.append((first, last))
        return np.arange(first, last)[:, None] * 2

    with ThreadPoolExecutor(3) as pool:
        whole = parallel_rows.rows_in_parallel(make, 100, 8, pool, 3)
    np.testing.assert_array_equal(whole[:, 0], np.arange(100) * 2)
    calls.sort()
    assert calls[0][0] == 0 and calls[-1][1] == 100 and len(calls) == 6
    assert all(end == begin for (_, end), (begin, _) in zip(calls, calls[1:], strict=False))
