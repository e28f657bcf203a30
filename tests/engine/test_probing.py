"""Does what is asked of a tail find out where the highest score does not decide?"""

from __future__ import annotations

import numpy as np
import pytest

from onnxtweak.engine.answer.probing import NotDecided, read_columns
from onnxtweak.head import ROUNDING, Answer

LABEL = Answer("label", "label")
VALUES = np.random.default_rng(0).normal(0, 3, (64, 5))


@pytest.mark.parametrize("steps", [10, 55, 100, 300])
def test_scores_that_are_rounded_before_the_choice_do_not_decide(steps):
    def ask(x):
        return np.floor(x * steps).argmax(axis=1)

    with pytest.raises(NotDecided, match="another class"):
        read_columns(ask, VALUES, LABEL, "logit", ROUNDING["float32"])


def test_rounding_to_float32_is_no_contradiction():
    def ask(x):
        return x.astype(np.float32).argmax(axis=1)

    readout, _ = read_columns(ask, VALUES, LABEL, "logit", ROUNDING["float32"])
    assert readout.is_plain


def test_one_number_may_decide_far_from_where_samples_lie():
    def ask(x):
        return (x[:, 0] > 5000.0).astype(np.int64)

    readout, _ = read_columns(ask, VALUES[:, :1], LABEL, "logit", ROUNDING["float32"])
    assert readout.single
    assert readout.offset[1] == pytest.approx(-5000.0)


@pytest.mark.parametrize("tail", [[0.0, 1.5, -2.0, 0.25, 7.0], [3.0, 3.0, 3.0, 3.0, 3.0]])
def test_what_a_tail_adds_to_each_class_is_found(tail):
    def ask(x):
        return (x + tail).argmax(axis=1)

    readout, _ = read_columns(ask, VALUES, LABEL, "logit", ROUNDING["float32"])
    assert readout.offset == pytest.approx(np.array(tail) - tail[0], abs=1e-5)
    assert readout.source == tuple(range(5)) and readout.sign == 1
