"""A model without a hidden tensor: `fit` sets its biases, and whatever wants neurons names `fit`."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from onnxtweak import commands
from onnxtweak.cli.main import main
from onnxtweak.engine.tap_safety import require_neutral
from onnxtweak.errors import ModelError
from onnxtweak.settings import DataSettings, EngineSettings, OutputSettings, TapSettings, TargetSettings
from onnxtweak.stages.open_job import open_whole
from onnxtweak.types import silent
from tests.support.nets import NetBuilder, add_tail
from tests.support.plain_session import plain_session
from tests.support.tweaks import run
from tests.support.weak_class import carry_out

INPUTS, TARGET = 6, 1
WEAK = TargetSettings((str(TARGET),))


def _regression(classes: int, tail: str) -> onnx.ModelProto:
    """One Gemm whose last class, or target, lacks a bias."""
    rng = np.random.default_rng(1)
    net = NetBuilder()
    bias = np.zeros(classes)
    bias[TARGET % classes] = -2.0
    weight = net.const(rng.normal(0, 1, (INPUTS, classes)), name="weight")
    net.op("Gemm", "x", weight, net.const(bias, name="bias"), name="logits")
    return net.model({"x": (TensorProto.FLOAT, ("N", INPUTS))}, add_tail(net, "logits", tail, classes, "N"))


MODELS = {
    "logits": _regression(4, "none"),
    "softmax": _regression(4, "softmax"),
    "one sigmoid": _regression(1, "sigmoid"),
}


@pytest.fixture(scope="module", params=MODELS)
def files(request, tmp_path_factory):
    """Model and samples on disk; the labels are those of the model with the bias that it lacks."""
    folder, proto = tmp_path_factory.mktemp("linear"), MODELS[request.param]
    (folder / "model.onnx").write_bytes(proto.SerializeToString())
    rng = np.random.default_rng(2)
    x = rng.normal(0, 1, (1200, INPUTS)).astype(np.float32)
    shown = onnx.ModelProto.FromString(proto.SerializeToString())
    del shown.graph.output[:]
    shown.graph.output.append(onnx.helper.make_tensor_value_info("logits", TensorProto.FLOAT, None))
    Z = run(shown, {"x": x})[0]
    Z[:, TARGET % Z.shape[1]] += 2
    Z += rng.normal(0, 0.3, Z.shape)
    y = Z.argmax(axis=1) if Z.shape[1] > 1 else (Z[:, 0] > 0).astype(np.int64)
    np.savez(folder / "data.npz", x=x, y=y)
    return folder / "model.onnx", folder / "data.npz"


def shown_accuracy(path, data) -> float:
    """Of the file's own output, by ONNX Runtime."""
    held = np.load(data)
    out = run(path, {"x": held["x"]})[0]
    predicted = out.argmax(axis=1) if out.shape[1] > 1 else (out[:, 0] > 0.5).astype(int)
    return float((predicted == held["y"]).mean())


@pytest.mark.parametrize("targets", [(str(TARGET),), ()])
def test_fit_sets_biases_and_the_file_goes_through_every_command(files, targets, tmp_path, capsys):
    model, data = files
    out, tweak = tmp_path / "out.onnx", tmp_path / "out.safetensors"
    made = carry_out(
        commands.fit,
        model,
        data,
        targets=TargetSettings(targets),
        output=OutputSettings(str(out), str(tweak)),
    )
    assert any("only biases can be set" in note for note in made.notes)
    assert set(made.choice.n) == {0} and made.choice.neurons == 0
    assert made.after.overall > made.before.overall
    before, after = shown_accuracy(model, data), shown_accuracy(out, data)
    assert after > before + 0.05
    if not targets:  # what follows minds no targets
        return
    assert main(["evaluate", str(out), "-d", str(data), "-f", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["overall"] == pytest.approx(after)
    assert main(["verify", str(out), "-d", str(data), "--base", str(model), "-f", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["after"]["overall"] == pytest.approx(after)
    assert main(["revert", str(out), "-o", str(tmp_path / "base.onnx")]) == 0
    assert (tmp_path / "base.onnx").read_bytes() == model.read_bytes()
    assert main(["apply", str(model), str(tweak), "-o", str(tmp_path / "again.onnx")]) == 0
    assert (tmp_path / "again.onnx").read_bytes() == out.read_bytes()
    assert main(["fit", str(out), "-d", str(data), "-t", str(TARGET), "-o", str(tmp_path / "2.onnx")]) == 0


@pytest.mark.parametrize("files", ["softmax"], indirect=True)
def test_the_page_and_inspect_say_it(files, tmp_path, capsys):
    model, data = files
    assert main(["inspect", str(model)]) == 0
    assert "only biases can be set" in " ".join(capsys.readouterr().out.split())
    page = tmp_path / "page.html"
    carry_out(commands.fit, model, data, targets=WEAK, output=OutputSettings(report=str(page)))
    assert "only biases can be set" in page.read_text()


def one_by_one(model, x):
    """Scores (N, C) of a model that takes one sample at a time."""
    session = plain_session(model)
    return np.concatenate([session.run(None, {"x": one[None]})[0] for one in x])


def test_an_image_that_is_only_flattened_has_no_usual_taps_either(tmp_path):
    net = NetBuilder()
    flat = net.op("Flatten", "x", name="flat")
    net.gemm(flat, 12, 3, name="logits")
    proto = net.model({"x": (TensorProto.FLOAT, (1, 3, 2, 2))}, {"logits": (TensorProto.FLOAT, (1, 3))})
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    x = np.random.default_rng(0).normal(0, 1, (300, 3, 2, 2)).astype(np.float32)
    Z = one_by_one(proto.SerializeToString(), x)
    y = (Z + np.array([0, 1.5, 0])).argmax(axis=1)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    out = tmp_path / "out.onnx"
    made = carry_out(commands.fit, tmp_path / "model.onnx", tmp_path / "data.npz", out, targets=WEAK)
    assert any("only biases are set; --taps names others" in note for note in made.notes)
    now = one_by_one(str(out), x).argmax(axis=1)
    assert (now == y)[y == TARGET].mean() > 0.9
    named = TapSettings(("flat",))
    made = carry_out(commands.fit, tmp_path / "model.onnx", tmp_path / "data.npz", targets=WEAK, taps=named)
    assert made.choice.neurons == 12


@pytest.mark.parametrize("command", ["join", "retrain", "augment", "score", "dump"])
def test_whatever_needs_neurons_names_fit(files, command, tmp_path, capsys):
    model, data = files
    options = {"augment": [], "dump": []}.get(command, ["-t", str(TARGET)])
    output = {"dump": "tables", "score": "scores.npz"}.get(command, "out.onnx")
    assert main([command, str(model), "-d", str(data), *options, "-o", str(tmp_path / output)]) == 2
    told = capsys.readouterr().err
    assert "no hidden tensor" in told and "`onnxtweak fit`" in told
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("files", ["logits", "one sigmoid"], indirect=True)
def test_a_recipe_may_fit_it(files, tmp_path):
    model, data = files
    recipe = tmp_path / "tweak.toml"
    recipe.write_text(
        f'[model]\npath = "{model}"\n[data]\ndata = "{data}"\n'
        f'[[tweak]]\nname = "a"\nmethod = "fit"\ntarget = "{TARGET}"\n[output]\ndirectory = "build"\n'
    )
    made = commands.run(recipe=str(recipe))
    assert made.shipped
    assert shown_accuracy(tmp_path / "build" / "a.onnx", data) > shown_accuracy(model, data) + 0.05


@pytest.mark.parametrize("files", ["softmax", "one sigmoid"], indirect=True)
def test_compare_has_the_methods_that_need_no_neurons(files, tmp_path):
    model, data = files
    made = carry_out(commands.compare, model, data, targets=WEAK)
    able = {one.method for one in made.standings if not np.isnan(one.overall[0])}
    assert able == {"bias", "all-class bias", "logit adjustment", "REPAIR", "fit"}
    assert all("only biases" in one.note for one in made.standings if one.method not in able)
    assert main(["compare", str(model), "-d", str(data), "-t", str(TARGET), "--dry-run"]) == 0
    out = OutputSettings(str(tmp_path / "out.onnx"))
    quick = {"targets": WEAK, "methods": ("bias",), "output": out}
    with pytest.raises(ModelError, match="'join' does not apply"):
        carry_out(commands.compare, model, data, write="join", **quick)
    assert not (tmp_path / "out.onnx").exists()
    carry_out(commands.compare, model, data, write="bias", **quick)
    assert shown_accuracy(tmp_path / "out.onnx", data) > shown_accuracy(model, data)


def test_views_that_are_averaged_inside_have_no_neuron_per_sample(tmp_path, capsys):
    """(N, 3, 6) is run as 3 N rows: nothing hidden has a row per sample."""
    rng = np.random.default_rng(1)
    net = NetBuilder()
    rows = net.op("Reshape", "x", net.ints(-1, INPUTS))
    hidden = net.op("Relu", net.op("MatMul", rows, net.const(rng.normal(0, 1, (INPUTS, 8)))))
    scores = net.op("Gemm", hidden, net.const(rng.normal(0, 1, (8, 4))), net.const([0.0, -4.0, 0.0, 0.0]))
    net.op("ReduceMean", net.op("Reshape", scores, net.ints(-1, 3, 4)), axes=[1], keepdims=0, name="out")
    proto = net.model({"x": (TensorProto.FLOAT, ("N", 3, INPUTS))}, {"out": (TensorProto.FLOAT, ("N", 4))})
    model, data, out = tmp_path / "model.onnx", tmp_path / "data.npz", tmp_path / "out.onnx"
    model.write_bytes(proto.SerializeToString())
    x = rng.normal(0, 1, (600, 3, INPUTS)).astype(np.float32)
    np.savez(data, x=x, y=(run(proto, {"x": x})[0] + np.array([0, 4.0, 0, 0])).argmax(axis=1))
    asked = [str(model), "-d", str(data), "-t", "1", "-o", str(out)]
    assert main(["join", *asked]) == 2
    assert "`onnxtweak fit` sets the best biases" in capsys.readouterr().err
    assert main(["fit", *asked, "--test", str(data), "-f", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["before"]["overall"] == pytest.approx(shown_accuracy(model, data))
    assert told["after"]["overall"] == pytest.approx(shown_accuracy(out, data))
    assert told["after"]["overall"] > told["before"]["overall"] + 0.05


def test_fit_sets_biases_where_no_hidden_tensor_can_be_read(tmp_path, monkeypatch, capsys):
    """As where the runtime fuses every one of them with what follows."""

    def none(*_, **__):
        raise ModelError("reading these tensors changes the logits", hint="choose others with --taps")

    net = NetBuilder()
    hidden = net.op("Relu", net.gemm("x", INPUTS, 8))
    net.op("Gemm", hidden, net.he(8, 4), net.const([0.0, -6.0, 0.0, 0.0]), name="logits")
    proto = net.model({"x": (TensorProto.FLOAT, ("N", INPUTS))}, {"logits": (TensorProto.FLOAT, ("N", 4))})
    model, data, out = tmp_path / "model.onnx", tmp_path / "data.npz", tmp_path / "out.onnx"
    model.write_bytes(proto.SerializeToString())
    x = np.random.default_rng(1).normal(0, 1, (600, INPUTS)).astype(np.float32)
    y = (run(proto, {"x": x})[0] + np.array([0, 6.0, 0, 0])).argmax(axis=1)
    np.savez(data, x=x, y=y)
    monkeypatch.setattr("onnxtweak.stages.watch_taps.safe_taps", none)
    monkeypatch.setattr("onnxtweak.stages.watch_taps.readable_operators", lambda *_, **__: [])
    asked = [str(model), "-d", str(data), "-t", "1", "-o", str(out)]
    assert main(["join", *asked]) == 2
    assert "`onnxtweak fit` sets the best biases" in capsys.readouterr().err
    assert main(["fit", *asked, "--test", str(data)]) == 0
    assert "only biases are set" in " ".join(capsys.readouterr().out.split())
    before, after = (run(onnx.load(path), {"x": x})[0].argmax(axis=1) == y for path in (model, out))
    assert not before[y == 1].any() and after[y == 1].mean() > 0.9
    assert after.mean() > before.mean()


@pytest.mark.parametrize("percent", [False, True])
def test_scores_that_change_once_anything_is_added_are_refused_at_the_start(percent, tmp_path):
    """The runtime takes a constant factor into the sum by which a patch keeps probabilities what they are."""
    net, rng = NetBuilder(), np.random.default_rng(0)
    net.op("Gemm", "x", net.const(rng.normal(0, 2, (INPUTS, 5))), net.const(np.zeros(5)), name="logits")
    other = net.op("Mul", "logits", net.const(rng.uniform(0.5, 2, 5)))
    mean = net.op("Mean", net.op("Softmax", "logits", axis=1), net.op("Softmax", other, axis=1))
    net.op("Identity", net.op("Mul", mean, net.const(np.array([100.0]))) if percent else mean, name="out")
    ports = {"x": (TensorProto.FLOAT, ("N", INPUTS))}, {"out": (TensorProto.FLOAT, ("N", 5))}
    (tmp_path / "model.onnx").write_bytes(net.model(*ports).SerializeToString())
    x = rng.normal(0, 1, (400, INPUTS)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, y=rng.integers(0, 5, 400))
    data = DataSettings((str(tmp_path / "data.npz"),), anyway=True)
    asked = str(tmp_path / "model.onnx"), data, EngineSettings(threads=1), TapSettings(())
    job, feeds = open_whole(*asked, silent, watch=False), {"x": x[:256]}
    if percent:
        with pytest.raises(ModelError, match="once anything is added") as refused:
            require_neutral(job.subject, feeds, job.engine.settings)
        assert "--logits" in refused.value.hint
    else:
        require_neutral(job.subject, feeds, job.engine.settings)
