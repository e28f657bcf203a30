"""Sums and maxima over the few numbers of a row: NumPy's own, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest

from onnxtweak.engine.machine import narrow_rows
from onnxtweak.engine.machine.narrow_rows import row_max, row_sums, sum_of_rows


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_rows_are_reduced_as_numpy_does_it(kind, monkeypatch):
    rng = np.random.default_rng(0)
    monkeypatch.setattr(narrow_rows, "LIGHT", 500)  # so that some arrays are gone through in parts
    for columns in (*range(1, 30), 130):
        for rows in (0, 1, 40, 500):
            values = rng.normal(size=(rows, columns)) * 10.0 ** rng.uniform(-5, 5, (rows, columns))
            for array in (values.astype(kind), np.asfortranarray(values, kind), values.astype(kind)[:, ::-1]):
                assert row_sums(array).tobytes() == array.sum(axis=1).tobytes()
                assert row_max(array).tobytes() == array.max(axis=1).tobytes()
                assert sum_of_rows(array).tobytes() == array.sum(axis=0, dtype=np.float64).tobytes()


def test_what_is_no_number_stays():
    odd = np.array([[1, np.nan, 2], [np.inf, 1, -np.inf], [-np.inf] * 3, [-0.0] * 3], np.float32)
    with np.errstate(invalid="ignore"):
        assert np.array_equal(row_sums(odd), odd.sum(axis=1), equal_nan=True)
    assert np.array_equal(row_max(odd), odd.max(axis=1), equal_nan=True)
    assert row_sums(np.array([[1, 2], [3, 4]])).tolist() == [3, 7]
