"""Positions drawn by how much they teach: what they stand for is what there is."""

from __future__ import annotations

import numpy as np
import pytest

from onnxtweak.data.dataset import Dataset
from onnxtweak.data.stratified import drawn_marks, thinned


@pytest.mark.parametrize("most", [300, 1000, 4000])
def test_weights_make_up_for_how_positions_were_drawn(most):
    rng = np.random.default_rng(0)
    rows = np.sort(rng.choice(50_000, 10_000, replace=False))
    plain = rng.random(10_000) < 0.8
    hard = ~plain & (rng.random(10_000) < 0.2)
    found = thinned(rows, hard, plain, most, 0)
    assert 0.85 * most <= len(found.rows) <= most and (np.diff(found.rows) > 0).all()
    of = np.searchsorted(rows, found.rows)
    for kind in (plain, hard, ~plain & ~hard):
        assert found.weights[kind[of]].sum() == pytest.approx(kind.sum(), rel=0.15)
    assert np.isin(rows[hard], found.rows).sum() >= min(int(hard.sum()), most // 2)
    judged = of[found.judged]
    alike = hard[judged].mean(), (hard & ~plain).sum() / (~plain).sum() * (~plain[judged]).mean()
    assert alike[0] == pytest.approx(alike[1], abs=0.05)  # hard ones are judged on as often as they occur
    assert np.array_equal(found.weight(found.rows[5:9]), found.weights[5:9])
    assert np.array_equal(found.may_be_judged_on(found.rows[::7]), found.judged[::7])


def test_where_few_are_not_plain_the_plain_ones_fill_up():
    rows = np.arange(1000)
    plain = rows >= 50
    found = thinned(rows, np.zeros(1000, bool), plain, 200, 0)
    assert len(found.rows) == 200 and (found.rows < 50).sum() == 50 and found.judged.all()


def marked(many, positions, likely):
    marks = (np.random.default_rng(0).random((many * positions, len(likely))) < likely).astype(np.int8)
    return Dataset(marks, ("x",), None, (), (), sizes=(positions,)), marks


def test_half_of_the_positions_have_a_rare_label_and_count_for_less():
    data, marks = marked(100, 1000, [0.02, 0.6])
    found = drawn_marks(data, np.arange(100), 4000, 0)
    rare = marks[found.rows, 0] == 1
    assert 3900 <= len(found.rows) <= 4000 and 0.4 < rare.mean() < 0.52
    assert found.weights[rare].mean() < found.weights[~rare].mean()
    shares = [found.weights[marks[found.rows, c] == 1].sum() / found.weights.sum() for c in (0, 1)]
    assert shares == pytest.approx([0.02, 0.6], abs=0.03)
    assert marks[found.rows[found.judged], 0].mean() == pytest.approx(0.02, abs=0.01)


def test_few_positions_are_all_drawn():
    data, _ = marked(10, 50, [0.02, 0.6])
    found = drawn_marks(data, np.arange(10), 4000, 0)
    assert np.array_equal(found.rows, np.arange(500)) and (found.weights == 1).all() and found.judged.all()
