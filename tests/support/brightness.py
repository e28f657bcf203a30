"""Which model minds how its samples are prepared? One that reads brightness, with some neurons to tap."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnxtweak.settings import Preprocess
from tests.support.plain_session import plain_session

# What the model expects of stored RGB bytes.
RIGHT = Preprocess(pixel_scale=1 / 255, color="BGR", layout="NCHW")
OPTIONS = ("--pixel-scale", "1/255", "--color", "BGR", "--layout", "NCHW")


def brightness_reader() -> ModelProto:
    """Four classes: the quarter of [0, 1] that the mean of the first channel lies in.

    The first hidden neuron is that mean; seven others, which the logits do not read, are other mixtures.
    """
    mixtures = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    mixtures[0] = (1, 0, 0)
    slopes = np.zeros((4, 8), np.float32)
    slopes[:, 0] = (0, 4, 8, 12)
    offsets = np.array([0, -1, -3, -6], np.float32)  # neighbours meet at 1/4, 1/2, 3/4
    stored = {"mixtures": mixtures, "slopes": slopes, "offsets": offsets}
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["x"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("Gemm", ["flat", "mixtures"], ["mixed"], transB=1),
            helper.make_node("Relu", ["mixed"], ["hidden"]),
            helper.make_node("Gemm", ["hidden", "slopes", "offsets"], ["logits"], transB=1),
        ],
        "brightness",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def pictures(count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """RGB bytes (N, 8, 8, 3) and labels (N,), which lean a little towards the green of the picture.

    Prepared as `RIGHT` says, the model has most of them right.
    """
    rng = np.random.default_rng(0)
    level = rng.integers(0, 240, (count, 1, 1, 3))
    x = (level + rng.integers(0, 16, (count, 8, 8, 3))).astype(np.uint8)
    means = x.mean(axis=(1, 2)) / 255
    y = np.clip((0.85 * means[:, 2] + 0.15 * means[:, 1]) * 4, 0, 3).astype(np.int64)
    return x, y


def prepared(x: np.ndarray) -> np.ndarray:
    """What `RIGHT` makes of stored pictures, written out: (N, 3, 8, 8) float32."""
    return np.ascontiguousarray(x[..., ::-1].transpose(0, 3, 1, 2)).astype(np.float32) * np.float32(1 / 255)


def own_answers(path: Path, x: np.ndarray) -> np.ndarray:
    """The classes (N,) that a file answers by itself on prepared samples."""
    session = plain_session(str(path))
    return session.run(None, {"x": x})[0].argmax(axis=1)
