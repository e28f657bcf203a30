"""What a file may lose on other samples than those that it was made with."""

from __future__ import annotations

import numpy as np
import pytest

from onnxtweak.stages.on_samples.accuracy_check import _check_similar, _Counts


def test_decisions_on_one_sample_go_wrong_together():
    samples = np.repeat(np.arange(10), 100)
    before, after = np.ones(1000, bool), samples != 3
    alone, together = _Counts.of(before, after), _Counts.of(before, after, samples)
    assert alone.plain == together.plain == [1000, 1000, 0, 100]
    assert alone.variance == pytest.approx(0.1 * 0.9 / 1000)
    assert together.variance == pytest.approx(np.repeat([1.0, 0.0], [1, 9]).var(ddof=1) / 10)
    unharmed = _Counts(4000, 4000, 0, 0)
    assert not _check_similar({"overall": (alone, unharmed, 0.0)}, "positions").passed
    assert _check_similar({"overall": (together, unharmed, 0.0)}, "positions").passed


def test_decisions_that_are_their_own_samples_are_as_before():
    rng = np.random.default_rng(0)
    before, after = rng.random((2, 500)) < 0.8
    each = _Counts.of(before, after, np.arange(500))
    assert each.together == pytest.approx(1, rel=0.01) and each.plain == _Counts.of(before, after).plain
    assert _Counts.of(before, before, np.arange(500)).variance == 0
