"""The main job on every kind of classifier tail and number type: a class that lost its bias gets better."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxtweak import commands
from onnxtweak.model.edit.revert import revert
from onnxtweak.model.file.model_file import read_model
from onnxtweak.settings import DataSettings, EngineSettings, JoinSettings, OutputSettings, TargetSettings
from tests.support.nets import NetBuilder, add_tail
from tests.support.tweaks import run

FLOAT, HALF, DOUBLE, INT64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.INT64
INPUTS, HIDDEN = 8, 16


def _hidden(net: NetBuilder) -> str:
    x = net.op("Relu", net.gemm("input", INPUTS, HIDDEN), name="act1")
    return net.op("Relu", net.gemm(x, HIDDEN, HIDDEN), name="act2")


def _sigmoid(net):
    net.gemm(_hidden(net), HIDDEN, 1, name="logits")
    return 2, {net.op("Sigmoid", "logits", name="p"): (FLOAT, ("N", 1))}


def _plain_single(net):
    net.gemm(_hidden(net), HIDDEN, 1, name="logits")
    return 2, {"logits": (FLOAT, ("N", 1))}


def _squeezed_sigmoid(net):
    net.gemm(_hidden(net), HIDDEN, 1, name="logits")
    z = net.squeeze("logits", 1)
    return 2, {net.op("Sigmoid", z, name="p"): (FLOAT, ("N",))}


def _dot_product_sigmoid(net):
    weight = net.const(np.random.default_rng(1).normal(0, 0.5, HIDDEN), name="weight")
    z = net.op("MatMul", _hidden(net), weight)
    net.op("Add", z, net.const([0.05], name="bias"), name="logits")
    return 2, {net.op("Sigmoid", "logits", name="p"): (FLOAT, ("N",))}


def _both_classes(net):
    net.gemm(_hidden(net), HIDDEN, 1, name="logits")
    p = net.op("Sigmoid", "logits")
    both = net.op("Concat", net.op("Sub", net.const(1.0), p), p, axis=1, name="both")
    return 2, {both: (FLOAT, ("N", 2))}


def _tail(name, kind=FLOAT):
    def build(net):
        net.gemm(_hidden(net), HIDDEN, 3, name="logits")
        return 3, add_tail(net, "logits", name, 3, "N")

    return build


def _unsqueezed(axis):
    def build(net):
        x = net.op("Unsqueeze", _hidden(net), net.ints(1 if axis == 2 else 2))
        if axis == 2:
            net.dense(x, HIDDEN, 3)
        else:
            weight = net.const(np.random.default_rng(1).normal(0, 0.3, (3, HIDDEN)), name="weight")
            net.op("Add", net.op("MatMul", weight, x), net.const(np.zeros((3, 1)), name="bias"))
        net.nodes[-1].output[0] = "logits"
        shape = ("N", 1, 3) if axis == 2 else ("N", 3, 1)
        return 3, {net.op("Softmax", "logits", axis=axis if axis == 2 else 1, name="p"): (FLOAT, shape)}

    return build


def _int8(net):
    """Activations and logits quantised, weights dequantised where they are used."""

    def quantise(x, scale, name=""):
        parts = net.const(scale, np.float32, "scale"), net.const(0, np.int8, "zero")
        return net.op("DequantizeLinear", net.op("QuantizeLinear", x, *parts), *parts, name=name)

    x = quantise("input", 0.03)
    for layer, outputs in enumerate((HIDDEN, HIDDEN, 3), start=1):
        width = INPUTS if layer == 1 else HIDDEN
        rng = np.random.default_rng(layer)
        weight = net.const(rng.integers(-90, 90, (width, outputs)), np.int8, "weight")
        weight = net.op(
            "DequantizeLinear", weight, net.const(0.01, name="scale"), net.const(0, np.int8, "zero")
        )
        x = net.op("Add", net.op("MatMul", x, weight), net.const(np.zeros(outputs), name="bias"))
        x = net.op("Relu", x, name=f"act{layer}") if layer < 3 else x
        x = quantise(x, 0.06, "logits" if layer == 3 else "")
    return 3, {x: (FLOAT, ("N", 3))}


MODELS = {
    "sigmoid": _sigmoid,
    "a single plain logit": _plain_single,
    "squeezed sigmoid": _squeezed_sigmoid,
    "dot product and sigmoid": _dot_product_sigmoid,
    "both classes from one sigmoid": _both_classes,
    **{tail: _tail(tail) for tail in ("argmax", "softmax-argmax", "softmax-topk", "softmax-zipmap")},
    "decomposed": _tail("decomposed"),
    "(N, 1, C)": _unsqueezed(2),
    "(N, C, 1)": _unsqueezed(1),
    "quantised int8": _int8,
}


def weak(folder: Path, build, dtype=np.float32, target: int = 1) -> tuple[Path, Path, np.ndarray, np.ndarray]:
    """Model, samples file, x, y: the last bias of the model is what the target lacks."""
    net = NetBuilder(dtype=dtype, seed=3)
    classes, outputs = build(net)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    outputs = {
        n: (kind if t[0] == FLOAT else t[0], t[1]) if isinstance(t, tuple) else t for n, t in outputs.items()
    }
    proto = net.model({"input": (kind, ("N", INPUTS))}, outputs)
    rng = np.random.default_rng(5)
    x = rng.normal(0, 1, (600, INPUTS)).astype(dtype)
    shown = type(proto).FromString(proto.SerializeToString())
    del shown.graph.output[:]
    shown.graph.output.append(helper.make_value_info("logits", helper.make_tensor_type_proto(kind, None)))
    Z = run(shown, {"input": x})[0].reshape(600, -1).astype(np.float64)
    Z -= np.median(Z, axis=0)
    deviation = Z.std()
    noisy = Z + 0.2 * deviation * rng.standard_normal(Z.shape)
    y = (noisy[:, 0] > 0).astype(np.int64) if Z.shape[1] == 1 else noisy.argmax(axis=1)
    bias = next(t for t in reversed(proto.graph.initializer) if t.name.startswith("bias"))
    value = numpy_helper.to_array(bias).astype(np.float64)
    value = value.reshape(-1) - np.median(run(shown, {"input": x})[0].reshape(600, -1).astype(float), axis=0)
    value[target if classes > 2 else 0] -= (1 if target == 1 or classes > 2 else -1) * 0.8 * deviation
    bias.CopyFrom(numpy_helper.from_array(value.reshape(tuple(bias.dims)).astype(dtype), bias.name))
    (folder / "model.onnx").write_bytes(proto.SerializeToString())
    np.savez(folder / "data.npz", x=x, y=y)
    return folder / "model.onnx", folder / "data.npz", x, y


def join(model: Path, data: Path, written: Path, target: int = 1):
    return commands.join(
        model=str(model),
        data=DataSettings(data=(str(data),)),
        engine=EngineSettings(backend="numpy"),
        targets=TargetSettings((str(target),)),
        settings=JoinSettings(count=(1, 4, 10), scale=(0, 1, 3, 10, 30)),
        output=OutputSettings(str(written)),
    )


@pytest.mark.parametrize("name", MODELS)
def test_the_target_gets_better_behind_every_tail(name, tmp_path):
    model, data, _, _ = weak(tmp_path, MODELS[name])
    result = join(model, data, tmp_path / "out.onnx")
    assert result.tweak["synapses"]
    assert result.after.target > result.before.target
    assert all(check.passed for check in result.checks)
    assert revert((tmp_path / "out.onnx").read_bytes()) == model.read_bytes()


@pytest.mark.parametrize("name", ["sigmoid", "squeezed sigmoid", "dot product and sigmoid"])
@pytest.mark.parametrize("target", [0, 1])
def test_decisions_of_a_single_logit_are_those_of_the_written_file(name, target, tmp_path):
    model, data, x, y = weak(tmp_path, MODELS[name], target=target)
    result = join(model, data, tmp_path / "out.onnx", target)
    before, after = (
        (run(path, {"input": x})[0].reshape(-1) > 0.5).astype(int) for path in (model, tmp_path / "out.onnx")
    )
    assert result.tweak["synapses"] and result.classes == ("0", "1")
    gained = (after == y)[y == target].mean() - (before == y)[y == target].mean()
    assert gained > 0.02
    assert result.after.target > result.before.target


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize("tail", ["none", "softmax"])
def test_other_number_types(dtype, tail, tmp_path):
    model, data, _, _ = weak(tmp_path, _tail(tail), dtype)
    result = join(model, data, tmp_path / "out.onnx")
    assert result.after.target > result.before.target
    assert all(check.passed for check in result.checks)
    assert read_model(tmp_path / "out.onnx").proto.graph.input[0].type.tensor_type.elem_type in (HALF, DOUBLE)
