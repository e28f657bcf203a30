"""Means over all positions of a sample: read at rows, and added by a patch at every position."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto

from onnxtweak.model.edit.expose import expose
from onnxtweak.model.edit.patch_nodes import SpliceSite, build_piece
from onnxtweak.model.edit.positions.position_nodes import ROWS
from onnxtweak.model.graph import GraphIndex
from onnxtweak.model.logits_format import LogitsFormat
from onnxtweak.patch import Linear, Mlp, Tweak
from onnxtweak.types import Neurons, Tap

FLOAT = TensorProto.FLOAT
LAYOUTS = {  # of the scores: their shape for 2 samples of 6 x 8 positions (or 6), and the axis of classes
    "NCPP": ((2, 5, 6, 8), 1),
    "NPPC": ((2, 6, 8, 5), 3),
    "NPP": ((2, 6, 8), None),
    "NPC": ((2, 6, 5), 2),
    "NCP": ((2, 5, 6), 1),
    "NP": ((2, 6), None),
    "N1PC": ((2, 1, 6, 5), 3),
}


def made(layout: str, opset: int = 17):
    """A model that shows scores and two maps as they are fed; taps of them, and values to feed."""
    shape, _ = LAYOUTS[layout]
    places = [size for size, letter in zip(shape, layout, strict=True) if letter == "P"]
    rng = np.random.default_rng(0)
    feeds = {"z": shape, "fine": (2, 4, *places), "other": (2, *(size // 2 for size in places), 3)}
    feeds = {name: rng.normal(size=each).astype(np.float32) for name, each in feeds.items()}
    nodes = [
        onnx.helper.make_node("Identity", [name], [out])
        for name, out in (("z", "scores"), ("fine", "near"), ("other", "far"))
    ]
    inputs = [onnx.helper.make_tensor_value_info(n, FLOAT, [None] * v.ndim) for n, v in feeds.items()]
    outputs = [onnx.helper.make_tensor_value_info("scores", FLOAT, [None] * len(shape))]
    graph = onnx.helper.make_graph(nodes, "g", inputs, outputs)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8)
    near = Tap("near", "Relu", (4, *places), pool="aligned")
    pooled = Tap("near", "Relu", (4, *places), pool="mean")
    last = Tap("far", "Relu", feeds["other"].shape[1:], pool="mean", channel_axis=len(places))
    tap_of, index = np.array([2, 0, 1, 0], np.int32), np.array([2, 3, 1, 0])
    return model, feeds, Neurons((pooled, near, last), tap_of, index)


def rows_of(feeds: dict, neurons: Neurons) -> np.ndarray:
    """What the neurons are at every position, (N * positions, K)."""
    near, far = feeds["fine"], feeds["other"]
    mean = near.reshape(2, 4, -1).mean(-1), far.reshape(2, -1, 3).mean(1)
    same = [mean[1][:, 2], mean[0][:, 3], near[:, 1].reshape(2, -1), mean[0][:, 0]]
    count = near[0, 0].size
    return np.stack([v if v.ndim == 2 else np.repeat(v[:, None], count, 1) for v in same], -1).reshape(-1, 4)


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
    model, feeds, neurons = made(layout, 11 if layout == "NCP" else 18)
    keep = np.array([0, 1, 3] if "alone" in form else [0, 1, 2, 3])
    neurons = Neurons(neurons.taps, neurons.tap_of[keep], neurons.index[keep])
    axis = LAYOUTS[layout][1]
    classes, rng = 1 if axis is None else 5, np.random.default_rng(1)
    if "mlp" in form:
        shapes = (len(keep), 6), (6,), (6, classes), (classes,)
        patch = Mlp(*(rng.normal(size=shape).astype(np.float32) for shape in shapes))
    else:
        patch = Linear(rng.normal(size=(len(keep), classes)), rng.normal(size=classes))
    tweak = Tweak("fit", "", "scores", classes, neurons, patch)
    site = SpliceSite("scores", "new", LogitsFormat(layout), model.opset_import[0].version, "p/")
    piece = build_piece(tweak, site)
    model.graph.node.extend(piece.nodes)
    model.graph.initializer.extend(piece.initializers)
    model.graph.output.append(onnx.ValueInfoProto(name="new"))
    (new,) = ort.InferenceSession(model.SerializeToString()).run(["new"], feeds)
    wide = feeds["z"][..., None] if axis is None else np.moveaxis(feeds["z"], axis, -1)
    wanted = patch.applied(wide.reshape(-1, classes), rows_of(feeds, neurons)[:, keep].astype(np.float32))
    wanted = wanted.reshape(wide.shape)
    wanted = wanted[..., 0] if axis is None else np.moveaxis(wanted, -1, axis)
    assert new.shape == feeds["z"].shape and np.allclose(new, wanted, atol=1e-5)
    ops = [node.op_type for node in piece.nodes]
    assert ops.count("Tile") == ("alone" in form)  # nothing is laid out at every position but what is added
