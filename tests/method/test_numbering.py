"""Do numbers that count through all taps mean the right neurons?"""

from __future__ import annotations

import numpy as np

from onnxtweak.method.selection.numbering import drawn_at_random, numbered, numbers_of
from onnxtweak.types import Tap

TAPS = (Tap("a", "Relu", (5,)), Tap("b", "Relu", (3, 4)), Tap("c", "Relu", (7,)))


def test_numbers_and_neurons_are_each_others_inverse():
    numbers = np.array([0, 4, 5, 16, 17, 23])
    neurons = numbered(TAPS, numbers)
    assert neurons.tap_of.tolist() == [0, 0, 1, 1, 2, 2] and neurons.index.tolist() == [0, 4, 0, 11, 0, 6]
    assert np.array_equal(numbers_of(neurons), numbers)


def test_neurons_drawn_at_random_are_distinct_in_order_and_told_by_the_seed():
    drawn = numbers_of(drawn_at_random(TAPS, 9, seed=3))
    assert len(drawn) == 9 and np.all(np.diff(drawn) > 0) and drawn[-1] < 24
    assert np.array_equal(drawn, numbers_of(drawn_at_random(TAPS, 9, seed=3)))
    assert not np.array_equal(drawn, numbers_of(drawn_at_random(TAPS, 9, seed=4)))
    assert len(numbers_of(drawn_at_random(TAPS, 99, seed=3))) == 24
