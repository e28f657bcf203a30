"""The best path that reads as a text, compared with all paths there are."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from onnxtweak.ctc.alignment import align, over_whole_runs

BLANK = 0


def reads(path):
    return [c for k, c in enumerate(path) if c != BLANK and (k == 0 or path[k - 1] != c)]


def best_of_all(Z, numbers):
    paths = [p for p in product(range(Z.shape[1]), repeat=len(Z)) if reads(p) == list(numbers)]
    score = [sum(Z[place, number] for place, number in enumerate(path)) for path in paths]
    return None if not paths else np.array(paths[int(np.argmax(score))])


@pytest.mark.parametrize("numbers", [[], [1], [2, 1], [1, 1], [1, 2, 1], [2, 2, 1], [1, 1, 1], [1, 2, 2, 1]])
def test_no_path_is_better(numbers):
    rng = np.random.default_rng(len(numbers))
    for _ in range(5):
        Z = rng.normal(0, 2, (6, 3)).astype(np.float32)
        found, best = align(Z, np.array(numbers, np.int64), BLANK), best_of_all(Z.astype(np.float64), numbers)
        assert np.array_equal(found, best)


def test_the_blank_may_be_the_last_class():
    Z = np.random.default_rng(0).normal(0, 1, (5, 3))
    turned = align(Z[:, [2, 0, 1]], np.array([2, 1]), 0)
    assert np.array_equal(align(Z, np.array([1, 0]), 2), (turned + 2) % 3)


@pytest.mark.parametrize(("numbers", "places"), [([1, 1], 2), ([1, 2, 1], 2), ([1, 1, 1], 4)])
def test_a_text_that_does_not_fit_has_no_path(numbers, places):
    assert align(np.zeros((places, 3)), np.array(numbers), BLANK) is None
    assert align(np.zeros((places + 1, 3)), np.array(numbers), BLANK) is not None


@pytest.mark.parametrize(
    ("path", "shown", "found"),
    [
        ([0, 2, 0, 0], [0, 1, 1, 0], [0, 2, 2, 0]),  # what looks like one character is that
        ([0, 2, 0, 0], [0, 0, 0, 0], [0, 2, 0, 0]),  # where nothing is shown nothing is known
        ([2, 0, 3, 0], [1, 1, 1, 1], [2, 0, 3, 0]),  # two characters
        ([2, 0, 2, 0], [1, 1, 2, 0], [2, 0, 2, 0]),  # which would become one
    ],
)
def test_a_character_gets_the_whole_run(path, shown, found):
    assert over_whole_runs(np.array(path), np.array(shown), BLANK).tolist() == found
