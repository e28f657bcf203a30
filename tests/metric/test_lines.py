"""Error rates of lines of text."""

from __future__ import annotations

import numpy as np
import pytest

from onnxtweak.metric.lines import CHARACTERS, LINES, WORDS, LinesRead, edit_distance


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [
        ("", "", 0),
        ("abc", "", 3),
        ("", "ab", 2),
        ("kitten", "sitting", 3),
        ("O0O0", "0O0O", 2),
        ("flaw", "lawn", 2),
        (["a", "new", "line"], ["a", "line"], 1),
    ],
)
def test_the_distance_is_levenshteins(one, other, distance):
    assert edit_distance(one, other) == edit_distance(other, one) == distance


def test_it_is_the_distance_cell_by_cell():
    rng = np.random.default_rng(0)
    for _ in range(50):
        one, other = ("".join(rng.choice(list("abc"), int(rng.integers(0, 9)))) for _ in range(2))
        row = list(range(len(other) + 1))
        for i, a in enumerate(one, 1):
            corner, row[0] = row[0], i
            for j, b in enumerate(other, 1):
                corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (a != b))
        assert edit_distance(one, other) == row[-1]


def test_rates_are_of_all_characters_together():
    made = LinesRead.of(["abcd", "a b", "ab"], ["abcd", "a", "abab"])
    assert CHARACTERS.value(made) == pytest.approx((0 + 2 + 2) / 9)
    assert WORDS.value(made) == pytest.approx((0 + 1 + 1) / 4)
    assert LINES.value(made) == pytest.approx(1 / 3)
    twice = CHARACTERS.weighed(made)(np.array([[0.0, 2.0, 1.0]]))
    assert twice == pytest.approx((2 * 2 + 2) / (2 * 3 + 2))
    assert (CHARACTERS.sign, WORDS.sign, LINES.sign) == (-1, -1, 1)
