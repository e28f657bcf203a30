"""Scores and maps at positions as rows, against plain NumPy."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from onnxtweak.errors import ModelError
from onnxtweak.model.edit.expose import expose
from onnxtweak.model.edit.piece_builder import Builder
from onnxtweak.model.edit.positions.read_nodes import ROWS, way_at_positions
from onnxtweak.model.graph import GraphIndex
from onnxtweak.model.logits_format import LogitsFormat, class_axis_of, layout_of
from onnxtweak.patch import Linear, Mlp
from onnxtweak.types import Neurons, Tap
from tests.support.fed_maps import made, patched, score_rows
from tests.support.nets import NetBuilder
from tests.support.plain_session import plain_session

FLOAT = TensorProto.FLOAT


def resized(h: np.ndarray, size: int, axis: int) -> np.ndarray:
    """Linear interpolation between half-pixel centres along one axis, edges repeated."""
    own = h.shape[axis]
    at = np.clip((np.arange(size) + 0.5) * own / size - 0.5, 0, own - 1)
    low = np.floor(at).astype(int)
    high, part = np.minimum(low + 1, own - 1), at - low
    shape = [1] * h.ndim
    shape[axis] = size
    part = part.reshape(shape)
    return np.take(h, low, axis) * (1 - part) + np.take(h, high, axis) * part


def pixels(opset: int = 17) -> onnx.ModelProto:
    net = NetBuilder(opset)
    fine = net.op("Relu", net.conv("x", (3, 4)), name="fine")
    net.op("Relu", net.conv(fine, (4, 6), stride=2), name="coarse")
    net.op("Transpose", net.conv(fine, (4, 5), kernel=1), perm=[0, 2, 3, 1], name="scores")
    any_shape = [None] * 4
    return net.model(
        {"x": (FLOAT, ["N", 3, 6, 8])}, {"scores": (FLOAT, any_shape), "coarse": (FLOAT, any_shape)}
    )


def run(proto: onnx.ModelProto, feeds: dict, outputs=None) -> list[np.ndarray]:
    return plain_session(proto.SerializeToString()).run(outputs, feeds)


@pytest.mark.parametrize("opset", [11, 13, 17])
@pytest.mark.parametrize("some", [False, True])
def test_rows_are_positions(opset, some):
    proto, x = pixels(opset), np.random.default_rng(0).normal(size=(2, 3, 6, 8)).astype(np.float32)
    taps = (
        Tap("fine", "Relu", (4, 6, 8), pool="aligned"),
        Tap("coarse", "Relu", (6, 3, 4), pool="resized"),
    )
    neurons = Neurons(taps, np.array([1, 0, 1], np.int32), np.array([5, 2, 0]))
    at = LogitsFormat("NPPC")
    made = expose(GraphIndex(proto), "scores", (), neurons, at, None, some)
    rows = np.array([95, 0, 50, 50]) if some else np.arange(96)
    Z, T = run(made.proto, {"x": x, **({ROWS: rows} if some else {})}, [made.logits, *made.outputs])
    proto.graph.output.append(onnx.ValueInfoProto(name="fine"))
    scores, coarse, fine = run(proto, {"x": x}, ["scores", "coarse", "fine"])
    wide = resized(resized(coarse, 6, 2), 8, 3)
    expected = np.stack([wide[:, 5], fine[:, 2], wide[:, 0]], axis=-1).reshape(96, 3)
    assert np.array_equal(Z, scores.reshape(96, 5)[rows])
    assert np.allclose(T, expected[rows], atol=1e-5)


@pytest.mark.parametrize("own", [3, 7, 20, 29])
def test_rows_between_frames_are_those_of_a_resized_map(own):
    net = NetBuilder(11)
    weight = net.const(np.random.default_rng(0).normal(size=(5, 2, 1)).astype(np.float32))
    net.op("Conv", "m", weight, kernel_shape=[1], name="map")
    net.op("Identity", "z", name="scores")
    declared = {"m": (FLOAT, ["N", 2, own]), "z": (FLOAT, ["N", 4, 20])}
    proto = net.model(declared, {"scores": (FLOAT, ["N", 4, 20]), "map": (FLOAT, ["N", 5, own])})
    tap = Tap("map", "Conv", (5, own), pool="resized")
    neurons = Neurons((tap,), np.zeros(3, np.int32), np.array([4, 0, 2]))
    rng = np.random.default_rng(1)
    feeds = {"m": rng.normal(size=(3, 2, own)), "z": rng.normal(size=(3, 4, 20))}
    feeds = {name: value.astype(np.float32) for name, value in feeds.items()}
    at = LogitsFormat("NCP")
    whole, some = (
        expose(GraphIndex(proto), "scores", (), neurons, at, None, picked) for picked in (False, True)
    )
    (every,) = run(whole.proto, feeds, whole.outputs)
    rows = rng.permutation(60)[:41]
    (picked,) = run(some.proto, {**feeds, ROWS: rows}, some.outputs)
    assert np.allclose(picked, every[rows], atol=1e-5)


@pytest.mark.parametrize("own", [20, 10])
@pytest.mark.parametrize("some", [False, True])
def test_maps_of_height_one_are_read_as_rows(own, some):
    """As a recogniser's that ends in a Squeeze: nodes that read them have names of their own."""
    net = NetBuilder(13)
    weight = net.const(np.random.default_rng(0).normal(size=(5, 2, 1, 1)).astype(np.float32))
    net.op("Conv", "m", weight, kernel_shape=[1, 1], name="map")
    net.op("Identity", "z", name="scores")
    declared = {"m": (FLOAT, ["N", 2, 1, own]), "z": (FLOAT, ["N", 20, 4])}
    proto = net.model(declared, {"scores": (FLOAT, ["N", 20, 4]), "map": (FLOAT, ["N", 5, 1, own])})
    tap = Tap("map", "Conv", (5, 1, own), pool="aligned" if own == 20 else "resized")
    neurons = Neurons((tap,), np.zeros(3, np.int32), np.array([4, 0, 2]))
    rng = np.random.default_rng(1)
    feeds = {"m": rng.normal(size=(3, 2, 1, own)), "z": rng.normal(size=(3, 20, 4))}
    feeds = {name: value.astype(np.float32) for name, value in feeds.items()}
    rows = np.array([41, 0, 59, 7]) if some else np.arange(60)
    made = expose(GraphIndex(proto), "scores", (), neurons, LogitsFormat("NPC"), None, some)
    Z, T = run(made.proto, {**feeds, **({ROWS: rows} if some else {})}, [made.logits, *made.outputs])
    (shown,) = run(proto, feeds, ["map"])
    wide = resized(shown[:, [4, 0, 2], 0], 20, 2)
    assert np.array_equal(Z, feeds["z"].reshape(60, 4)[rows])
    assert np.allclose(T, wide.transpose(0, 2, 1).reshape(60, 3)[rows], atol=1e-5)


def test_a_piece_names_everything_once():
    build = Builder("p/", 13, "float32")
    one, again, other = (build.index("a", value) for value in ([1], [1], [2]))
    nodes = [build.node("a", "Neg", [one]), build.node("a", "Neg", [other])]
    assert one.name == again.name == "p/a" and other.name == "p/a_2"
    assert [node.name for node in nodes] == ["p/a_3", "p/a_4"]


@pytest.mark.parametrize("hidden", [False, True])
def test_a_layer_is_applied_before_its_maps_are_resized(hidden):
    """So that channels are resized of classes or hidden units, and not of the many neurons that it reads."""
    _, feeds, _ = made("NCPP")
    near = Tap("near", "Relu", (4, 6, 8), pool="aligned")
    far = Tap("far", "Relu", (3, 4, 3), pool="resized", channel_axis=2)
    neurons = Neurons((near, far), np.array([1, 0, 1, 1], np.int32), np.array([2, 1, 0, 1]))
    rng = np.random.default_rng(3)
    shapes = ((4, 2), (2,), (2, 5), (5,)) if hidden else ((4, 5), (5,))
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    patch = Mlp(*arrays) if hidden else Linear(*arrays)
    new, ops = patched("NCPP", patch, neurons)
    wide = resized(resized(np.moveaxis(feeds["other"], -1, 1), 6, 2), 8, 3)
    T = np.stack([wide[:, 2], feeds["fine"][:, 1], wide[:, 0], wide[:, 1]], -1).reshape(-1, 4)
    assert np.allclose(new, patch.applied(score_rows("NCPP", feeds["z"]), T), atol=1e-5)
    assert ops.index("Conv") < ops.index("Resize") and ops.count("Resize") == 1


def test_maps_are_resized_from_opset_11_on():
    net_at_10 = pixels(10)
    neurons = Neurons(
        (Tap("coarse", "Relu", (6, 3, 4), pool="resized"),), np.zeros(1, np.int32), np.zeros(1, int)
    )
    with pytest.raises(ModelError, match="from opset 11 on"):
        expose(GraphIndex(net_at_10), "scores", (), neurons, LogitsFormat("NPPC"))


@pytest.mark.parametrize(
    ("sizes", "shape", "channel_axis", "way"),
    [
        ((6, 8), (4, 6, 8), 0, "aligned"),
        ((6, 8), (6, 8, 4), 2, "aligned"),
        ((6, 8), (4, 3, 4), 0, "resized"),
        ((6, 8), (4,), 0, None),
        ((40,), (40, 16), 1, "aligned"),
        ((40,), (16, 1, 40), 0, "aligned"),
        ((40,), (16, 1, 80), 0, "resized"),
        ((40,), (16, 3, 40), 0, None),
    ],
)
def test_how_a_map_is_read(sizes, shape, channel_axis, way):
    assert way_at_positions(sizes, Tap("h", "Relu", shape, channel_axis=channel_axis)) == way


@pytest.mark.parametrize(
    ("shape", "decides", "axis", "layout"),
    [
        (("N", 5, 8, 8), None, 1, "NCPP"),
        (("N", 8, 8, 5), None, 3, "NPPC"),
        (("N", 5, None, None), None, 1, None),
        (("N", 9, 5), -1, 2, "NPC"),
        (("N", 9, 5), None, None, None),
        (("N", 9, 5), 1, 1, "NCP"),
        (("N", "T", 5), None, 2, None),
        (("N", 5, None), None, 1, None),
        (("N", "T", 1), None, None, "NC1"),
        (("N", "T", "C"), None, None, None),
        (("N", 1, 9, 5), 3, 3, "N1PC"),
        (("N", 5), -1, 1, "NC"),
        (("N", 5, 1, 1), None, None, "NC11"),
        (("N", 8, 8, 8), None, None, None),
    ],
)
def test_which_axis_counts_the_classes(shape, decides, axis, layout):
    assert class_axis_of(shape, decides) == axis
    assert layout_of(shape, axis) == layout
