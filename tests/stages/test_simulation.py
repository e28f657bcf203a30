"""Does the simulation check forgive what rounding does to probabilities, and nothing else?"""

import numpy as np
import pytest

from onnxtweak.engine.subject import Subject
from onnxtweak.head import Readout
from onnxtweak.stages.on_samples.simulation_check import check_simulation

LABELS = np.array([0, 1, 2, 0])


def subject(scale: str, columns: int, dtype: str = "float32") -> Subject:
    plain = Readout.plain(columns)
    readout = Readout(columns, plain.source, plain.offset, 1, scale)
    shape = (readout.classes,)
    return Subject(None, "p", dtype, shape, "NC" if columns > 1 else "N1", None, readout=readout)


def test_rows_are_compared_but_for_their_sum_and_what_is_next_to_nothing():
    tables = np.float32([[3, 0, -69], [0, 5, 1], [1, 0, 4], [2, 1, -64]])
    measured = tables - np.float32([[1], [2], [0.5], [3]])
    measured[[0, 3], 2] = -58  # the file holds these as zero
    assert check_simulation(subject("probability", 3), tables, measured, LABELS, tables).passed
    measured[1, 0] += 0.1
    assert not check_simulation(subject("probability", 3), tables, measured, LABELS, tables).passed


@pytest.mark.parametrize(("off", "passed"), [(0.0, True), (0.5, False)])
def test_what_rounding_leaves_of_one_less_a_probability_is_not_compared(off, passed):
    tables = np.float32([[0, 22], [0, -3], [0, 2], [0, 30]])
    measured = np.float32([[0, 16.6], [0, -3 + off], [0, 2], [0, 69]])
    assert (
        check_simulation(subject("odds", 1), tables, measured, np.array([1, 0, 1, 1]), tables).passed
        is passed
    )


def test_what_half_precision_left_of_the_base_is_known_no_better_where_it_is_raised():
    """Five steps of 2**-24 are between 4.5 and 5.5 of them, and so by a tenth more or less once raised."""
    step = 2.0**-24
    base = np.log([[1.0, 5 * step, 1e-3], [1.0, 0.2, 5 * step]])
    tables = np.log([[1.0, 1e-4, 1e-3], [1.0, 0.2, 1e-4]])
    measured = tables + np.array([[0, 0.09, 0], [0, 0, -0.09]])
    labels, half = np.array([0, 0]), subject("probability", 3, "float16")
    assert check_simulation(half, tables, measured, labels, base).passed
    assert not check_simulation(half, tables, measured, labels, tables).passed
    measured[1, 1] += 0.09
    assert not check_simulation(half, tables, measured, labels, base).passed
