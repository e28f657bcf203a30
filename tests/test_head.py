"""What do scores show? Many classes as few, and outputs that are equal but for rounding."""

from __future__ import annotations

import numpy as np
import pytest

from onnxtweak.head import ROUNDING, Answer, Readout
from onnxtweak.patch import Linear, Mlp

SOURCE = (4, 0, 7)
READOUT = Readout(9, SOURCE, (0.0, 0.0, 0.0), rest=True)


def test_the_rest_is_the_highest_of_all_others():
    x = np.random.default_rng(0).normal(0, 1, (50, 9)).astype(np.float32)
    Z = READOUT.scores(x)
    assert READOUT.classes == 4 and Z.shape == (50, 4) and Z.dtype == np.float32
    assert np.array_equal(Z[:, :3], x[:, list(SOURCE)])
    shown = x.argmax(axis=1)
    assert np.array_equal(Z.argmax(axis=1), READOUT.places[shown])
    assert READOUT.places.tolist() == [1, 3, 3, 3, 0, 3, 3, 2, 3]


def test_an_answer_shows_it_as_its_last_class():
    x = np.random.default_rng(1).normal(0, 1, (2, 5, 9)).astype(np.float32)
    answer = Answer("y", "scores", labels=SOURCE, layout="NPC", rest=True)
    shown = x.argmax(axis=2).reshape(-1)
    assert np.array_equal(answer.shown(x), shown)
    assert np.array_equal(answer.classes(x), READOUT.places[shown])
    Z = READOUT.scores(x.reshape(-1, 9))
    assert not answer.contradicts(Z, x, 1e-4).any()
    assert answer.contradicts(Z[::-1], x, 1e-4).any()


def test_its_record_is_read_again():
    assert Readout.read(READOUT.record) == READOUT
    assert "rest" not in Readout(2, (0, 1), (0.0, 0.0)).record
    with pytest.raises(ValueError, match="damaged"):
        Readout.read({**READOUT.record, "source": [], "offset": []})


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_a_patch_may_leave_the_last_class_alone(kind):
    rng = np.random.default_rng(2)
    T, Z = rng.normal(0, 1, (200, 6)).astype(np.float32), rng.normal(0, 1, (200, 4)).astype(np.float32)
    if kind == "linear":
        patch = Linear(rng.normal(0, 1, (6, 4)), rng.normal(0, 1, 4))
    else:
        patch = Mlp(
            rng.normal(0, 1, (6, 5)), rng.normal(0, 1, 5), rng.normal(0, 1, (5, 4)), rng.normal(0, 1, 4)
        )
    same = patch.against_last()
    assert not same.delta(T)[:, 3].any()
    assert np.array_equal(same.applied(Z, T).argmax(axis=1), patch.applied(Z, T).argmax(axis=1))


SCORES = np.array([[16.286009, 17.234472, 2.0]], np.float32)


@pytest.mark.parametrize(
    ("shown", "wrong"),
    [
        # What ONNX Runtime's Sigmoid makes of them: near 1 the larger score has the smaller value.
        (np.array([[0.99999994, 0.9999999, 0.88]], np.float32), False),
        (np.array([[1.0, 1.0, 0.88]], np.float32), False),
        (np.array([[0.99999994, 0.999999, 0.88]], np.float32), True),
        (np.array([[1.0, 1.0, 1.0]], np.float32), True),
        (np.array([[0.2, 0.1, 0.1]], np.float32), True),
        (np.array([[3, 2, 1]]), True),
        (np.array([[1, 2, 0]]), False),
    ],
)
def test_values_that_are_equal_but_for_rounding_contradict_nothing(shown, wrong):
    assert Answer("out", "scores").contradicts(SCORES, shown, ROUNDING["float32"]).tolist() == [wrong]
