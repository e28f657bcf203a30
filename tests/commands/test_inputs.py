"""Inputs as models really have them: time first, states, rates, and what the logits do not need."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

import onnxtweak
from onnxtweak import commands
from onnxtweak.errors import DataError, InputError, ModelError, UsageError
from onnxtweak.settings import DataSettings, EngineSettings
from tests.support.nets import NetBuilder
from tests.support.own_answers import Trial, try_out

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
ENGINE = EngineSettings(device="cpu", threads=1)
N = 240


def _random(*shape, seed=0):
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


def _end(net, x, width, classes=3):
    net.gemm(net.op("Relu", net.gemm(x, width, 12), name="act"), 12, classes, name="logits")
    return {"logits": (FLOAT, ("N", classes))}


def _recurrent(op, gates, steps, symbol="N"):
    """Time first: input (T, N, 4), the last state of an LSTM, GRU or RNN and its mean, a hidden layer."""
    net = NetBuilder(14)
    w, r = net.const(_random(1, gates * 6, 4) / 2), net.const(_random(1, gates * 6, 6, seed=1) / 2)
    outputs = [net.name("all"), net.name("last")]
    net.nodes.append(helper.make_node(op, ["input", w, r], outputs, hidden_size=6))
    mean = net.op("ReduceMean", net.squeeze(outputs[0], 1), axes=[0], keepdims=0)
    x = net.op("Add", net.squeeze(outputs[1], 0), mean)
    return net.model({"input": (FLOAT, (steps, symbol, 4))}, _end(net, x, 6))


def _time_first(rows):
    return {"input": rows["input"].swapaxes(0, 1)}


@pytest.mark.parametrize(
    ("op", "gates", "steps"), [("LSTM", 4, 5), ("GRU", 3, 3), ("RNN", 1, "T"), ("LSTM", 4, 3), ("LSTM", 4, 8)]
)
def test_time_may_come_first(op, gates, steps, tmp_path):
    proto = _recurrent(op, gates, steps)
    rows = {"input": _random(N, steps if isinstance(steps, int) else 4, 4)}
    method = "fit" if steps in (3, 5) else "join"  # in turns
    (result,) = try_out(Trial(proto, fed=_time_first), rows, tmp_path, methods=(method,)).values()
    assert not any("run with" in note for note in result.notes)
    taps = commands.inspect(model=str(tmp_path / "model.onnx")).candidates
    assert {tap[0] for tap in taps if tap[2] == (6,)} or taps


def test_only_tensors_with_rows_are_watched(tmp_path):
    proto = _recurrent("LSTM", 4, 3)  # as many steps as samples that it is measured with
    try_out(Trial(proto, fed=_time_first), {"input": _random(N, 3, 4)}, tmp_path, methods=())
    made = onnxtweak.join(
        tmp_path / "model.onnx", data=tmp_path / "data.npz", target=1, taps=["*"], output=tmp_path / "o.onnx"
    )
    assert made.choice.neurons == 6 + 6 + 6 + 12 + 12  # not those of all steps, nor the state as (1, N, 6)
    with pytest.raises(ModelError, match="no fixed size per sample"):
        onnxtweak.join(
            tmp_path / "model.onnx",
            data=tmp_path / "data.npz",
            target=1,
            taps=[proto.graph.node[0].output[0]],
            output=tmp_path / "p.onnx",
        )


def test_a_batch_axis_that_nothing_names_is_found_out(tmp_path):
    proto = _recurrent("LSTM", 4, None, None)
    proto.graph.output[0].type.tensor_type.shape.dim[0].ClearField("dim_param")
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    np.savez(tmp_path / "data.npz", input=_random(60, 5, 4), y=np.arange(60) % 3)
    with pytest.raises(InputError) as caught:
        onnxtweak.evaluate(tmp_path / "model.onnx", data=tmp_path / "data.npz")
    assert "logits" in str(caught.value)


def test_a_fixed_batch_of_one_may_come_second(tmp_path):
    proto = _recurrent("GRU", 3, 5, 1)
    proto.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1
    rows = {"input": _random(N, 5, 4)}
    try_out(Trial(proto, fed=_time_first, apart=True), rows, tmp_path, methods=("fit",))


def _stateful(state, axis):
    """A voice detector: (N, 8) samples, a state with N at `axis`, and a rate that its logits do not need."""
    net = NetBuilder()
    x = "state"
    if axis:
        x = net.op("Reshape", net.op("Transpose", x, perm=[1, 0, 2]), net.ints(-1, 6))
    both = net.op("Concat", x, "input", axis=1, name="both")
    outputs = _end(net, both, 14)
    outputs[net.op("Tanh", net.gemm(both, 14, 6), name="stateN")] = (FLOAT, ("N", 6))
    inputs = {"input": (FLOAT, ("N", 8)), "state": (FLOAT, state), "sr": (INT64, ())}
    return net.model(inputs, outputs)


@pytest.mark.parametrize(("state", "axis"), [(("N", 6), 0), ((1, "N", 6), 1)])
@pytest.mark.parametrize("given", ["rows", "option"])
def test_a_state_is_given_with_the_samples_or_by_option(state, axis, given, tmp_path):
    rows = {"input": _random(N, 8)}
    shape = (N, 6) if not axis else (N, 1, 6)
    if given == "rows":
        rows["state"] = _random(*shape, seed=2)

    def fed(part):
        count = len(part["input"])
        rows_of_state = part.get("state", np.zeros((count, *shape[1:]), np.float32))
        moved = rows_of_state.swapaxes(0, 1) if axis else rows_of_state
        return {"input": part["input"], "state": np.ascontiguousarray(moved), "sr": np.array(16000)}

    constants = {} if given == "rows" else {"state": 0}
    trial = Trial(_stateful(state, axis), fed=fed, constants=constants)
    options = {"logits": "logits", "tweak": tmp_path / "t.safetensors", "force": True}
    method = "fit" if (given == "rows") == bool(axis) else "join"  # in turns
    (result,) = try_out(trial, rows, tmp_path, methods=(method,), **options).values()
    assert not any("run with" in note for note in result.notes)
    file = str(tmp_path / f"{method}.onnx")
    assert all(check.passed for check in commands.verify(tweaked=file, engine=ENGINE).checks)
    data = DataSettings((str(tmp_path / "test.npz"),), inputs=tuple(constants.items()))
    found = commands.verify(tweaked=file, data=data, engine=ENGINE)
    assert all(check.passed for check in found.checks)
    assert found.after.overall == result.measured.after.overall
    applied = onnxtweak.apply(tmp_path / "model.onnx", tmp_path / "t.safetensors", tmp_path / "again.onnx")
    assert applied.output.sha256 == result.output.sha256


def _rated(shape=(), dtype=INT64):
    net = NetBuilder()
    rate = net.op("Cast", "sr", to=FLOAT)
    outputs = _end(net, net.op("Mul", net.op("Div", "input", rate), net.const(8000.0)), 8)
    return net.model({"input": (FLOAT, ("N", 8)), "sr": (dtype, shape)}, outputs)


def _with_rate(shape, dtype=np.int64):
    return lambda part: {"input": part["input"], "sr": np.full(shape, 16000, dtype)}


@pytest.mark.parametrize(
    ("shape", "kind", "dtype"), [((), INT64, np.int64), ((1,), INT64, np.int64), ((), FLOAT, np.float32)]
)
def test_a_number_is_given_by_option_and_kept_in_the_file(shape, kind, dtype, tmp_path):
    trial = Trial(_rated(shape, kind), fed=_with_rate(shape, dtype), constants={"sr": 16000})
    method = "fit" if shape else "join"
    (result,) = try_out(trial, {"input": _random(N, 8)}, tmp_path, methods=(method,)).values()
    assert any("`sr` is 16000 for all samples" in note for note in result.notes)
    from onnxtweak.model.file.model_file import read_model
    from onnxtweak.model.file.tweak_metadata import tweaks_inside

    inside = tweaks_inside(read_model(tmp_path / f"{method}.onnx").proto)[-1]
    assert inside.provenance["constants"] == {"sr": 16000}


@pytest.mark.parametrize(
    "stored", [np.array(16000), np.full(N, 16000), np.full((N, 1), 16000), np.array([16000] * N, np.float32)]
)
def test_a_number_may_be_stored_with_the_samples(stored, tmp_path):
    trial = Trial(_rated(), fed=_with_rate(()), constants={"sr": 16000})
    rows = {"input": _random(N, 8)}
    expected = try_out(trial, rows, tmp_path, methods=("join",))["join"]
    with np.load(tmp_path / "data.npz") as old:
        held = dict(old)
    held["sr"] = stored if not stored.ndim else stored[: len(held["y"])]
    np.savez(tmp_path / "data.npz", **held)
    with np.load(tmp_path / "test.npz") as old:
        np.savez_compressed(tmp_path / "test.npz", **dict(old), sr=np.array(16000))
    made = onnxtweak.join(
        tmp_path / "model.onnx", data=tmp_path / "data.npz", test=tmp_path / "test.npz", target=1, threads=1
    )
    assert made.measured.after.overall == expected.measured.after.overall


def _saved(folder, proto, **arrays):
    (folder / "model.onnx").write_bytes(proto.SerializeToString())
    np.savez(folder / "data.npz", **arrays)
    return folder / "model.onnx", folder / "data.npz"


def test_two_values_of_a_number_are_refused_with_their_rows(tmp_path):
    rate = np.full(60, 16000)
    rate[7:] = 8000
    model, data = _saved(tmp_path, _rated(), input=_random(60, 8), sr=rate, y=np.arange(60) % 3)
    with pytest.raises(DataError, match="16000 in row 0 and 8000 in row 7"):
        onnxtweak.evaluate(model, data=data)


def test_a_missing_input_names_the_option_which_works(tmp_path):
    model, data = _saved(tmp_path, _rated(), input=_random(60, 8), y=np.arange(60) % 3)
    with pytest.raises(DataError) as caught:
        onnxtweak.evaluate(model, data=data)
    assert "--input sr=VALUE" in caught.value.hint
    assert onnxtweak.evaluate(model, data=data, inputs={"sr": 16000}).metrics.samples == 60


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"rate": 1}, "no input of the name"),
        ({"sr": 0.5}, "cannot hold 0.5"),
        ({"sr": 1, "input": 0}, "same for all samples"),
    ],
)
def test_what_does_not_fit_is_refused(inputs, words, tmp_path):
    model, data = _saved(tmp_path, _rated(), input=_random(60, 8), y=np.arange(60) % 3)
    with pytest.raises(UsageError, match=words):
        onnxtweak.evaluate(model, data=data, inputs=inputs)


def test_an_unknown_size_cannot_be_filled(tmp_path):
    net = NetBuilder()
    pooled = net.op("ReduceMean", "context", axes=[1], keepdims=0)
    outputs = _end(net, net.op("Concat", "input", pooled, axis=1), 12)
    proto = net.model({"input": (FLOAT, ("N", 8)), "context": (FLOAT, ("N", "words", 4))}, outputs)
    model, data = _saved(tmp_path, proto, input=_random(60, 8), y=np.arange(60) % 3)
    with pytest.raises(UsageError, match=r"axis 1 \(words\)"):
        onnxtweak.evaluate(model, data=data, inputs={"context": 0})


@pytest.mark.parametrize("stored", [False, True])
def test_inspect_measures_with_the_values_given(stored, tmp_path):
    net = NetBuilder()
    outputs = _end(net, net.op("Slice", "input", net.ints(0), "width", net.ints(1)), 8)
    inputs = {"input": (FLOAT, ("N", "samples")), "width": (INT64, (1,))}
    rows = {"input": _random(60, 10), **({"width": np.array(8)} if stored else {})}
    model, data = _saved(tmp_path, net.model(inputs, outputs), y=np.arange(60) % 3, **rows)
    given = () if stored else (("width", 8),)
    found = commands.inspect(model=str(model), data=DataSettings((str(data),), inputs=given), engine=ENGINE)
    assert [tap.name for tap in found.taps] == ["act"]


def test_several_inputs_that_are_no_pictures_can_be_doubted(tmp_path):
    net = NetBuilder()
    both = net.op("Concat", "input", net.op("Flatten", "state"), axis=1)
    inputs = {"input": (FLOAT, ("N", 8)), "state": (FLOAT, ("N", 1, 6))}
    proto = net.model(inputs, _end(net, both, 14))
    arrays = {"input": _random(60, 8), "state": _random(60, 1, 6), "y": np.arange(60) % 3}
    model, data = _saved(tmp_path, proto, **arrays)
    with pytest.raises(DataError, match="at chance level"):
        onnxtweak.fit(model, data=data, target=1, threads=1)


def test_a_flag_is_true_or_false(tmp_path):
    net = NetBuilder()
    x = net.op("Where", "loud", net.op("Mul", "input", net.const(2.0)), "input")
    proto = net.model({"input": (FLOAT, ("N", 8)), "loud": (BOOL, ())}, _end(net, x, 8))
    model, data = _saved(tmp_path, proto, input=_random(60, 8), y=np.arange(60) % 3)
    one = onnxtweak.evaluate(model, data=data, inputs={"loud": True})
    assert one.metrics.samples == 60


def _with_unneeded(other, shape):
    net = NetBuilder()
    outputs = _end(net, "input", 8)
    if other == "head":
        outputs[net.op("MatMul", "meta", net.const(np.ones((3, 2))))] = (FLOAT, None)
    inputs = {"input": (FLOAT, ("N", 8)), "meta": (FLOAT, shape)}
    return net.model(inputs, outputs)


@pytest.mark.parametrize(
    ("other", "shape", "in_data"),
    [
        ("head", ("N", 3), False),
        ("nothing", ("N", 3), True),
        ("head", (3, 3), True),
        ("nothing", (3, 3), False),
        ("head", ("N", "k", 3), True),
        ("nothing", ("N", "k", 3), False),
    ],
)
def test_inputs_that_the_logits_do_not_need_are_left_alone(other, shape, in_data, tmp_path):
    def fed(part):
        size = [len(part["input"]) if s == "N" else 2 if s == "k" else s for s in shape]
        return {"input": part["input"], "meta": np.ones(size, np.float32)}

    trial = Trial(_with_unneeded(other, shape), fed=fed)
    rows = {"input": _random(N, 8), **({"meta": np.zeros((N, 3), np.float32)} if in_data else {})}
    method = "fit" if shape == (3, 3) or in_data else "join"  # in turns
    page = tmp_path / "page.html"
    try_out(trial, rows, tmp_path, methods=(method,), logits="logits", report=page, force=True)
    found = commands.verify(tweaked=str(tmp_path / f"{method}.onnx"), engine=ENGINE)
    assert all(check.passed for check in found.checks) and found.notes == ()


def test_recipes_and_the_command_line_take_the_option(tmp_path, capsys):
    from onnxtweak.cli.main import main

    trial = Trial(_rated(), fed=_with_rate(()), constants={"sr": 16000})
    try_out(trial, {"input": _random(N, 8)}, tmp_path, methods=("join",))
    model, data, recipe = (str(tmp_path / name) for name in ("model.onnx", "data.npz", "tweak.toml"))
    assert main(["init", model, "-d", data, "-t", "1", "--input", "sr=16000", "-o", recipe, "-q"]) == 0
    assert 'inputs = { "sr" = 16000 }' in (tmp_path / "tweak.toml").read_text()
    assert main(["run", recipe, "--set", "engine.threads=1", "-q"]) == 0
    assert (tmp_path / "build" / "tweaked.onnx").exists()
    assert main(["evaluate", model, "-d", data, "--input", "sr"]) == 2
    assert "sr=16000" in capsys.readouterr().err


def test_a_tweak_of_a_model_that_leaves_sizes_open_can_be_applied_and_verified_without_data(tmp_path):
    proto = _recurrent("GRU", 3, "T")
    options = {"tweak": tmp_path / "t.safetensors", "force": True}
    rows = {"input": _random(N, 4, 4)}
    results = try_out(Trial(proto, fed=_time_first), rows, tmp_path, methods=("fit",), **options)
    applied = onnxtweak.apply(tmp_path / "model.onnx", tmp_path / "t.safetensors", tmp_path / "again.onnx")
    assert applied.output.sha256 == results["fit"].output.sha256
    found = commands.verify(tweaked=str(tmp_path / "fit.onnx"), engine=ENGINE)
    assert found.checks and all(check.passed for check in found.checks)
    assert not found.unchecked


def test_text_is_learnt_from_applied_to_and_verified(tmp_path):
    net = NetBuilder(14)
    keys = {"keys_strings": ["a", "b", "c", "d"], "values_int64s": [0, 1, 2, 3], "default_int64": 0}
    net.nodes.append(helper.make_node("LabelEncoder", ["text"], ["code"], domain="ai.onnx.ml", **keys))
    one_hot = net.op("OneHot", "code", net.const(np.array(4)), net.const(np.float32([0, 1])))
    features = net.op("Add", net.op("Flatten", one_hot), "noise")
    inputs = {"text": (TensorProto.STRING, ("N", 1)), "noise": (FLOAT, ("N", 4))}
    proto = net.model(inputs, _end(net, features, 4))
    proto.opset_import.append(helper.make_opsetid("ai.onnx.ml", 2))
    rows = {"text": np.array(["a", "b", "c", "d"] * 60)[:, None], "noise": 0.3 * _random(N, 4)}
    results = try_out(
        Trial(proto, fed=lambda part: {**part, "text": part["text"].astype(object)}),
        rows,
        tmp_path,
        methods=("fit",),
        tweak=tmp_path / "t.safetensors",
    )
    applied = onnxtweak.apply(tmp_path / "model.onnx", tmp_path / "t.safetensors", tmp_path / "again.onnx")
    assert applied.output.sha256 == results["fit"].output.sha256
    found = commands.verify(tweaked=str(tmp_path / "fit.onnx"), engine=ENGINE)
    assert all(check.passed for check in found.checks) and not found.unchecked
