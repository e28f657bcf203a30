"""Which models show scores and hidden maps just as they are fed? For patches whose sums NumPy can check."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto

from onnxtweak.model.edit.patch_nodes import SpliceSite, build_piece
from onnxtweak.model.logits_format import LogitsFormat
from onnxtweak.patch import Patch, Tweak
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


def patched(layout: str, patch: Patch, neurons: Neurons, opset: int = 18) -> tuple[np.ndarray, list[str]]:
    """The scores of such a model with a patch, as rows (N * positions, C), and the patch's operators."""
    model, feeds, _ = made(layout, opset)
    axis = LAYOUTS[layout][1]
    classes = 1 if axis is None else 5
    tweak = Tweak("fit", "", "scores", classes, neurons, patch)
    piece = build_piece(tweak, SpliceSite("scores", "new", LogitsFormat(layout), opset, "p/"))
    model.graph.node.extend(piece.nodes)
    model.graph.initializer.extend(piece.initializers)
    model.graph.output.append(onnx.ValueInfoProto(name="new"))
    (new,) = ort.InferenceSession(model.SerializeToString()).run(["new"], feeds)
    assert new.shape == feeds["z"].shape
    return score_rows(layout, new), [node.op_type for node in piece.nodes]


def score_rows(layout: str, scores: np.ndarray) -> np.ndarray:
    """Scores in their layout as rows (N * positions, C)."""
    axis = LAYOUTS[layout][1]
    wide = scores[..., None] if axis is None else np.moveaxis(scores, axis, -1)
    return wide.reshape(-1, wide.shape[-1])
