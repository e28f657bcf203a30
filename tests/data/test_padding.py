"""Positions that fill up a sample: a length or a mask leaves them out."""

from __future__ import annotations

import numpy as np
import pytest

import onnxtweak
from onnxtweak.data.preprocess.padding import without_padding
from onnxtweak.data.samples import GroupColumn, MarkedAt, Part, Reading
from onnxtweak.errors import DataError
from tests.support.at_positions import model_at_positions
from tests.support.labels_at_positions import labels_at_positions
from tests.support.several_labels import several_labels


@pytest.mark.parametrize("kind", ["tokens", "pixels"])
@pytest.mark.parametrize("how", ["lengths", "mask", "npz"])
def test_positions_after_the_length_do_not_count(tmp_path, kind, how):
    made = model_at_positions(kind, tmp_path, samples=40)
    rng, T = np.random.default_rng(0), made.labels.shape[1]
    lengths = rng.integers(1, T + 1, len(made.x))
    inside = np.arange(T) < lengths[:, None]
    wanted = made.labels.copy()
    wanted[~inside] = -1
    plain = onnxtweak.evaluate(made.model, data=(made.x, wanted)).metrics
    data = {"x": made.x, "y": made.labels.astype(np.uint8)}
    column = lengths if how != "mask" else inside
    if how == "npz":
        np.savez(tmp_path / "padded.npz", **data, long=column)
    padded = tmp_path / "padded.npz" if how == "npz" else {**data, "long": column}
    found = onnxtweak.evaluate(made.model, data=padded, counted="long").metrics
    assert found.samples == (wanted >= 0).sum() == plain.samples
    assert np.array_equal(found.confusion, plain.confusion)


@pytest.mark.parametrize("kind", ["tokens", "frames", "frame"])
def test_the_same_of_marks_wherever_their_axis_is(tmp_path, kind):
    made = labels_at_positions(kind, tmp_path, samples=60)
    T = made.x.shape[1] if kind != "frames" else made.x.shape[2]
    lengths = np.random.default_rng(0).integers(1, T + 1, len(made.x))
    outside = np.arange(T) >= lengths[:, None]
    wanted = made.labels.copy()
    (np.moveaxis(wanted, 1, -1) if kind == "frames" else wanted)[outside] = -1
    plain = onnxtweak.evaluate(made.model, data=(made.x, wanted)).metrics
    data = {"x": made.x, "y": made.labels, "long": lengths}
    found = onnxtweak.evaluate(made.model, data=data, counted="long").metrics
    assert np.array_equal(found.confusion, plain.confusion)


def test_what_does_not_fit_is_refused(tmp_path):
    made = model_at_positions("tokens", tmp_path, samples=10)
    data = {"x": made.x, "y": made.labels}
    for column, said in (
        (np.full(10, 12), "12 is no number of positions, of which labels have 9"),
        (np.full(10, 1.5), "1.5 is no number of positions"),
        (np.ones((10, 4)), r"a mask of shape \(10, 4\) does not fit labels of shape \(10, 9\)"),
    ):
        with pytest.raises(DataError, match=said):
            onnxtweak.evaluate(made.model, data={**data, "long": column}, counted="long")
    with pytest.raises(DataError, match="`short`"):
        onnxtweak.evaluate(made.model, data=data, counted="short")


def padded(labels, column, several):
    part = Part("d", "d", {}, labels, "y", (), groups={"long": GroupColumn("long", column)})
    return without_padding(part, Reading(counted="long", several=several)).labels


@pytest.mark.parametrize("sizes", [(3, 4), (4, 4)])
@pytest.mark.parametrize("how", ["rows", "mask"])
def test_class_numbers_and_single_marks_have_no_axis_to_move(sizes, how):
    labels, inside = np.ones((2, *sizes), np.int64), np.zeros((2, *sizes), bool)
    inside[:, :2] = True
    column = inside if how == "mask" else np.full(2, 2)
    for channels in (1, 5, None):
        found = padded(labels, column, MarkedAt((None, channels, *sizes), 1))
        assert np.array_equal(found >= 0, inside)
    marks = np.ones((2, 5, *sizes), np.int8)
    assert np.array_equal(padded(marks, column, MarkedAt((None, 5, *sizes), 1))[:, 4] >= 0, inside)


def test_white_of_bytes_stays_what_it_is():
    labels = np.array([[0, 1, 255, 1]], np.uint8)
    assert padded(labels, np.array([3]), False).tolist() == [[0, 1, -1, -1]]
    mask, at = np.array([[0, 255, 0, 255]], np.uint8), MarkedAt((None, 1, 4), 1)
    assert padded(mask, np.array([3]), at).tolist() == [[0, 255, 0, -1]]


@pytest.mark.parametrize("option", [{"ignore_index": 3}, {"counted": "long"}])
def test_labels_of_whole_samples_have_no_positions_to_leave_out(tmp_path, option):
    """They were passed over, or taken for positions: the marks of several labels, one after the other."""
    marked = several_labels("sigmoid", tmp_path, 40)
    long = np.ones(40, np.int64)
    for labels in (marked.labels, marked.labels.argmax(axis=1)):
        data = {"x": marked.x, "y": labels, "long": long}
        with pytest.raises(DataError, match="is about positions of a sample, and these labels are of whole"):
            onnxtweak.evaluate(marked.model, data=data, **option)
