"""Positions that fill up a sample: a length or a mask leaves them out."""

from __future__ import annotations

import numpy as np
import pytest

import onnxtweak
from onnxtweak.errors import DataError
from tests.support.at_positions import model_at_positions
from tests.support.labels_at_positions import labels_at_positions


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
