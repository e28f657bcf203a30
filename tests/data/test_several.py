"""Marks of several labels at once: what counts as some, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from onnxtweak.data import InputSpec, open_splits
from onnxtweak.data.several.marks import are_marks, one_each, rarest
from onnxtweak.errors import DataError
from onnxtweak.settings import DataSettings

INPUTS = (InputSpec("x", "float32", (None, 3)),)


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        ([[0, 1], [1, 1]], True),
        ([[0.0, 1.0], [np.nan, -1.0]], True),
        ([[True, False], [True, True]], True),
        ([[0, 2], [1, 1]], False),
        ([[0.5, 0.5]], False),
        ([[1], [0]], False),
        ([0, 1], False),
        ([["a", "b"]], False),
    ],
)
def test_marks_are_rows_of_1_0_and_unknown(raw, found):
    assert are_marks(np.array(raw)) == found


def test_a_row_with_what_is_not_known_is_no_class():
    assert one_each(np.array([[0, 1, 0], [1, 0, 0]]))
    assert not one_each(np.array([[0, 1, -1], [1, 0, 0]]))


def written(path, labels):
    np.savez(path, x=np.random.default_rng(0).normal(size=(len(labels), 3)).astype(np.float32), y=labels)
    return str(path)


def test_splits_have_every_label(tmp_path):
    rng = np.random.default_rng(1)
    labels = (rng.random((200, 5)) < [0.5, 0.3, 0.1, 0.05, 0.03]).astype(np.int8)
    data = DataSettings((written(tmp_path / "d.npz", labels),))
    splits = open_splits(data, INPUTS, several=True)
    for view in splits.views:
        assert view.labels.shape == (len(view), 5) and view.classes.tolist() == [0, 1, 2, 3, 4]
    assert sum(map(len, splits.views)) == 200
    assert rarest(labels).max() <= 5


def test_one_hot_rows_beside_marks_are_marks(tmp_path):
    marks = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1]] * 10, np.int8)
    test = written(tmp_path / "t.npz", np.eye(3, dtype=np.int8))
    data = DataSettings((written(tmp_path / "d.npz", marks),), test=(test,))
    splits = open_splits(data, INPUTS, several=True)
    assert splits.test.labels.tolist() == np.eye(3).tolist()


def test_rows_of_other_lengths_are_refused(tmp_path):
    one = written(tmp_path / "a.npz", np.ones((4, 3), np.int8))
    other = written(tmp_path / "b.npz", np.ones((4, 2), np.int8))
    with pytest.raises(DataError, match="a sample has 2 labels here, and 3 in"):
        open_splits(DataSettings((one, other)), INPUTS, several=True)


def test_marks_that_change_are_other_data(tmp_path):
    marks = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1]] * 10, np.int8)
    digests = []
    for change in (0, -1):
        marks[0, 2] = change
        data = DataSettings((written(tmp_path / "d.npz", marks),))
        digests.append(open_splits(data, INPUTS, several=True).fit.dataset.digest)
    assert digests[0] != digests[1]
