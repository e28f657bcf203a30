"""Quantised and float16 models work with default taps; what the runtime fuses is left out at the start."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import onnxtweak
from onnxtweak.errors import ModelError
from onnxtweak.model.graph import GraphIndex
from onnxtweak.model.inspect.activations import find_activations
from onnxtweak.model.inspect.taps import candidates
from tests.support.nets import NetBuilder, cnn3, mlp, random_inputs
from tests.support.own_answers import Trial, try_out

quantization = pytest.importorskip("onnxruntime.quantization")
Format, Type = quantization.QuantFormat, quantization.QuantType
FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


class _Reader(quantization.CalibrationDataReader):
    def __init__(self, proto):
        self._batches = iter([random_inputs(proto, 50, seed) for seed in range(3)])

    def get_next(self):
        return next(self._batches, None)


def _quantised(proto, folder, kind, **options):
    source, target = folder / "float.onnx", folder / "quantised.onnx"
    source.write_bytes(proto.SerializeToString())
    options = {"activation_type": Type.QUInt8, "weight_type": Type.QInt8, **options}
    quantization.quantize_static(source, target, _Reader(proto), quant_format=kind, **options)
    return onnx.load(target)


def _residual(dtype=np.float32, pooled=True):
    """A convolution, a block with a residual sum, pooling, a linear layer."""
    net = NetBuilder(dtype=dtype)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    x = net.op("Relu", net.conv("input", (2, 6)), name="first")
    y = net.conv(net.op("Relu", net.conv(x, (6, 6)), name="inner"), (6, 6))
    x = net.op("Relu", net.op("Add", x, y), name="sum")
    if pooled:
        net.gemm(net.op("Flatten", net.op("GlobalAveragePool", x)), 6, 3, name="logits")
    else:
        x = net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
        net.gemm(net.op("Flatten", x), 6 * 16, 3, name="logits")
    return net.model({"input": (kind, ("N", 2, 8, 8))}, {"logits": (kind, ("N", 3))})


MODELS = {
    "cnn": lambda: cnn3(3, 8, (4, 4, 8)),
    "cnn, softmax": lambda: cnn3(3, 8, (4, 4, 8), tail="softmax"),
    "mlp": mlp,
    "residual": _residual,
    "residual, flattened": lambda: _residual(pooled=False),
}
OPTIONS = {
    "plain": {},
    "per channel": {"per_channel": True},
    "symmetric": {
        "activation_type": Type.QInt8,
        "extra_options": {"ActivationSymmetric": True},
    },
}


def _in_turns(number):
    """One method, of two that read taps alike."""
    return (("join", "fit")[number % 2],)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        *((model, "plain") for model in MODELS),
        ("cnn", "symmetric"),
        ("residual", "symmetric"),
        ("cnn", "per channel"),
    ],
)
def test_qdq_models_have_taps(model, options, tmp_path):
    proto = _quantised(MODELS[model](), tmp_path, Format.QDQ, **OPTIONS[options])
    method = _in_turns(list(MODELS).index(model) + (options != "plain"))
    (result,) = try_out(Trial(proto), random_inputs(proto, 240), tmp_path, methods=method).values()
    made = onnxtweak.inspect(tmp_path / "model.onnx")
    assert made.taps and {tap.op for tap in made.taps} <= {"DequantizeLinear", "Relu"}
    assert all(check.passed for check in result.checks)


@pytest.mark.parametrize("model", ["cnn", "mlp", "residual", "residual, flattened"])
def test_models_of_quantised_operators_have_taps(model, tmp_path):
    proto = _quantised(MODELS[model](), tmp_path, Format.QOperator)
    method = _in_turns(list(MODELS).index(model))
    try_out(Trial(proto), random_inputs(proto, 240), tmp_path, methods=method)
    made = onnxtweak.inspect(tmp_path / "model.onnx")
    assert {tap.op for tap in made.taps} <= {"QLinearConv", "QLinearAdd", "QGemm", "QLinearMatMul"}
    assert {tap.dtype for tap in made.taps} == {"uint8"}


def test_a_tweak_of_quantised_layers_is_saved_and_applied(tmp_path):
    proto = _quantised(MODELS["cnn"](), tmp_path, Format.QOperator)
    saved = tmp_path / "t.safetensors"
    (made,) = try_out(
        Trial(proto),
        random_inputs(proto, 240),
        tmp_path,
        methods=("fit",),
        hidden=8,
        tweak=saved,
        keep="none",
    ).values()
    assert {check.name for check in made.checks} >= {"neutral", "simulation"}  # it is no copy of the base
    again = onnxtweak.apply(tmp_path / "model.onnx", saved, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "fit.onnx").read_bytes()
    assert all(check.passed for check in again.checks)


def test_pooled_channels_of_quantised_layers_are_read(tmp_path):
    proto = _quantised(MODELS["residual"](), tmp_path, Format.QOperator)
    try_out(Trial(proto), random_inputs(proto, 240), tmp_path, methods=("fit",), pool="mean")


@pytest.mark.parametrize(("model", "kind"), [("cnn", Format.QDQ), ("residual", Format.QOperator)])
def test_every_operator_works_or_is_refused_at_the_start(kind, model, tmp_path):
    proto = _quantised(MODELS[model](), tmp_path, kind)
    _every_operator(proto, tmp_path)


def _every_operator(proto, folder):
    rows = random_inputs(proto, 240)
    try_out(Trial(proto), rows, folder, methods=())
    graph = GraphIndex(proto)
    worked = set()
    operators = dict.fromkeys(found.op for found in candidates(graph, "logits"))
    for number, op in enumerate(operators):  # which are read alike by every method
        given = {"methods": _in_turns(number), "force": True}
        try:
            try_out(Trial(proto), rows, folder, taps=[f"op:{op}"], **given)
            worked.add(f"op:{op}")
        except ModelError as error:  # never a check that fails after the work
            assert "op:" in error.hint, error
            suggested = [words.split()[0] for words in error.hint.split("--taps ")[1:]]
            for tap in dict.fromkeys(suggested):
                if tap not in worked:
                    try_out(Trial(proto), rows, folder, taps=[tap], **given)
                    worked.add(tap)
    assert worked & {f"op:{op}" for op in operators}


def _half(build, keep):
    """A float16 model; keep : with float32 inputs and outputs."""
    proto = build(np.float16)
    if not keep:
        return proto
    graph = proto.graph
    for node in graph.node:
        node.input[:] = ["half" if name == "input" else name for name in node.input]
        node.output[:] = ["half logits" if name == "logits" else name for name in node.output]
    graph.node.insert(0, helper.make_node("Cast", ["input"], ["half"], to=HALF))
    graph.node.append(helper.make_node("Softmax", ["half logits"], ["p"], axis=1))
    graph.node.append(helper.make_node("Cast", ["p"], ["logits"], to=FLOAT))
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.elem_type = FLOAT
    return proto


HALVES = {
    "cnn": lambda dtype: cnn3(3, 8, (4, 4, 8), dtype=dtype),
    "mlp": lambda dtype: mlp(dtype=dtype),
    "residual": _residual,
    "residual, flattened": lambda dtype: _residual(dtype, pooled=False),
}


@pytest.mark.parametrize(
    ("model", "keep"), [*((model, False) for model in HALVES), ("mlp", True), ("residual", True)]
)
def test_float16_models_keep_every_bit(model, keep, tmp_path):
    proto = _half(HALVES[model], keep)
    method = _in_turns(list(HALVES).index(model) + keep)
    (result,) = try_out(Trial(proto), random_inputs(proto, 240), tmp_path, methods=method).values()
    assert all(check.passed for check in result.checks)
    assert all("bit for bit" in check.detail for check in result.checks if check.name == "neutral")


def test_operators_of_a_float16_model_work_or_are_refused_at_the_start(tmp_path):
    _every_operator(_half(HALVES["residual, flattened"], False), tmp_path)


def test_an_activation_that_is_quantised_at_once_is_read_after_that(tmp_path):
    proto = _quantised(MODELS["cnn"](), tmp_path, Format.QDQ, **OPTIONS["symmetric"])
    graph = GraphIndex(proto)
    found = find_activations(graph)
    assert len(found) == 3
    assert {graph.producer(name).op_type for name in found} == {"DequantizeLinear"}


def test_only_layers_without_values_below_zero_are_activations(tmp_path):
    net = NetBuilder()
    x = net.conv(net.conv("input", (2, 4)), (4, 4))
    net.gemm(net.op("Flatten", net.op("Relu", x)), 4 * 64, 3, name="logits")
    proto = net.model({"input": (FLOAT, ("N", 2, 8, 8))}, {"logits": (FLOAT, ("N", 3))})
    graph = GraphIndex(_quantised(proto, tmp_path, Format.QOperator))
    (found,) = find_activations(graph)
    assert graph.producer(found).op_type == "QLinearConv"
    before = graph.producer(graph.producer(found).input[0])
    assert before.op_type == "QLinearConv"  # the first convolution, which is no activation
