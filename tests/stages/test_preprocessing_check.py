"""At chance level `evaluate` tries the likely mistakes and proposes the one that helps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnxtweak.commands import evaluate
from onnxtweak.settings import DataSettings, Preprocess


def brightness_reader() -> ModelProto:
    """Four classes: the quarter of [0, 1] that the mean of the first channel lies in."""
    slopes = np.zeros((4, 3), np.float32)
    slopes[:, 0] = (0, 4, 8, 12)
    offsets = np.array([0, -1, -3, -6], np.float32)  # neighbours meet at 1/4, 1/2, 3/4
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["x"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("Gemm", ["flat", "slopes", "offsets"], ["logits"], transB=1),
        ],
        "brightness",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(slopes, "slopes"), numpy_helper.from_array(offsets, "offsets")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.fixture
def material(tmp_path):
    """A model of bytes / 255 in BGR, and samples in RGB bytes with the right labels."""
    (tmp_path / "m.onnx").write_bytes(brightness_reader().SerializeToString())
    rng = np.random.default_rng(0)
    level = rng.integers(0, 240, (400, 1, 1, 3))
    x = (level + rng.integers(0, 16, (400, 8, 8, 3))).astype(np.uint8)
    y = np.minimum(x[:, :, :, 2].mean(axis=(1, 2)) / 255 * 4, 3).astype(np.int64)
    return tmp_path, x, y


def told(tmp_path, x, y, preprocess=Preprocess()) -> str:
    np.savez(tmp_path / "d.npz", x=x, y=y)
    data = DataSettings((str(tmp_path / "d.npz"),), preprocess=preprocess)
    return "\n".join(evaluate(model=str(tmp_path / "m.onnx"), data=data).notes)


RIGHT = Preprocess(pixel_scale=1 / 255, color="BGR", layout="NCHW")


def test_a_model_that_does_well_is_left_alone(material):
    assert "chance" not in told(*material, RIGHT)


def test_labels_from_one(material):
    folder, x, y = material
    keep = y < 3
    assert "subtracting 1 from each label gives" in told(folder, x[keep], y[keep] + 1, RIGHT)


@pytest.mark.parametrize(
    ("wrong", "proposed"),
    [
        (replace(RIGHT, pixel_scale=None), "--pixel-scale 1/255 gives"),
        (replace(RIGHT, color=None), "--color BGR gives"),
        (replace(RIGHT, pixel_scale=None, color=None), "--pixel-scale 1/255 --color BGR gives"),
    ],
)
def test_the_way_that_helps_is_proposed(material, wrong, proposed):
    said = told(*material, wrong)
    assert "is at chance level: on 400 samples, " in said
    assert proposed in said


def test_where_nothing_helps_the_suspects_are_named(material):
    folder, x, y = material
    said = told(folder, x, np.random.default_rng(1).permutation(y), RIGHT)
    assert "check pixel scale, mean and std" in said
