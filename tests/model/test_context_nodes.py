"""Means over all positions of a sample: read at rows, and added by a patch at every position."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest

from onnxtweak.model.edit.expose import expose
from onnxtweak.model.edit.positions.read_nodes import ROWS
from onnxtweak.model.graph import GraphIndex
from onnxtweak.model.logits_format import LogitsFormat
from onnxtweak.patch import Linear, Mlp
from onnxtweak.types import Neurons
from tests.support.fed_maps import LAYOUTS, made, patched, rows_of, score_rows


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("some", [False, True])
def test_rows_have_the_means_of_their_sample(layout, some):
    model, feeds, neurons = made(layout, 7 if layout == "NPPC" else 17)
    found = expose(GraphIndex(model), "scores", (), neurons, LogitsFormat(layout), None, some)
    wanted = rows_of(feeds, neurons)
    rows = np.array([len(wanted) - 1, 0, 4, 4]) if some else np.arange(len(wanted))
    session = ort.InferenceSession(found.proto.SerializeToString())
    (T,) = session.run(found.outputs, {**feeds, **({ROWS: rows} if some else {})})
    assert np.allclose(T, wanted[rows], atol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("form", ["linear", "alone", "mlp", "mlp-alone"])
def test_a_patch_adds_them_by_broadcasting(layout, form):
    """Beside maps and alone, in each layout, and at sizes that the patch was not made at."""
    _, feeds, neurons = made(layout)
    keep = np.array([0, 1, 3] if "alone" in form else [0, 1, 2, 3])
    of = Neurons(neurons.taps, neurons.tap_of[keep], neurons.index[keep])
    classes, rng = 1 if LAYOUTS[layout][1] is None else 5, np.random.default_rng(1)
    if "mlp" in form:
        shapes = (len(keep), 6), (6,), (6, classes), (classes,)
        patch = Mlp(*(rng.normal(size=shape).astype(np.float32) for shape in shapes))
    else:
        patch = Linear(rng.normal(size=(len(keep), classes)), rng.normal(size=classes))
    new, ops = patched(layout, patch, of, 11 if layout == "NCP" else 18)
    T = rows_of(feeds, neurons)[:, keep].astype(np.float32)
    assert np.allclose(new, patch.applied(score_rows(layout, feeds["z"]), T), atol=1e-5)
    assert ops.count("Tile") == ("alone" in form)  # nothing is laid out at every position but what is added
