"""Intervals from counts, against published and limiting cases."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from onnxtweak.intervals import deviations, paired, wilson


@pytest.mark.parametrize(("right", "samples"), [(8, 10), (0, 20), (50, 50), (331, 500)])
def test_wilson_agrees_with_scipy(right, samples):
    theirs = binomtest(right, samples).proportion_ci(method="wilson")
    assert wilson(right, samples) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_paired_is_symmetric_and_covers_the_change():
    low, high = paired(30, 10, 200)
    assert low < 20 / 200 < high
    assert paired(10, 30, 200) == pytest.approx((-high, -low))
    assert low == pytest.approx(0.0375, abs=5e-4)  # Bonett and Price by hand: 20/202 -+ 1.96 * 0.0314


def test_more_samples_tighten_it_and_none_give_nothing():
    narrow, wide = paired(300, 100, 2000), paired(30, 10, 200)
    assert narrow[1] - narrow[0] < wide[1] - wide[0]
    assert wilson(0, 0) is None
    assert paired(0, 0, 0) is None


@pytest.mark.parametrize(("drawn", "wanted"), [(2, 12.706), (3, 4.303), (4, 3.182), (11, 2.228), (31, 2.042)])
def test_an_error_of_few_samples_is_multiplied_by_students_factor(drawn, wanted):
    assert deviations(drawn=drawn) == pytest.approx(wanted * (drawn / (drawn - 1)) ** 0.5, rel=2e-3)
    assert deviations(3, drawn) > deviations(drawn=drawn) > deviations()
    assert deviations(drawn=10**6) == pytest.approx(deviations(), rel=1e-5)
