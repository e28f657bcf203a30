"""Answers that depend on the other samples of a batch are found at the start: run apart, or refused."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

import onnxtweak
from onnxtweak import commands
from onnxtweak.errors import DataError, ModelError
from onnxtweak.settings import DataSettings, EngineSettings
from tests.support.forked import forked_workers
from tests.support.nets import NetBuilder, cnn3, mlp, random_inputs, transformer
from tests.support.own_answers import Trial, try_out

quantization = pytest.importorskip("onnxruntime.quantization")
FLOAT = TensorProto.FLOAT
ENGINE = EngineSettings(device="cpu", threads=1)
ALONE = "Samples are run one at a time"


def _rows(proto, n=180):
    return random_inputs(proto, n)


def _dynamic(proto, folder):
    (folder / "float.onnx").write_bytes(proto.SerializeToString())
    quantization.quantize_dynamic(
        folder / "float.onnx", folder / "dynamic.onnx", weight_type=quantization.QuantType.QUInt8
    )
    return quantization.quant_utils.load_model_with_shape_infer(folder / "dynamic.onnx")


def _net(middle, inputs=8, hidden=12, classes=3, opset=17):
    """Gemm, `middle(net, tensor) -> tensor`, Relu, Gemm."""
    net = NetBuilder(opset)
    x = middle(net, net.gemm("input", inputs, hidden))
    net.gemm(net.op("Relu", x, name="act"), hidden, classes, name="logits")
    return net.model({"input": (FLOAT, ("N", inputs))}, {"logits": (FLOAT, ("N", classes))})


def _training_norm(net, x, channels=12):
    one, zero, mean, var = (net.const(np.full(channels, value)) for value in (1, 0, 0, 1))
    outputs = [net.name("normed"), net.name("mean"), net.name("var")]
    net.nodes.append(
        helper.make_node("BatchNormalization", [x, one, zero, mean, var], outputs, training_mode=1)
    )
    return outputs[0]


def _training_norm_of_maps():
    net = NetBuilder()
    x = _training_norm(net, net.conv("input", (2, 6)), 6)
    x = net.op("Flatten", net.op("Relu", x, name="act"))
    net.gemm(x, 6 * 36, 3, name="logits")
    return net.model({"input": (FLOAT, ("N", 2, 6, 6))}, {"logits": (FLOAT, ("N", 3))})


def _with_mean_of_batch(net, x):
    return net.op("Add", x, net.op("ReduceMean", x, axes=[0], keepdims=1))


def _with_softmax_over_batch(net, x):
    return net.op("Mul", x, net.op("Softmax", x, axis=0))


def _two_inputs_and_max(net, x):
    return net.op("Sub", x, net.op("Mul", net.const(0.5), net.op("ReduceMax", x, axes=[0], keepdims=1)))


def _with_size_of_batch(net, x):
    size = net.op("Cast", net.op("Gather", net.op("Shape", x), net.ints(0)), to=FLOAT)
    return net.op("Add", x, net.op("Mul", net.const(0.02), size))


def _with_last_sample(net, x):
    return net.op("Add", x, net.op("Gather", x, net.ints(-1), axis=0))


SETTLED = {
    "dynamic quantisation": (lambda folder: _dynamic(mlp(), folder), "DynamicQuantizeLinear"),
    "dynamic, convolutions": (
        lambda folder: _dynamic(cnn3(3, 8, (4, 4, 8)), folder),
        "DynamicQuantizeLinear",
    ),
    "dynamic, softmax": (lambda folder: _dynamic(mlp(tail="softmax"), folder), "DynamicQuantizeLinear"),
    "mean of the batch": (lambda folder: _net(_with_mean_of_batch), "ReduceMean"),
    "softmax over the batch": (lambda folder: _net(_with_softmax_over_batch), "Softmax"),
    "size of the batch": (lambda folder: _net(_with_size_of_batch), ""),
    "last of the batch": (lambda folder: _net(_with_last_sample), ""),
    "maximum of the batch": (lambda folder: _net(_two_inputs_and_max), "ReduceMax"),
}


@pytest.mark.parametrize("kind", SETTLED)
def test_samples_are_run_one_at_a_time_where_that_settles_it(kind, tmp_path):
    build, operator = SETTLED[kind]
    proto = build(tmp_path)
    method = ("join", "fit")[list(SETTLED).index(kind) % 2]  # which find it out alike
    (result,) = try_out(Trial(proto, apart=True), _rows(proto), tmp_path, methods=(method,)).values()
    (note,) = [note for note in result.notes if ALONE in note]
    assert operator in note
    assert all(check.passed for check in result.checks)
    found = _verified(tmp_path / f"{method}.onnx", tmp_path / "test.npz")
    assert all(check.passed for check in found.checks)
    assert found.after.overall == result.measured.after.overall
    assert all(check.passed for check in _verified(tmp_path / f"{method}.onnx").checks)


def test_a_model_exported_from_one_sample_runs_one_at_a_time_whatever_it_declares(tmp_path):
    proto = _net(lambda net, x: net.op("Reshape", x, net.ints(1, 12)))
    results = try_out(Trial(proto, apart=True), _rows(proto), tmp_path, methods=("join",))
    assert all(check.passed for check in results["join"].checks)
    found = _verified(tmp_path / "join.onnx", tmp_path / "test.npz")
    assert all(check.passed for check in found.checks)
    assert found.after.overall == results["join"].measured.after.overall
    narrow = np.zeros((20, 7), np.float32), np.arange(20) % 3
    with pytest.raises(DataError, match=r"samples are \(7,\), but the model.s input `input` expects \(8,\)"):
        onnxtweak.evaluate(proto.SerializeToString(), data=narrow)


def test_workers_run_one_at_a_time_too(tmp_path):
    pytest.importorskip("distributed")
    proto = _net(_with_mean_of_batch)
    try_out(Trial(proto, apart=True), _rows(proto), tmp_path, methods=("join",))
    alone = (tmp_path / "join.onnx").read_bytes()
    (tmp_path / "join.onnx").unlink()
    with forked_workers():
        try_out(Trial(proto, apart=True), _rows(proto), tmp_path, methods=("join",), workers=2)
    assert (tmp_path / "join.onnx").read_bytes() == alone


def _centred(net, x):
    return net.op("Sub", x, net.op("ReduceMean", x, axes=[0], keepdims=1))


def _noisy(op, **attributes):
    return lambda net, x: net.op("Add", x, net.op(op, x, **attributes))


UNSETTLED = {
    "training norm": (_training_norm, "BatchNormalization", "all get the same answer"),
    "training norm of maps": (None, "BatchNormalization", "in every run"),  # ONNX Runtime updates its means
    "centred over the batch": (_centred, "ReduceMean", "all get the same answer"),
    "normal noise": (_noisy("RandomNormalLike"), "RandomNormalLike", "draws at random"),
    "uniform noise": (_noisy("RandomUniformLike"), "RandomUniformLike", "draws at random"),
    "bernoulli": (
        lambda net, x: net.op("Add", x, net.op("Bernoulli", net.op("Sigmoid", x))),
        "Bernoulli",
        "draws at random",
    ),
}


@pytest.mark.parametrize("kind", UNSETTLED)
@pytest.mark.parametrize("command", ["evaluate", "join", "fit"])
def test_other_models_are_refused_with_the_operator(kind, command, tmp_path):
    middle, operator, words = UNSETTLED[kind]
    proto = _training_norm_of_maps() if middle is None else _net(middle)
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    (x,) = _rows(proto, 60).values()
    np.savez(tmp_path / "data.npz", x=x, y=np.arange(60) % 3)
    given = {"data": tmp_path / "data.npz", **({} if command == "evaluate" else {"target": 1})}
    with pytest.raises(ModelError, match=words) as caught:
        getattr(onnxtweak, command)(tmp_path / "model.onnx", **given)
    assert operator in caught.value.what and "inference mode" in caught.value.hint


def test_dropout_that_the_runtime_leaves_out_is_told(tmp_path):
    proto = _net(lambda net, x: net.op("Dropout", x, net.const(0.3), net.const(True, np.bool_)))
    results = try_out(Trial(proto), _rows(proto), tmp_path, methods=("join",))
    assert any("Dropout" in note and "training mode" in note for note in results["join"].notes)


@pytest.mark.parametrize(
    "build",
    [mlp, transformer, lambda: cnn3(3, 8, (4, 4, 8)), lambda: cnn3(3, 8, (4, 4, 8), dtype=np.float16)],
)
def test_nothing_is_said_of_others(build, tmp_path):
    proto = build()
    results = try_out(Trial(proto), _rows(proto), tmp_path, methods=("join",))
    assert not any("run with" in note for note in results["join"].notes)


def test_a_fixed_batch_is_tried_with_repeated_samples(tmp_path):
    net = NetBuilder()
    net.gemm(_with_mean_of_batch(net, "input"), 8, 3, name="logits")
    proto = net.model({"input": (FLOAT, (4, 8))}, {"logits": (FLOAT, (4, 3))})
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    x = np.random.default_rng(0).normal(0, 1, (60, 8)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, y=np.arange(60) % 3)
    with pytest.raises(ModelError, match="takes no sample alone"):
        onnxtweak.evaluate(tmp_path / "model.onnx", data=tmp_path / "data.npz")


def _with_side_output(side):
    net = NetBuilder()
    net.gemm(net.op("Relu", net.gemm("input", 8, 12), name="act"), 12, 3, name="logits")
    inputs, outputs = {"input": (FLOAT, ("N", 8))}, {"logits": (FLOAT, ("N", 3))}
    if side == "nan":
        outputs[net.op("Log", net.op("Sub", net.op("Abs", "input"), net.const(99)))] = (FLOAT, None)
    elif side == "mean":
        outputs[net.op("ReduceMean", "input", axes=[0], keepdims=1)] = (FLOAT, None)
    elif side == "fails":
        outputs[net.op("Reshape", "input", net.ints(7, -1, 5))] = (FLOAT, None)
    elif side == "input":
        inputs["meta"] = (FLOAT, ("N", "anything", 4))
        outputs[net.op("MatMul", "meta", net.const(np.ones((4, 2))))] = (FLOAT, None)
    return net.model(inputs, outputs)


@pytest.mark.parametrize("side", ["nan", "mean", "fails", "input"])
def test_other_outputs_do_not_fail_a_sound_file(side, tmp_path):
    plain = _with_side_output("")
    try_out(Trial(plain), _rows(plain, 300), tmp_path, methods=())
    (tmp_path / "side.onnx").write_bytes(_with_side_output(side).SerializeToString())
    output, name = tmp_path / "out.onnx", "fit" if side in ("nan", "input") else "join"
    made = getattr(onnxtweak, name)(
        tmp_path / "side.onnx",
        data=tmp_path / "data.npz",
        target=1,
        logits="logits",
        output=output,
        report=tmp_path / "out.html",
        threads=1,
        **({"hidden": 0} if name == "fit" else {}),
    )
    assert made.checks[-1].name == "reload" and made.checks[-1].passed
    assert all(check.passed for check in _verified(output, tmp_path / "test.npz").checks)


def _verified(file, data=None):
    return commands.verify(
        tweaked=str(file), data=None if data is None else DataSettings((str(data),)), engine=ENGINE
    )


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (("N", "T", 4), ("T", "N", 3)),
        (("batch", "T", 4), (None, "batch", 3)),
        ((1, "T", 4), ("T", 1, 3)),
        ((1, 6, 4), (6, 1, 3)),
        (("a", "b", 4), ("b", "a", 3)),  # whose names do not tell, but what a position reads
    ],
)
def test_scores_with_positions_first_are_refused(given, shown, tmp_path):
    net = NetBuilder()
    rows = net.op("Transpose", "x", perm=[0, 2, 1])
    hidden = net.op("Relu", net.op("Conv", rows, net.he(8, 4, 3), pads=[1, 1], kernel_shape=[3]))
    scores = net.op("Conv", hidden, net.he(3, 8, 1), kernel_shape=[1])
    net.op("Softmax", net.op("Transpose", scores, perm=[2, 0, 1]), axis=2, name="answer")
    path, rng = tmp_path / "m.onnx", np.random.default_rng(0)
    path.write_bytes(net.model({"x": (FLOAT, given)}, {"answer": (FLOAT, shown)}).SerializeToString())
    data = rng.normal(0, 1, (40, 6, 4)).astype(np.float32), rng.integers(0, 3, (40, 6))
    with pytest.raises(ModelError, match=r"positions first and samples second, \[T, N, C\]") as error:
        onnxtweak.evaluate(path, data=data, device="cpu")
    assert error.value.hint == "export the model with samples first, [N, T, C]"
    if given != ("a", "b", 4):
        assert any("[T, N, C], which is not supported" in note for note in onnxtweak.inspect(path).notes)
