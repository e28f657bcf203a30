"""What the inputs of a whole file take: samples along their axis, constants, and fillers for all others."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from onnxtweak.engine.feeding import Feeding, constant_input
from onnxtweak.engine.session import Port
from onnxtweak.errors import UsageError

ROWS = np.arange(24, dtype=np.float32).reshape(4, 2, 3)


def test_inputs_that_the_logits_do_not_need_are_filled():
    """With ones, which may be divided by and are no path to the end of a list, and with empty text."""
    scale = constant_input(Port("scale", "float16", ()), None, 2, ())
    feeding = Feeding({"x": 1, "late": 1, "once": None}, {"scale": scale})
    ports = [
        Port("x", "float32", (2, None, 3)),
        Port("scale", "float16", ()),
        Port("text", "object", (None, 1)),
        Port("mask", "bool", (None, 5)),
        Port("late", "int64", (3, None)),
        Port("once", "float64", (2, 2)),
        Port("half", "bfloat16", (None,)),
        Port("list", None, ()),
    ]
    made = feeding.filled(SimpleNamespace(inputs=ports), {"x": ROWS})
    assert set(made) == {"x", "scale", "text", "mask", "late", "once"}
    np.testing.assert_array_equal(made["x"], ROWS.transpose(1, 0, 2))
    assert made["x"].flags.c_contiguous
    assert made["scale"] == 2 and made["scale"].dtype == np.float16 and made["scale"].shape == ()
    assert made["text"].tolist() == [[""]] * 4
    for name, shape, dtype in (
        ("mask", (4, 5), bool),
        ("late", (3, 4), np.int64),
        ("once", (2, 2), np.float64),
    ):
        assert made[name].shape == shape and made[name].dtype == dtype and (made[name] == 1).all()


def test_an_input_without_an_axis_is_fed_as_it_is():
    fed = Feeding({"x": 2}).fed({"x": ROWS, "y": ROWS, "z": ROWS}, ["x", "y"])
    assert set(fed) == {"x", "y"} and fed["y"] is ROWS
    np.testing.assert_array_equal(fed["x"], np.moveaxis(ROWS, 0, 2))


@pytest.mark.parametrize(("dtype", "value"), [("int64", 0.5), ("uint8", 256), ("int64", "on"), ("uint8", -1)])
def test_a_constant_has_to_fit_its_input(dtype, value):
    with pytest.raises(UsageError, match=f"takes {dtype}, which cannot hold {value}"):
        constant_input(Port("x", dtype, (None,)), 0, value, ("n",))


def test_a_constant_fills_an_input_whose_sizes_are_known():
    port = Port("x", "float32", (None, None))
    with pytest.raises(UsageError, match=r"size of axis 1 \(width\) is not known"):
        constant_input(port, 0, 1, ("n", "width"))
    found = constant_input(port, 1, 0.5, (2, "n"))
    assert found.array(3).shape == (1, 3) and (found.array(3) == 0.5).all()
