"""Arrays of Python objects are refused in words that help, and nothing in them is carried out."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest

from onnxtweak.data import InputSpec, open_data
from onnxtweak.errors import DataError
from onnxtweak.settings import Preprocess


def objects(*rows) -> np.ndarray:
    array = np.empty(len(rows), object)
    array[:] = rows
    return array


def refused(path) -> DataError:
    specs = (InputSpec("input", "float32", (None, 3)),)
    with pytest.raises(DataError) as raised:
        open_data([str(path)], inputs=specs, preprocess=Preprocess())
    return raised.value


@pytest.mark.parametrize(
    ("x", "what", "hint"),
    [
        (
            objects(np.arange(3), np.arange(4.0), np.arange(2)),
            "3 in row 0; 4 in row 1; 2 in row 2",
            "to (4,)",
        ),
        (objects([1, 2], [3], [4, 5]), "2 in row 0 and 1 more; 1 in row 1", "pad every sample to (2,)"),
        (
            objects(np.zeros((8, 3), "f4"), np.zeros((5, 3), "f4"), np.zeros((8, 3), "f4")),
            "(8, 3) in row 0 and 1 more; (5, 3) in row 1",
            "pad every sample to (8, 3)",
        ),
        (
            objects(np.zeros(3), np.zeros((2, 2)), [0, 1]),
            "3 in row 0; (2, 2) in row 1; 2 in row 2",
            "same shape",
        ),
        (objects("ab", "c", "d"), "holds text as Python objects", "array.astype(str)"),
        (objects(1, 2.5, None), "contains Python objects", "array.astype('float32')"),
        (objects({}, [1], np.zeros(2)), "contains Python objects", "array.astype('float32')"),
    ],
)
def test_what_they_hold_is_said(tmp_path, x, what, hint):
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(len(x)))
    error = refused(tmp_path / "a.npz")
    assert what in error.what and hint in error.hint
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", np.arange(len(x)))
    assert what in refused(tmp_path / "x.npy").what


def test_equal_rows_want_only_to_be_stacked(tmp_path):
    x = np.empty(2, object)
    x[0], x[1] = np.zeros(3), np.ones(3)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(2))
    assert "numpy.stack" in refused(tmp_path / "a.npz").hint


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def test_nothing_in_them_is_carried_out(tmp_path):
    stream = io.BytesIO()
    np.save(stream, objects(Hostile(tmp_path / "made"), 1), allow_pickle=True)
    (tmp_path / "x.npy").write_bytes(stream.getvalue())
    np.save(tmp_path / "y.npy", np.arange(2))
    assert "could run code" in refused(tmp_path / "x.npy").what
    assert not (tmp_path / "made").exists()
    (tmp_path / "x.npy").write_bytes(stream.getvalue()[:-4])
    assert "could run code" in refused(tmp_path / "x.npy").what
