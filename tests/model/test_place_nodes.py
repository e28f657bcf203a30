"""Where a row is on each axis of positions, and weights of each place's own."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest

from onnxtweak.model.edit.expose import expose
from onnxtweak.model.edit.positions.read_nodes import ROWS
from onnxtweak.model.graph import GraphIndex
from onnxtweak.model.logits_format import LogitsFormat
from onnxtweak.patch import ByPlace, Linear, Mlp
from onnxtweak.types import Neurons, Tap
from tests.support.fed_maps import LAYOUTS, made, patched, rows_of, score_rows


def with_place(layout: str, axis: int):
    """The neurons of `made` and the place on an axis of positions; their values at all rows."""
    model, feeds, neurons = made(layout)
    sizes = [size for size, letter in zip(LAYOUTS[layout][0], layout, strict=True) if letter == "P"]
    tap = Tap("scores", "", (len(sizes), *sizes), pool="place")
    both = Neurons(
        (*neurons.taps, tap), np.append(neurons.tap_of, 3).astype(np.int32), np.append(neurons.index, axis)
    )
    place = np.broadcast_to(np.indices(sizes)[axis], (2, *sizes)).reshape(-1, 1)
    return model, feeds, both, np.hstack([rows_of(feeds, neurons), place]).astype(np.float32), sizes[axis]


@pytest.mark.parametrize(("layout", "axis"), [("NCPP", 0), ("NPPC", 1), ("NPC", 0), ("NP", 0), ("N1PC", 0)])
@pytest.mark.parametrize("some", [False, True])
def test_rows_say_where_they_are(layout, axis, some):
    model, feeds, neurons, wanted, _ = with_place(layout, axis)
    found = expose(GraphIndex(model), "scores", (), neurons, LogitsFormat(layout), None, some)
    rows = np.array([len(wanted) - 1, 0, 4, 4]) if some else np.arange(len(wanted))
    session = ort.InferenceSession(found.proto.SerializeToString())
    (T,) = session.run(found.outputs, {**feeds, **({ROWS: rows} if some else {})})
    assert np.allclose(T, wanted[rows], atol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("form", ["linear", "mlp"])
@pytest.mark.parametrize("opset", [11, 18])
def test_each_place_adds_its_own(layout, form, opset):
    """To what all share, in each layout, in every sample; at no strength it is the base to the last bit."""
    axis = layout.count("P") - 1
    _, feeds, neurons, T, places = with_place(layout, axis)
    classes, rng = 1 if LAYOUTS[layout][1] is None else 5, np.random.default_rng(1)
    shared = Linear(rng.normal(size=(4, classes)), rng.normal(size=classes))
    if form == "mlp":
        shared = Mlp(*(rng.normal(size=shape) for shape in ((4, 6), (6,), (6, classes), (classes,))))
    own = rng.normal(size=(places, 4, classes)) * np.array([0, 0, 1, 0])[:, None]  # of the map there
    if classes > 1:
        own[:, :, 3] = 0
    patch = ByPlace.of(shared, own, rng.normal(size=(places, classes)))
    new, ops = patched(layout, patch, neurons, opset)
    Z = score_rows(layout, feeds["z"])
    assert np.allclose(new, patch.applied(Z, T), atol=1e-5)
    assert ops.count("Mul") == (1 if classes == 1 else 4)
    place, common = T[:, 4].astype(int), shared.bias if form == "linear" else shared.b2
    wanted = shared.applied(Z, T[:, :4]) + (patch.bias - common)[place] + T[:, 2:3] * own[place, 2]
    assert np.allclose(new, wanted, atol=1e-5)
    assert np.array_equal(patched(layout, patch.scaled(0.0), neurons, opset)[0], Z)
